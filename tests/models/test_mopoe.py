"""MoPoE: the mean over all subsets of a row's modalities, each a product of experts without the prior."""

import itertools

import pytest
import torch
from torch import Tensor

import mvae
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.mopoe import MoPoE
from tests.models.common import (
    KINDS,
    assert_mixtures,
    assert_naive,
    bound,
    complete,
    divergence,
    exact_elbo,
    expected_objective,
    expert,
    incomplete,
    observed,
    parts,
    product_of,
)
from tests.oracle import LinearGaussian


def model(kinds: list[str] = KINDS, seed: int = 0) -> MoPoE:
    return MoPoE(parts(kinds, seed=seed), 2)


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    return [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]


def naive(built: MoPoE, table: Table, noise: Tensor, beta: float) -> Tensor:
    """Minus the mean over rows, and over a row's subsets S, of E_{q(z | S)}[Σ_i log p(x_i | z)] − β KL."""
    places = subsets(list(built.names))
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        for subset in subsets(own):
            q = product_of([expert(built, table, name, row) for name in subset])
            value = bound(built, table, row, q, own, noise[places.index(subset), row], beta)
            total = total + value / len(subsets(own))
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(3))
def test_objective_is_mean_elbo_over_subsets(make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed), make(4, kinds), 0.4 * seed
        assert_naive(built, table, naive, beta)


def test_linear_gaussian_bound_gap_is_kl_to_posterior() -> None:
    exact = LinearGaussian(2, [3, 4, 2], seed=0)
    built, table = MoPoE(exact.model.modalities, 2), exact.data(3, seed=1)
    for row in range(3):
        posteriors = [product_of([expert(built, table, n, row) for n in subset]) for subset in subsets(exact.names)]
        expected = torch.stack([exact_elbo(exact, table, row, q) for q in posteriors]).mean()
        torch.testing.assert_close(expected_objective(built, table, row), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("given", subsets(KINDS), ids="+".join)
def test_posterior_is_mixture_of_subset_products(given: tuple[str, ...]) -> None:
    built, table = model(), incomplete(5)
    expected = []
    for row in range(5):
        own = [name for name in observed(table, row, KINDS) if name in given]
        expected.append([product_of([expert(built, table, name, row) for name in subset]) for subset in subsets(own)])
    assert_mixtures(built.posterior(table, given=given), expected)


def test_log_p_with_mixture_proposal_matches_closed_form() -> None:
    exact = LinearGaussian(2, [3, 4], seed=0, perturb=0.3)
    built, table = MoPoE(exact.model.modalities, 2), exact.data(20, seed=1)
    found = log_likelihood(built, table, of=["x1", "x2"], samples=20_000)
    error = (1 / found.effective_samples - 1 / 20_000).sqrt()
    assert ((found.values - exact.log_prob(table, exact.names)).abs() < 5 * error).all()
    assert (found.effective_samples < 19_000).all(), "with an exact proposal this tests nothing"


def test_term_names_are_unique_for_any_modality_names() -> None:
    part = parts(["signal"])["signal"]
    built = MoPoE(dict.fromkeys(["a", "b+c", "a+b", "c"], part), 2)
    names = built.terms(torch.ones(1, 4, dtype=torch.bool)).names
    assert len(set(names)) == len(names) == 15


def test_posterior_given_nothing_is_prior() -> None:
    q = model().posterior(complete(2), given=[])
    assert torch.equal(q.mean, torch.zeros(2, 2).double())
    assert torch.equal(q.variance, torch.ones(2, 2).double())


def test_more_than_eight_modalities_are_refused() -> None:
    part = parts(["signal"])["signal"]
    assert len(MoPoE({f"x{i}": part for i in range(8)}, 2).terms(torch.ones(1, 8, dtype=torch.bool)).names) == 255
    with pytest.raises(SettingsError, match="9 modalities are too many"):
        MoPoE({f"x{i}": part for i in range(9)}, 2)


def test_drawn_subsets_are_uniform() -> None:
    table, generator = incomplete(5), torch.Generator().manual_seed(0)
    every, drawn = model(), MoPoE(parts(KINDS), 2, drawn=2)
    drawn.load_state_dict(every.state_dict())
    present = table.presence(every.names)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(2_000):
        terms = drawn.terms(present, generator)
        assert not (terms.given & ~present).any()
        torch.testing.assert_close(terms.weight.sum(0), present.any(-1).to(terms.weight))
        for given in terms.given[:, 0].int().tolist():
            counts[tuple(given)] = counts.get(tuple(given), 0) + 1
    own = subsets(observed(table, 0, every.names))
    assert len(counts) == len(own)
    for count in counts.values():
        assert abs(count - 4_000 / len(own)) < 5 * (4_000 / len(own)) ** 0.5


@pytest.mark.parametrize("make", [complete, incomplete])
def test_drawn_subsets_have_the_kl_of_all_and_their_own_likelihood(make) -> None:
    table, generator = make(5), torch.Generator().manual_seed(0)
    built = MoPoE(parts(KINDS), 2, drawn=2)
    places, x, beta = list(built.names), built.prepare(table), 0.7
    terms = built.terms(built.presence(table), generator)
    noise = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    total = torch.zeros(()).double()
    for row in range(5):
        own = observed(table, row, built.names)
        every = [product_of([expert(built, table, name, row) for name in subset]) for subset in subsets(own)]
        for j in range(2):
            given = [name for name in places if terms.given[j, row, places.index(name)]]
            q = product_of([expert(built, table, name, row) for name in given])
            total = total + bound(built, table, row, q, own, noise[j, row], 0.0) / 2
        total = total - beta * torch.stack([divergence(q) for q in every]).mean()
    torch.testing.assert_close(built.objective(x, terms, noise, beta).loss, -total / 5)


def test_each_row_of_a_complete_table_draws_its_own_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    table, seen, plan = complete(200), [], MoPoE.terms
    monkeypatch.setattr(MoPoE, "terms", lambda *args: seen.append(found := plan(*args)) or found)
    built = MoPoE(parts(KINDS), 2, drawn=1)
    built(table)
    mvae.fit(built, table, epochs=1, batch_size=200, callbacks=[])
    step = [terms.given[0] for terms in seen if terms.given.shape[1] == 200]
    assert len(step) == 2
    assert all(len(given.unique(dim=0)) == 7 for given in step)


def test_validation_uses_all_subsets() -> None:
    present, drawn = complete(3).presence(KINDS), MoPoE(parts(KINDS), 2, drawn=1)
    assert drawn.evaluation_terms(present).names == model().terms(present).names
    assert not drawn.static_terms
    with pytest.raises(SettingsError, match="at least 1"):
        MoPoE(parts(KINDS), 2, drawn=0)


def test_has_posterior_checks_each_pattern_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, mixed = [], MoPoE.mixed
    monkeypatch.setattr(MoPoE, "mixed", lambda self, given: checked.append(len(given)) or mixed(self, given))
    assert model().has_posterior(incomplete(60), KINDS)
    assert 1 < checked[0] < 2 ** len(KINDS)
