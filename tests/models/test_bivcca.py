"""BiVCCA: each encoder explains all modalities, and there is no posterior given two modalities together."""

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.bivcca import BiVCCA
from tests.models.common import (
    KINDS,
    assert_naive,
    assert_posterior,
    bound,
    complete,
    exact_elbo,
    expected_objective,
    expert,
    incomplete,
    observed,
    parts,
)
from tests.oracle import LinearGaussian


def model(kinds: list[str] = KINDS, seed: int = 0) -> BiVCCA:
    return BiVCCA(parts(kinds, seed=seed), 2)


def naive(built: BiVCCA, table: Table, noise: Tensor, beta: float) -> Tensor:
    """Minus the mean over rows, and over a row's modalities i, of E_{q(z | x_i)}[Σ_j log p(x_j | z)] − β KL."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        for name in own:
            q, eps = expert(built, table, name, row), noise[built.names.index(name), row]
            total = total + bound(built, table, row, q, own, eps, beta) / len(own)
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(3))
def test_objective_is_mean_elbo_over_encoders(make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed), make(6, kinds), 0.3 * seed
        assert_naive(built, table, naive, beta)


def test_term_weights_are_one_over_observed_count() -> None:
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    terms = model().terms(present)
    third, half = [1 / 3] * 3, [0.5, 0.0, 0.5]
    torch.testing.assert_close(terms.weight.T, torch.tensor([third, half, [0.0, 1.0, 0.0], [0.0] * 3]).double())


def test_linear_gaussian_bound_gap_is_kl_to_posterior() -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    built, table = BiVCCA(exact.model.modalities, 2), exact.data(4, seed=1)
    for row in range(4):
        bounds = [exact_elbo(exact, table, row, expert(built, table, name, row)) for name in exact.names]
        torch.testing.assert_close(
            expected_objective(built, table, row), torch.stack(bounds).mean(), rtol=1e-10, atol=1e-10
        )


def test_posterior_given_one_modality_is_encoder_output() -> None:
    built, table = model(), complete(3)
    for name in KINDS:
        assert_posterior(built.posterior(table, given=[name]), [expert(built, table, name, row) for row in range(3)])


def test_posterior_given_two_modalities_is_refused() -> None:
    built, table = model(), complete(3)
    message = "no posterior given several modalities at once: give one of them"
    with pytest.raises(QueryError, match=message):
        built.posterior(table)
    with pytest.raises(QueryError, match=message):
        built.posterior(table, given=["image", "label"])
    with pytest.raises(QueryError, match=message):
        built.generate(table, of=["image"])
    with pytest.raises(QueryError, match=message):
        log_likelihood(built, table, of=["image", "label"], samples=10)


def test_likelihoods_use_single_encoder_proposal() -> None:
    exact = LinearGaussian(2, [3, 4], seed=2, perturb=0.3)
    built, table = BiVCCA(exact.model.modalities, 2), exact.data(10, seed=3)
    joint = log_likelihood(built, table, of=["x1", "x2"], proposal=["x1"], samples=4000)
    error = (1 / joint.effective_samples - 1 / 4000).sqrt()
    assert ((joint.values - exact.log_prob(table, ["x1", "x2"])).abs() < 4 * error + 1e-9).all()
    conditional = log_likelihood(built, table, of=["x1"], given=["x2"], proposal=["x1"], samples=4000)
    expected = exact.log_conditional(table, ["x1"], ["x2"])
    assert (conditional.values - expected).abs().max() < 0.5
    assert built.plan_query(["x1"], ["x2"]) == (("x1", "x2"), ["x2"])


def test_one_modality_generates_all() -> None:
    built = model().float()
    made = built.generate({"label": [0, 2]}, n=5)
    assert {name: tuple(x.shape) for name, x in made.items()} == {
        "image": (5, 2, 6),
        "label": (5, 2),
        "signal": (5, 2, 4),
    }
