"""The CVAE: one modality given a condition, which is an input of encoder and decoder."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, distributions, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.modality.base import Modality
from mvae.models.cvae import CVAE
from mvae.networks.mlp import ConditionalLabelEncoder, ConditionalMLP
from mvae.training.fit import fit
from tests.models.common import (
    assert_missing_values_ignored,
    assert_naive,
    assert_trains,
    complete,
    divergence,
    incomplete,
    observed,
)

CLASSES = 3


def model(seed: int = 0, weight: float = 1.7) -> CVAE:
    """p(image | label), in float64."""
    torch.manual_seed(seed)
    encoder, decoder = ConditionalMLP(6, CLASSES, 4, [5]), ConditionalMLP(2, CLASSES, 6, [5])
    return CVAE(
        {"image": Modality(encoder, decoder, likelihoods.Bernoulli(levels=255), weight).double()}, 2, classes=CLASSES
    )


def labelled(rows: int, kinds: Sequence[str] = ("image", "label")) -> Table:
    """A table in which every row has a label and some rows have no image."""
    table = incomplete(rows, kinds)
    return Table(table.columns, {"image": table.present[:, 0]})


def one_hot(table: Table, row: int) -> Tensor:
    return torch.eye(CLASSES).double()[int(table.columns["label"][row])][None]


def naive(built: CVAE, table: Table, noise: Tensor, beta: float) -> Tensor:
    """E_{q(z | x1, x2)}[λ log p(x1 | z, x2)] − β KL[q(z | x1, x2), p(z)], row by row."""
    image, total = built.modalities["image"], torch.zeros(()).double()
    for row in range(len(table)):
        if not observed(table, row, ["image"]):
            continue
        x, condition = torch.as_tensor(table.columns["image"])[row : row + 1].double() / 255, one_hot(table, row)
        mean, log_var = image.encoder(x, condition)[0].chunk(2)
        z = mean + (log_var / 2).exp() * noise[0, row]
        p = distributions.Bernoulli(logits=image.decoder(z[None], condition), validate_args=False)
        log_p = p.log_prob(x.reshape(1, 6)).sum()
        total = total + image.weight * log_p - beta * divergence((mean, log_var.exp()))
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, labelled])
@pytest.mark.parametrize("seed", range(3))
def test_objective_is_conditional_elbo(make, seed: int) -> None:
    built, table, beta = model(seed), make(6), 0.4 * seed
    assert_naive(built, table, naive, beta)


class Spy(nn.Module):
    """Records a network's inputs."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        self.seen.append((x, condition))
        return self.network(x, condition)


@pytest.mark.parametrize("make", [complete, labelled])
def test_networks_see_observed_rows_with_their_conditions(make) -> None:
    built, table = model(), make(8)
    image = built.modalities["image"]
    encoder, decoder = Spy(image.encoder), Spy(image.decoder)
    image.encoder, image.decoder = encoder, decoder
    built.batch_objective(table)  # without checking the values first
    rows = [row for row in range(8) if observed(table, row, ["image"])]
    ((x, condition),), ((_, decoded),) = encoder.seen, decoder.seen
    assert torch.equal(x, torch.as_tensor(table.columns["image"])[rows].double() / 255)
    expected = torch.cat([one_hot(table, row) for row in rows])
    assert torch.equal(condition, expected)
    assert torch.equal(decoded, expected)


def test_generated_rows_use_their_own_condition() -> None:
    """The decoder returns the condition."""

    class Repeats(nn.Module):
        def forward(self, z: Tensor, condition: Tensor) -> Tensor:
            return condition + 0 * z[:, :1]

    part = Modality(ConditionalMLP(CLASSES, CLASSES, 4, []), Repeats(), likelihoods.Gaussian(1e-3))
    built = CVAE({"x": part}, 2, classes=CLASSES)
    made = built.generate({"label": [2, 0, 1]}, n=4)["x"]
    torch.testing.assert_close(made, torch.eye(3)[[2, 0, 1]].expand(4, -1, -1), rtol=0, atol=0.01)


# -- Missing and invalid conditions ---------------------------------------------------------------------------------


def test_missing_condition_is_refused_by_row() -> None:
    built, table = model(), complete(5, ["image", "label"])
    gap = Table(table.columns, {"label": torch.arange(5) != 3})
    message = "a CVAE needs its condition 'label' in every row; row 3 lacks it"
    for query in (built, built.posterior, built.check):
        with pytest.raises(DataError, match=message):
            query(gap)
    with pytest.raises(DataError, match=message):
        fit(built, gap, epochs=1, batch_size=2, callbacks=[])
    with pytest.raises(DataError, match="the table has no column 'label'"):
        built.posterior({"image": 255 * torch.rand(2, 6)})


def test_invalid_condition_is_refused_by_row() -> None:
    built, table = model(), complete(5, ["image", "label"])
    labels = torch.tensor([0, 1, 2, CLASSES, 0])
    with pytest.raises(DataError, match="condition 'label', row 3: whole numbers from 0 to 2 are needed"):
        fit(built, Table({"image": table.columns["image"], "label": labels}), epochs=1, callbacks=[])
    with pytest.raises(DataError, match="condition 'label', row 0"):
        built.generate({"label": [-1]})
    part = Modality(ConditionalMLP(6, 2, 4, [5]), ConditionalMLP(2, 2, 6, [5]), likelihoods.Bernoulli())
    numbers = CVAE({"image": part}, 2, condition="dose", classes=None, features=2)
    dose = torch.zeros(5, 2)
    numbers.check(Table({"image": torch.rand(5, 6), "dose": dose}))
    dose[4, 1] = math.nan
    with pytest.raises(DataError, match="condition 'dose', row 4: finite numbers are needed"):
        numbers.check(Table({"image": torch.rand(5, 6), "dose": dose}), chunk=2)
    with pytest.raises(DataError, match=r"condition 'dose': rows of 3 values, not 2"):
        numbers.check(Table({"image": torch.rand(5, 6), "dose": torch.zeros(5, 3)}))


def test_numeric_condition_is_passed_to_encoder() -> None:
    part = Modality(ConditionalMLP(6, 2, 4, [5]), ConditionalMLP(2, 2, 6, [5]), likelihoods.Bernoulli())
    built = CVAE({"image": part}, 2, condition="dose", classes=None, features=2)
    x, dose = torch.rand(5, 6), torch.randn(5, 2)
    q = built.posterior({"image": x, "dose": dose})
    mean, log_var = part.encoder(x, dose).chunk(2, -1)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, log_var.exp())


# -- Queries ---------------------------------------------------------------------------------------------------------


def conditional_linear(inputs: Tensor, condition: Tensor, bias: Tensor) -> ConditionalMLP:
    """x, c ↦ inputs·x + condition·c + bias."""
    network = ConditionalMLP(inputs.shape[1], condition.shape[1], len(bias), []).double()
    layer = network.layers[-1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([inputs, condition], 1))
        layer.bias.copy_(bias)
    return network


def test_conditional_log_p_matches_closed_form() -> None:
    """x = A z + B c + b + noise: p(x | c) = N(B c + b, AAᵀ + s² I). The encoder is inexact on purpose."""
    torch.manual_seed(0)
    a = torch.linalg.qr(torch.randn(4, 2).double()).Q * torch.tensor([0.7, 1.3]).double()
    b, offset = torch.randn(4, 3).double(), torch.randn(4).double()
    likelihood = likelihoods.Gaussian(0.6).double()
    s2 = likelihood.log_scale.exp() ** 2
    variance = 1 / (1 + (a * a).sum(0) / s2)  # of p(z | x, c), whose mean is V Aᵀ (x − B c − b) / s²
    to_mean = variance[:, None] * a.T / s2
    encoder = conditional_linear(
        torch.cat([to_mean, torch.zeros(2, 4).double()]),
        torch.cat([-to_mean @ b, torch.zeros(2, 3).double()]),
        torch.cat([0.2 - to_mean @ offset, variance.log() + 0.3]),
    )
    built = CVAE({"x": Modality(encoder, conditional_linear(a, b, offset), likelihood)}, 2, "c", None, 3)
    c = torch.randn(30, 3).double()
    mean = c @ b.T + offset
    p = distributions.MultivariateNormal(mean, a @ a.T + s2 * torch.eye(4))
    x = p.sample()
    found = log_likelihood(built, Table({"x": x, "c": c}), of=["x"], given=["c"], samples=1000)
    error = (1 / found.effective_samples - 1 / 1000).sqrt()
    assert (error > 1e-3).all(), "with the exact encoder this tests nothing"
    assert ((found.values - p.log_prob(x)).abs() < 4 * error).all()


def test_unanswerable_queries_are_refused() -> None:
    built, table = model(), complete(3, ["image", "label"])
    assert built.plan_query(["image"], ["label"]) == (["image"], ())
    for of, given in ((["image"], []), (["image", "label"], []), (["label"], ["image"])):
        with pytest.raises(QueryError, match=r"a CVAE answers log p\(image \| label\) only"):
            log_likelihood(built, table, of=of, given=given, samples=10)
    with pytest.raises(QueryError, match="generates given its condition 'label' only"):
        built.generate(n=2)
    with pytest.raises(QueryError, match="label: a condition is given, and not generated"):
        built.generate(table, of=["label"])
    with pytest.raises(QueryError, match="no modality 'sound' in this model"):
        built.posterior(table, given=["sound"])


def test_posterior_given_only_condition_is_prior() -> None:
    q = model().posterior({"label": [0, 1]})
    assert torch.equal(q.mean, torch.zeros(2, 2).double())
    assert torch.equal(q.variance, torch.ones(2, 2).double())
    assert model().generate({"label": [0, 1]}, n=3)["image"].shape == (3, 2, 6)


def test_missing_values_are_ignored() -> None:
    assert_missing_values_ignored(model(), ["image", "label"], labelled)


def test_model_trains_and_validates() -> None:
    measured = assert_trains(model, ["image", "label"], [complete, labelled])
    assert {"objective", "active units", "active units/image"} <= measured.keys()
    assert "coupling" not in measured


def test_more_than_one_modality_is_refused() -> None:
    part = model().modalities["image"]
    with pytest.raises(SettingsError, match="a CVAE models one modality given another, not 2"):
        CVAE({"a": part, "b": part}, 2)


def test_numeric_condition_is_standardised() -> None:
    torch.manual_seed(0)
    dose = torch.randn(300).double()
    y = (dose > 0).long()
    found = []
    for units in (1.0, 1e6):
        torch.manual_seed(1)
        encoder, decoder = ConditionalLabelEncoder(2, 1, 4, [8]), ConditionalMLP(2, 1, 2, [8])
        built = CVAE({"y": Modality(encoder, decoder, "categorical")}, 2, "dose", classes=None, features=1)
        table = Table({"y": y, "dose": units * (dose + 30)})
        fit(built, table, epochs=20, learning_rate=1e-2, callbacks=[])
        found.append(log_likelihood(built, table, of=["y"], given=["dose"], samples=20, seed=1).values)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)
    assert found[0].mean() > -0.3  # chance is log ½ = −0.69
