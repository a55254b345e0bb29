"""MVTCAE: a joint ELBO regularised towards each expert."""

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.models.mvtcae import MVTCAE
from tests.models.common import (
    KINDS,
    assert_naive,
    assert_posterior,
    complete,
    divergence,
    exact_elbo,
    expected_objective,
    expert,
    incomplete,
    log_joint,
    observed,
    parts,
    product_of,
)
from tests.oracle import LinearGaussian


def model(kinds: list[str] = KINDS, seed: int = 0, alpha: float = 0.9) -> MVTCAE:
    return MVTCAE(parts(kinds, seed=seed), 2, alpha)


def naive(built: MVTCAE, table: Table, noise: Tensor, beta: float) -> Tensor:
    """(M−α)/M · E_q[Σ_i log p(x_i | z)] − β {(1−α) KL[q, p(z)] + α/M Σ_i KL[q, q(z | x_i)]}, row by row."""
    count, alpha = len(built.names), built.alpha
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        experts = [expert(built, table, name, row) for name in own]
        q = product_of(experts)
        scored = log_joint(built, table, row, own, q[0] + q[1].sqrt() * noise[0, row])
        towards = torch.stack([divergence(q, one) for one in experts]).sum()
        total = total + (count - alpha) / count * scored
        total = total - beta * ((1 - alpha) * divergence(q) + alpha / count * towards)
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize(("seed", "alpha"), list(enumerate([0.0, 0.5, 0.9, 1.0])))
def test_objective_matches_paper(make, seed: int, alpha: float) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed, alpha), make(5, kinds), 0.4 * seed
        assert_naive(built, table, naive, beta)


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_linear_gaussian_objective_matches_closed_form(alpha: float) -> None:
    """E_q[log p(X | z)] = log p(X) − KL[q, p(z | X)] + KL[q, p(z)]."""
    exact = LinearGaussian(2, [3, 4, 2], seed=0)
    built, table = MVTCAE(exact.model.modalities, 2, alpha), exact.data(3, seed=1)
    for row in range(3):
        experts = [expert(built, table, name, row) for name in exact.names]
        q = product_of(experts)
        scored = exact_elbo(exact, table, row, q) + divergence(q)
        towards = torch.stack([divergence(q, one) for one in experts]).sum()
        expected = (3 - alpha) / 3 * scored - (1 - alpha) * divergence(q) - alpha / 3 * towards
        torch.testing.assert_close(expected_objective(built, table, row), expected, rtol=1e-10, atol=1e-10)


def test_posterior_is_product_of_experts_without_prior() -> None:
    built, table = model(), incomplete(6)
    experts = [[expert(built, table, name, row) for name in observed(table, row, KINDS)] for row in range(6)]
    assert_posterior(built.posterior(table), [product_of(own) for own in experts])


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(SettingsError, match=r"alpha must be in \[0, 1\]"):
        model(alpha=alpha)
