"""Row and class weights multiply the naive loss of each row and modality; no log p changes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.evaluation.validation import validate
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.mvae import MVAE
from mvae.models.mvtcae import MVTCAE
from mvae.training.fit import fit
from mvae.training.step import row_weights
from tests.every_kind import gradients, modality, noise_for
from tests.models.common import KINDS, assert_same, assert_same_gradients, complete, incomplete, parts
from tests.oracle import any_plan, naive_loss

ROWS = 9
CLASS_WEIGHTS = [0.5, 1.0, 7.0]


def weighted_parts(class_weights: list[float] | None = CLASS_WEIGHTS) -> dict[str, Modality]:
    own = parts()
    label = modality("label", 2)
    made = Modality(label.encoder, label.decoder, "categorical", weight=3.0, class_weights=class_weights).double()
    return own | {"label": made}


def random_row_weights(table: Table) -> torch.Tensor:
    weights = torch.rand(len(table)).double() * 2
    weights[1] = 0.0
    return weights


@pytest.mark.parametrize("make", [complete, incomplete])
def test_weighted_objective_matches_naive(make: Callable) -> None:
    model, table = MVAE(weighted_parts(), 2, random_subsets=1, cross_from=["image"]), make(ROWS, KINDS)
    if not table.complete:
        torch.as_tensor(table["label"])[~table.has("label")] = -7
    terms = model.terms(table.presence(model.names))
    noise, weights = noise_for(model, terms, ROWS), random_row_weights(table)
    naive = torch.zeros(()).double()
    for row, planned in enumerate(any_plan(model, ROWS, terms)):
        if table.has("label")[row]:
            times = CLASS_WEIGHTS[int(table["label"][row])]
            planned = [replace(term, lam={**term.lam, "label": term.lam["label"] * times}) for term in planned]
        only = [planned if r == row else [] for r in range(ROWS)]
        naive = naive + weights[row] * naive_loss(model, table, only, noise, beta=0.6)
    assert_same(model, model(table, terms.weighing(weights), noise=noise, beta=0.6).loss, naive)


@pytest.mark.parametrize("of", [MVAE, BiVCCA, JMVAE, MMVAE, MVTCAE])
def test_row_of_weight_two_counts_as_two_rows(of: Callable[..., MultimodalVAE]) -> None:
    model, table = of(weighted_parts(None), 2).double(), complete(4)
    twice = table.take([0, 1, 1, 2, 3])
    terms, noise = model.terms(table.presence(model.names)), noise_for(model, model.terms(table.presence(KINDS)), 4)
    found = model(table, terms.weighing(torch.tensor([1.0, 2.0, 1.0, 1.0]).double()), noise=noise).loss
    expected = model(twice, terms, noise=noise[:, [0, 1, 1, 2, 3]]).loss * 5 / 4
    torch.testing.assert_close(found, expected)
    assert_same_gradients(gradients(model, found), gradients(model, expected))


def test_class_weights_change_objective_but_not_log_p() -> None:
    plain, weighted = (MVAE(weighted_parts(of), 2).float() for of in (None, CLASS_WEIGHTS))
    weighted.load_state_dict(plain.state_dict())
    table = complete(60)
    one, other = (validate(model, table) for model in (plain, weighted))
    assert one["objective"] != pytest.approx(other["objective"])
    assert one["objective/unweighted"] == pytest.approx(other["objective/unweighted"])
    assert one["reconstruction/label"] == pytest.approx(other["reconstruction/label"])
    scores = [log_likelihood(model, table, of=["label"], samples=20, seed=1).values for model in (plain, weighted)]
    assert torch.equal(*scores)


def test_row_weights_average_one_and_invalid_ones_are_refused() -> None:
    model = MVAE(parts(), 2)
    columns = dict(complete(4).columns)

    def read(values: list[float], **present: torch.Tensor) -> torch.Tensor:
        return row_weights(Table(columns | {"w": torch.tensor(values)}, present), "w", model)

    torch.testing.assert_close(read([1.0, 0.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 2.0, 1.0]).double())
    torch.testing.assert_close(read([10.0, 0.0, 20.0, 10.0]), torch.tensor([1.0, 0.0, 2.0, 1.0]).double())
    for values in ([-1.0, 1.0, 1.0, 1.0], [float("nan"), 1.0, 1.0, 1.0], [0.0] * 4):
        with pytest.raises(DataError, match="finite and not negative"):
            read(values)
    with pytest.raises(DataError, match="none missing"):
        read([1.0] * 4, w=torch.tensor([True, True, False, True]))
    for name in ("label", "no such"):
        with pytest.raises(DataError, match="a column of the training table that is not a modality"):
            row_weights(complete(4), name, model)


def test_invalid_class_weights_are_refused() -> None:
    label, image = modality("label", 2), modality("image", 2)
    with pytest.raises(SettingsError, match="need the categorical likelihood, not Bernoulli"):
        Modality(image.encoder, image.decoder, "bernoulli", class_weights=[1, 2])
    for weights in ([1.0], [1.0, -1.0, 0.0], [1.0, float("inf"), 0.0]):
        with pytest.raises(SettingsError, match="a finite number ≥ 0 for each class"):
            Modality(label.encoder, label.decoder, "categorical", class_weights=weights)
    short = Modality(label.encoder, label.decoder, "categorical", class_weights=[1, 2]).double()
    with pytest.raises(DataError, match="2 class weights, for one class per row; the decoder gives 3 classes"):
        MVAE({"label": short}, 2).check(complete(4))


def test_fit_accepts_column_of_row_weights() -> None:
    model, columns = MVAE(parts(), 2), dict(complete(4).columns)
    history = fit(model, columns | {"w": torch.arange(4.0)}, epochs=1, row_weights="w", callbacks=[])
    assert history.epochs[0]["train/loss"] > 0
