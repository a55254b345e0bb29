"""The deterministic baselines: plain losses of plain networks, independent of the noise."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mvae.data.table import Table
from mvae.errors import QueryError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.evaluation.validation import validate
from mvae.models.base import MultimodalVAE
from mvae.paper.models.deterministic import Autoencoder, SupervisedNetwork
from mvae.training.fit import fit
from tests.models.common import (
    KINDS,
    assert_empty_row_adds_nothing,
    assert_missing_values_ignored,
    assert_same,
    assert_trains,
    complete,
    gradients,
    incomplete,
    noise_for,
    observed,
    parts,
)
from tests.oracle import cell, naive_log_prob

TWO = KINDS[:2]


def supervised(kinds: list[str] = TWO, seed: int = 0) -> SupervisedNetwork:
    return SupervisedNetwork(parts(kinds, seed=seed), 2)


def autoencoder(kind: str = "image") -> Autoencoder:
    return Autoencoder(parts([kind]), 2)


def code(model: MultimodalVAE, table: Table, name: str, row: int) -> Tensor:
    """The first half of the encoder's output."""
    return model.modalities[name].encoder(cell(table, name, row))[0].chunk(2)[0]


def test_supervised_loss_is_cross_entropy() -> None:
    model, table = supervised(), complete(5)
    image, label = model.modalities["image"], model.modalities["label"]
    x = torch.as_tensor(table.columns["image"]).double() / 255
    hidden = image.encoder(x)[:, :2]
    expected = F.cross_entropy(label.decoder(hidden), torch.as_tensor(table.columns["label"]))
    assert_same(model, model(table, beta=0.3).loss, expected)


@pytest.mark.parametrize("make", [complete, incomplete])
def test_supervised_loss_uses_complete_rows_only(make) -> None:
    model, table = supervised(KINDS), make(6)
    total = torch.zeros(()).double()
    for row in range(6):
        if observed(table, row, KINDS) == KINDS:
            z = code(model, table, "image", row)
            for name in ("label", "signal"):
                total = total - naive_log_prob(model.modalities[name], cell(table, name, row), z)
    assert_same(model, model(table).loss, total / 6)
    assert model.needs_complete


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("kind", ["image", "signal"])
def test_autoencoder_loss_is_reconstruction(kind: str, make) -> None:
    model, table = autoencoder(kind), make(6)
    modality, total = model.modalities[kind], torch.zeros(()).double()
    for row in range(6):
        if observed(table, row, [kind]):
            value = naive_log_prob(modality, cell(table, kind, row), code(model, table, kind, row))
            total = total - modality.weight * value
    assert_same(model, model(table, beta=0.7).loss, total / 6)


@pytest.mark.parametrize("model", [supervised(), autoencoder()])
def test_noise_and_log_variance_have_no_effect(model: MultimodalVAE) -> None:
    table = complete(5, TWO)
    terms = model.terms(table.presence(model.names))
    one, other = (model(table, terms, noise=noise_for(model, terms, 5)).loss for _ in range(2))
    assert torch.equal(one, other)
    last = gradients(model, one)["_modalities.image.encoder.3.weight"]
    assert (last[2:] == 0).all()
    assert (last[:2] != 0).any()


def test_missing_values_are_ignored() -> None:
    assert_missing_values_ignored(supervised(KINDS))
    assert_empty_row_adds_nothing(supervised(KINDS))
    assert_missing_values_ignored(autoencoder())
    assert_empty_row_adds_nothing(autoencoder(), ["image"])


def test_models_train_and_validate() -> None:
    assert "accuracy image->label" in assert_trains(lambda: supervised(TWO), TWO)
    assert "coupling" not in assert_trains(autoencoder)


def test_supervised_keeps_last_weights_and_autoencoder_best() -> None:
    table, validation = complete(20), complete(6)
    for model, selected in ((supervised(), False), (autoencoder(), True)):
        history = fit(model, table, validation=validation, epochs=2, callbacks=[])
        assert (history.best_epoch is not None) == selected
        found = validate(model, validation)["objective"]
        epoch = history.best_epoch or 2
        assert found == pytest.approx(history.epochs[epoch - 1]["validation/objective"], rel=1e-9)


def test_validation_objective_is_plain_loss() -> None:
    model, table = supervised(), complete(8, TWO)
    assert validate(model, table)["objective"] == pytest.approx(model(table).loss.item(), rel=1e-9)


def test_likelihood_is_refused() -> None:
    with pytest.raises(QueryError, match=r"SupervisedNetwork is not a probabilistic model: it has no log p\(image\)"):
        log_likelihood(supervised(), complete(3, TWO), of=["image"])
    with pytest.raises(QueryError, match="Autoencoder is not a probabilistic model"):
        log_likelihood(autoencoder(), complete(3, TWO), of=["image"])


def test_wrong_number_of_modalities_is_refused() -> None:
    with pytest.raises(SettingsError, match="an autoencoder has one modality, not 2"):
        Autoencoder(parts(TWO), 2)
    with pytest.raises(SettingsError, match="predicts a second modality from the first"):
        SupervisedNetwork(parts(["image"]), 2)
