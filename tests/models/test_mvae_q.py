"""MVAE-Q: a product of posteriors divided by N−1 priors, proper for every subset and any encoder output."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.modality.base import Modality
from mvae.models.mvae_q import MVAEQ
from mvae.models.objective import Objective
from tests.models.common import (
    KINDS,
    Normal,
    assert_posterior,
    assert_same,
    bound,
    complete,
    gradients,
    incomplete,
    noise_for,
    observed,
    parts,
)
from tests.oracle import cell, eq5


def model(kinds: list[str] = KINDS, seed: int = 0, k: int = 0) -> MVAEQ:
    return MVAEQ(parts(kinds, seed=seed), 2, random_subsets=k)


def unimodal(built: MVAEQ, table: Table, name: str, row: int) -> Normal:
    """q(z | x_i) with V_i = N/(N−1)·sigmoid(raw) (App. C)."""
    n = len(built.names)
    mean, raw = built.modalities[name].encoder(cell(table, name, row))[0].chunk(2)
    return mean, n / (n - 1) / (1 + torch.exp(-raw))


def posterior(built: MVAEQ, table: Table, given: list[str], row: int) -> Normal:
    """Π q(z | x_i) / p(z)^(n−1): T = 1 + Σ (1/V_i − 1), Tμ = Σ μ_i/V_i."""
    precision, weighted = torch.ones(2).double(), torch.zeros(2).double()
    for name in given:
        mean, variance = unimodal(built, table, name, row)
        precision, weighted = precision + 1 / variance - 1, weighted + mean / variance
    return weighted / precision, 1 / precision


def naive(built: MVAEQ, table: Table, terms, noise: Tensor, beta: float) -> Tensor:
    """Minus Eq. 5 with these posteriors."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        drawn = {}
        for t, name in enumerate(terms.names):
            if name.startswith("random "):
                mask = terms.given[t, row if terms.given.shape[1] > 1 else 0].tolist()
                drawn[name] = frozenset(n for n, taken in zip(built.names, mask, strict=True) if taken)
        for name, subset in eq5(observed(table, row, built.names), drawn).items():
            q = posterior(built, table, sorted(subset), row)
            total = total + bound(built, table, row, q, sorted(subset), noise[terms.names.index(name), row], beta)
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(4))
def test_objective_is_eq5_with_quotient_posterior(make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed, k=seed), make(5, kinds), 0.3 * seed
        terms = built.terms(table.presence(built.names))
        noise = noise_for(built, terms, 5)
        fast = built(table, terms, beta=beta, noise=noise).loss
        assert_same(built, fast, naive(built, table, terms, noise, beta))


@pytest.mark.parametrize("given", [list(s) for n in range(4) for s in itertools.combinations(KINDS, n)])
def test_posterior_matches_quotient_formula(given: list[str]) -> None:
    built, table = model(), complete(4)
    assert_posterior(built.posterior(table, given=given), [posterior(built, table, given, row) for row in range(4)])


# -- Extreme encoder outputs -------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """An encoder with the same output for every row."""

    def __init__(self, mean: float, raw: float):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([mean, raw]))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), -1) + 0 * x


def constant_model(raws: list[float], mean: float = 1.0) -> MVAEQ:
    made = {
        f"x{i}": Modality(Constant(mean, raw), nn.Linear(1, 2), likelihoods.Gaussian()) for i, raw in enumerate(raws)
    }
    return MVAEQ(made, 1)


def loss_and_gradients(built: MVAEQ) -> tuple[Objective, dict[str, Tensor]]:
    result = built(Table({name: torch.ones(2, 2) for name in built.names}))
    return result, gradients(built, result.loss)


@pytest.mark.parametrize("raws", list(itertools.product([-1e4, 0.0, 1e4], repeat=3)))
def test_extreme_outputs_give_proper_posterior_and_finite_gradients(raws: list[float]) -> None:
    built = constant_model(list(raws))
    data = {name: torch.ones(1, 2) for name in built.names}
    for n in range(4):
        for given in itertools.combinations(built.names, n):
            q = built.posterior(data, given=list(given))
            assert (q.variance > 0).all()
            assert torch.stack([q.mean, q.stddev, q.kl_to_prior()[:, None]]).isfinite().all()
    result, found = loss_and_gradients(built)
    assert result.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("modalities", [2, 3, 5, 8, 19, 50])
def test_widest_experts_give_proper_posterior(modalities: int) -> None:
    """T is then (N−1)(1/sigmoid(15) − 1), which float32 must not round away."""
    built = constant_model([1e4] * modalities)
    q = built.posterior({name: torch.ones(1, 2) for name in built.names})
    assert q.variance.dtype == torch.float32
    torch.testing.assert_close(1 / q.variance, torch.full((1, 1), (modalities - 1) * 3.06e-7), rtol=0.5, atol=0)
    assert all(gradient.isfinite().all() for gradient in loss_and_gradients(built)[1].values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_variance_within_bound(dtype: torch.dtype) -> None:
    """The sigmoid of 15 is 1 in 16 bits, and the precision of all modalities together would be 0."""
    built = constant_model([1e4, 1e4, 1e4]).to(dtype)
    q = built.posterior({name: torch.ones(1, 2) for name in built.names})
    assert q.variance.dtype == torch.float32
    assert (q.variance > 0).all()
    assert q.kl_to_prior().isfinite().all()


# -- The rest ----------------------------------------------------------------------------------------------------------


def test_single_modality_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs at least two modalities"):
        model(["image"])
