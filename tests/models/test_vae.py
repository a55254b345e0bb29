"""The VAE: one modality, whose encoder gives the posterior."""

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import QueryError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.vae import VAE
from tests.models.common import (
    assert_empty_row_adds_nothing,
    assert_missing_values_ignored,
    assert_naive,
    assert_posterior,
    assert_trains,
    bound,
    complete,
    exact_elbo,
    expected_objective,
    expert,
    incomplete,
    observed,
    parts,
    standard,
)
from tests.oracle import LinearGaussian


def model(kind: str = "signal", seed: int = 0) -> VAE:
    return VAE(parts([kind], seed=seed), 2)


def naive(vae: VAE, table: Table, noise: torch.Tensor, beta: float) -> torch.Tensor:
    (name,) = vae.names
    total = torch.zeros(()).double()
    for row in range(len(table)):
        if observed(table, row, vae.names):
            total = total + bound(vae, table, row, expert(vae, table, name, row), [name], noise[0, row], beta)
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("kind", ["image", "label", "signal"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_objective_is_elbo(kind: str, make, beta: float) -> None:
    vae, table = model(kind), make(5)  # the table's other columns are ignored
    assert_naive(vae, table, naive, beta)


def test_linear_gaussian_bound_gap_is_kl_to_posterior() -> None:
    exact = LinearGaussian(2, [3], seed=0)
    vae, table = VAE(exact.model.modalities, 2), exact.data(4, seed=1)
    for row in range(4):
        expected = exact_elbo(exact, table, row, expert(vae, table, "x1", row))
        torch.testing.assert_close(expected_objective(vae, table, row), expected, rtol=1e-10, atol=1e-10)


def test_posterior_is_encoder_output_or_prior() -> None:
    vae, table = model(), incomplete(7)
    expected = [
        expert(vae, table, "signal", row) if observed(table, row, ["signal"]) else standard() for row in range(7)
    ]
    assert_posterior(vae.posterior(table), expected)


def test_log_likelihood_matches_closed_form() -> None:
    exact = LinearGaussian(2, [3, 4], seed=2, perturb=0.3)
    vae = VAE({"x1": exact.model.modalities["x1"]}, 2)
    table = exact.data(20, seed=3)
    found = log_likelihood(vae, table, of=["x1"], samples=2000)
    error = (1 / found.effective_samples - 1 / 2000).sqrt()
    assert ((found.values - exact.log_prob(table, ["x1"])).abs() < 4 * error + 1e-9).all()


def test_unanswerable_queries_are_refused() -> None:
    vae, table = model("image"), complete(3)
    assert vae.plan_query(["image"], []) == (["image"], ())
    with pytest.raises(QueryError, match=r"a VAE has no joint distribution: it answers log p\(image\) only"):
        vae.plan_query(["image", "label"], [])
    with pytest.raises(QueryError, match="no modality 'label' in this model; it has image"):
        log_likelihood(vae, table, of=["image", "label"])
    with pytest.raises(QueryError, match="no modality 'label'"):
        log_likelihood(vae, table, of=["image"], given=["label"])
    with pytest.raises(QueryError, match="no modality 'label'"):
        vae.generate({"label": [1]}, of=["image"])


def test_generate_samples_prior_and_posterior() -> None:
    vae, table = model("image").float(), complete(3)
    assert vae.generate(n=4)["image"].shape == (4, 1, 6)
    assert vae.generate(table, n=4)["image"].shape == (4, 3, 6)


def test_missing_values_are_ignored() -> None:
    assert_missing_values_ignored(model())
    assert_empty_row_adds_nothing(model(), ["signal"])


def test_model_trains_and_validates() -> None:
    measured = assert_trains(lambda: model("image"))
    assert "active units" in measured
    assert "coupling" not in measured


def test_more_than_one_modality_is_refused() -> None:
    with pytest.raises(SettingsError, match="a VAE has one modality, not 2"):
        VAE(parts(["image", "label"]), 2)
