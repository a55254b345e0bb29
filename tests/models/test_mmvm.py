"""MMVM: each modality has its own posterior, drawn towards the mixture of all experts."""

import pytest
import torch
from torch import Tensor

import mvae
from mvae.data.table import Table
from mvae.models.mmvm import MMVM
from mvae.models.prior import MixturePrior
from tests.models.common import (
    KINDS,
    assert_mixtures,
    assert_naive,
    complete,
    expert,
    incomplete,
    log_joint,
    mixture,
    normal,
    observed,
    parts,
)


def model(kinds: list[str] = KINDS, seed: int = 0) -> MMVM:
    return MMVM(parts(kinds, seed=seed), 2)


def naive(built: MMVM, table: Table, noise: Tensor, beta: float) -> Tensor:
    """−Σ_m {λ_m log p(x_m | z_m) − β (log q(z_m | x_m) − log h(z_m | X))}, row by row."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        experts = {name: expert(built, table, name, row) for name in own}
        h = mixture(list(experts.values()))
        for name, q in experts.items():
            z = q[0] + q[1].sqrt() * noise[built.names.index(name), row]
            total = total + log_joint(built, table, row, [name], z)
            total = total - beta * (normal(q).log_prob(z) - h.log_prob(z))
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(3))
def test_objective_matches_paper(make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed), make(5, kinds), 0.4 + 0.3 * seed
        assert_naive(built, table, naive, beta)


def test_posterior_given_several_is_mixture_of_experts() -> None:
    built, table = model(), incomplete(6)
    expected = [[expert(built, table, name, row) for name in observed(table, row, KINDS)] for row in range(6)]
    assert_mixtures(built.posterior(table), expected)


def test_single_modality_has_no_kl() -> None:
    """h is then the posterior itself, so their KL is exactly 0."""
    built, table = model(["signal"]), complete(4, ["signal"])
    assert torch.equal(built(table).kl, torch.zeros(1, 4).double())


def test_missing_prior_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    data, query = complete(3), ([KINDS[0]], [KINDS[1]])
    for use in (
        lambda built: built.generate(n=2),
        lambda built: built.log_likelihood(data, *query, samples=4),
        lambda built: mvae.impute(built, data, samples=4, draws=2),
    ):
        built = model().eval()
        built.generate(data)
        assert not caplog.messages
        use(built)
        use(built)
        assert len(caplog.messages) == 1
        assert "trains no prior" in caplog.text
        caplog.clear()
        built._warned, built.prior = False, MixturePrior(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
        use(built)
        assert not caplog.messages
