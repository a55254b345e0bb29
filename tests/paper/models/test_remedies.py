"""Ablations of how modalities are coupled, each compared with a naive loop over rows."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.models.mvae import MVAE
from mvae.paper.models.remedies import BoundedMVAE, PenalisedMVAE, RampedMVAE
from tests.models.common import (
    KINDS,
    Normal,
    assert_same,
    complete,
    divergence,
    expert,
    incomplete,
    noise_for,
    normal,
    observed,
    parts,
    standard,
)
from tests.oracle import cell, naive_log_prob

MODELS = [RampedMVAE, BoundedMVAE, PenalisedMVAE]


def own_expert(built: MVAE, table: Table, name: str, row: int) -> Normal:
    """The expert, with its log-variance bounded to ±2 if the model does so."""
    mean, variance = expert(built, table, name, row)
    return (mean, (2 * torch.tanh(variance.log() / 2)).exp()) if isinstance(built, BoundedMVAE) else (mean, variance)


def posterior(built: MVAE, table: Table, row: int, given: Sequence[str]) -> Normal:
    """The product of the experts and the prior."""
    experts = [standard(), *(own_expert(built, table, name, row) for name in given)]
    precision = torch.stack([1 / variance for _, variance in experts]).sum(0)
    return torch.stack([mean / variance for mean, variance in experts]).sum(0) / precision, 1 / precision


def naive(built: MVAE, table: Table, noise: Tensor, names: Sequence[str], beta: float) -> Tensor:
    total = torch.zeros(()).double()
    ramped = isinstance(built, RampedMVAE)
    weights = {n: 1 + beta * (m.weight - 1) if ramped else m.weight for n, m in built.modalities.items()}
    for row in range(len(table)):
        present = observed(table, row, built.names)
        subsets = {name: [name] for name in present} | ({"full": present} if len(present) > 1 else {})
        for term, given in subsets.items():
            q = posterior(built, table, row, given)
            z = q[0] + q[1].sqrt() * noise[names.index(term), row]
            for name in given:
                total = total + weights[name] * naive_log_prob(built.modalities[name], cell(table, name, row), z)
            total = total - (1.0 if ramped else beta) * divergence(q)
        if isinstance(built, PenalisedMVAE) and present == list(built.names):
            both = normal(posterior(built, table, row, present))
            for name in present:
                alone = normal(posterior(built, table, row, [name]))
                total = total - 0.1 * torch.distributions.kl_divergence(both, alone)
    return -total / len(table)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_objective_matches_naive_loop(kind: type[MVAE], make, beta: float) -> None:
    built = kind(parts(KINDS[:2]), 2)
    table = make(6, KINDS[:2])
    terms = built.terms(table.presence(built.names))
    noise = noise_for(built, terms, 6)
    loss = built(table, terms, beta=beta, noise=noise).loss
    assert_same(built, loss, naive(built, table, noise, terms.names, beta))


def test_ramped_starts_with_unit_weights_and_ends_as_mvae() -> None:
    ramped, plain = RampedMVAE(parts(), 2, cross_from=()), MVAE(parts(), 2, cross_from=())
    table = complete(5)
    noise = noise_for(plain, plain.terms(table.presence(plain.names)), 5)
    assert_same(ramped, ramped(table, noise=noise).loss, ramped(table, noise=noise, beta=1.0).loss)
    torch.testing.assert_close(ramped(table, noise=noise).loss, plain(table, noise=noise).loss)
    for modality in plain.modalities.values():
        modality.weight = 1.0
    torch.testing.assert_close(ramped(table, noise=noise, beta=0.0).loss, plain(table, noise=noise).loss)


def test_bounded_experts_keep_variance_bounds() -> None:
    built = BoundedMVAE(parts(), 2, cross_from=())
    raw = torch.tensor([[-50.0, 50.0, 0.1]]).double()
    variance = 1 / built.to_expert(torch.zeros_like(raw), raw).precision
    torch.testing.assert_close(variance.log(), torch.tensor([[-2.0, 2.0, 0.1]]).double(), rtol=1e-3, atol=1e-3)
