"""The terms of each row (Eq. 5) compared with an enumeration, and the distribution of random subsets."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mvae.errors import SettingsError
from mvae.models.recipe import Recipe
from mvae.models.terms import (
    FULL,
    Terms,
    concatenate,
    cross,
    full,
    mvae_terms,
    random_subsets,
    single,
    singles,
)
from tests.oracle import eq5


def names(modalities: int) -> list[str]:
    return [f"m{i}" for i in range(modalities)]


def random_presence(rows: int, modalities: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(rows, modalities, generator=generator) < 0.6
    present[torch.arange(rows), torch.randint(0, modalities, (rows,), generator=generator)] = True
    return present


def subset(mask: Tensor) -> frozenset[str]:
    return frozenset(f"m{i}" for i, taken in enumerate(mask.tolist()) if taken)


def counted(terms: Terms, row: int) -> dict[str, frozenset[str]]:
    """Term name → subset, for the terms that count in this row."""
    return {name: subset(terms.given[t, row]) for t, name in enumerate(terms.names) if terms.weight[t, row]}


@given(
    rows=st.integers(1, 6),
    modalities=st.integers(1, 6),
    k=st.integers(0, 4),
    distinct=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100)
def test_terms_of_each_row_match_enumeration(rows: int, modalities: int, k: int, distinct: bool, seed: int) -> None:
    present = random_presence(rows, modalities, seed)
    draws = random_subsets(present, k, torch.Generator().manual_seed(seed))
    terms = mvae_terms(present, names(modalities), k, torch.Generator().manual_seed(seed), distinct)
    assert set(terms.weight.unique().tolist()) <= {0.0, 1.0}
    for row in range(rows):
        has = sorted(subset(present[row]))
        drawn = {name: subset(draws.given[j, row]) for j, name in enumerate(draws.names)}
        for chosen in drawn.values():
            assert chosen <= set(has)
            assert (2 <= len(chosen) < len(has)) if len(has) >= 3 else not chosen
        assert counted(terms, row) == eq5(has, drawn, distinct)


@given(rows=st.integers(1, 5), modalities=st.integers(1, 5), k=st.integers(0, 3), seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_term_without_weight_is_neither_given_nor_scored(rows: int, modalities: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    terms = mvae_terms(random_presence(rows, modalities, seed), names(modalities), k, generator)
    assert torch.equal(terms.of, terms.given)
    assert torch.equal(terms.given.any(-1), terms.weight > 0)


@given(modalities=st.integers(1, 6), k=st.integers(0, 3), distinct=st.booleans(), seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_one_row_for_all_matches_repeated_rows(modalities: int, k: int, distinct: bool, seed: int) -> None:
    present = random_presence(1, modalities, seed)
    one = mvae_terms(present, names(modalities), k, torch.Generator().manual_seed(seed), distinct)
    many = mvae_terms(present.expand(7, -1), names(modalities), k, torch.Generator().manual_seed(seed), distinct)
    assert one.names == many.names
    assert one.given.shape[1] == one.weight.shape[1] == 1
    assert torch.equal(one.given.expand(-1, 7, -1), many.given)
    assert torch.equal(one.weight.expand(-1, 7), many.weight)


def test_two_modalities_give_three_terms() -> None:
    terms = mvae_terms(torch.ones(1, 2, dtype=torch.bool), ["image", "label"])
    assert terms.names == ("full", "image", "label")
    assert terms.given[:, 0].tolist() == [[True, True], [True, False], [False, True]]


def test_nineteen_modalities_and_one_random_subset_give_21_terms() -> None:
    """Sec. 4: MVAE19."""
    terms = mvae_terms(torch.ones(1, 19, dtype=torch.bool), names(19), k=1)
    assert terms.weight.sum() == 21


def test_single_modality_counts_twice_in_literal_eq5() -> None:
    present = torch.tensor([[True, False, False], [True, True, True]])
    assert mvae_terms(present, names(3)).weight.sum(0).tolist() == [1, 4]
    assert mvae_terms(present, names(3), distinct=False).weight.sum(0).tolist() == [2, 4]


def test_repeated_subsets_count_again_in_literal_eq5() -> None:
    present = torch.ones(2, 3, dtype=torch.bool)  # only three subsets of size two: 20 draws must repeat
    once = mvae_terms(present, names(3), k=20)
    assert once.weight.sum(0).tolist() == [7, 7]
    assert len(set(counted(once, 0).values())) == 7
    assert mvae_terms(present, names(3), k=20, distinct=False).weight.sum(0).tolist() == [24, 24]


def test_modality_absent_from_batch_has_no_term() -> None:
    present = torch.tensor([[True, False, True], [True, False, False]])
    terms = mvae_terms(present, names(3), k=2)
    assert terms.names == ("full", "m0", "m2")
    assert not terms.given[..., 1].any()


def test_two_modalities_have_no_random_subsets() -> None:
    present = torch.ones(3, 2, dtype=torch.bool)
    assert mvae_terms(present, names(2), k=5).names == ("full", "m0", "m1")
    assert random_subsets(present, 5).weight.sum() == 0


def test_negative_k_is_refused() -> None:
    with pytest.raises(SettingsError, match="k must be ≥ 0, not -1"):
        mvae_terms(torch.ones(1, 2, dtype=torch.bool), names(2), k=-1)


# -- Distribution of random subsets ------------------------------------------------------------------------------


def chosen_subsets(present: list[bool], k: int, seed: int = 0) -> list[tuple[int, ...]]:
    mask = torch.tensor([present])
    terms = random_subsets(mask, k, torch.Generator().manual_seed(seed))
    return [tuple(i for i, taken in enumerate(row) if taken) for row in terms.given[:, 0].tolist()]


@pytest.mark.parametrize("present", [[True] * 5, [True, False, True, True, False, True, True]])
def test_size_is_uniform_and_subset_uniform_given_size(present: list[bool]) -> None:
    k, has = 6000, [i for i, here in enumerate(present) if here]
    counts = Counter(chosen_subsets(present, k))
    expected = {}
    for size in range(2, len(has)):
        of_size = list(itertools.combinations(has, size))
        expected |= {s: k / (len(has) - 2) / len(of_size) for s in of_size}
    assert set(counts) == set(expected)
    observed = [counts[s] for s in expected]
    assert stats.chisquare(observed, list(expected.values())).pvalue > 1e-3


def test_draws_of_a_step_are_independent() -> None:
    draws = chosen_subsets([True] * 4, 8001)
    pairs = Counter(itertools.pairwise(draws))
    chance = {s: 1 / 2 / len(list(itertools.combinations(range(4), len(s)))) for s in set(draws)}
    assert len(chance) == 10
    observed = [pairs[a, b] for a in chance for b in chance]
    expected = [8000 * chance[a] * chance[b] for a in chance for b in chance]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_incomplete_rows_draw_uniformly_from_observed() -> None:
    """Each row's subset is uniform, even if other rows have more modalities."""
    present = torch.tensor([[True] * 6, [True, True, True, False, False, False]])
    terms = random_subsets(present, 3000, torch.Generator().manual_seed(3))
    counts = Counter(tuple(row) for row in terms.given[:, 1].tolist())
    assert len(counts) == 3
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_generator_reproduces_and_advances_draws() -> None:
    present = torch.ones(1, 10, dtype=torch.bool)
    generator = torch.Generator().manual_seed(4)
    first, second = (random_subsets(present, 5, generator).given for _ in range(2))
    assert torch.equal(first, random_subsets(present, 5, torch.Generator().manual_seed(4)).given)
    assert not torch.equal(first, second)


def test_sixty_four_modalities_need_no_enumeration() -> None:
    present = random_presence(500, 64, seed=5)
    terms = mvae_terms(present, names(64), k=3)  # 2^64 subsets: only an O(M) draw ever returns
    assert len(terms.names) == 1 + 64 + 3
    sizes = random_subsets(torch.ones(1, 64, dtype=torch.bool), 3000).given.sum(-1).flatten()
    assert sizes.unique().tolist() == list(range(2, 64))


# -- Plans -------------------------------------------------------------------------------------------------------


def test_concatenate_keeps_order() -> None:
    present = torch.tensor([[True, True], [True, False]])
    both = concatenate(full(present), singles(present, ["a", "b"]))
    assert both.names == ("full", "a", "b")
    assert both.given.shape == (3, 2, 2)
    assert both.weight.tolist() == [[1, 1], [1, 1], [1, 0]]
    assert both.likelihood_weight is None


def test_concatenate_joins_likelihood_weights() -> None:
    present = torch.ones(1, 2, dtype=torch.bool)
    one = full(present)
    weighted = Terms(one.names, one.given, one.of, one.weight, likelihood_weight=torch.tensor([[1.0, 50.0]]))
    joined = concatenate(weighted, weighted).likelihood_weight
    assert joined is not None
    assert joined.tolist() == [[1, 50], [1, 50]]


def test_rows_of_plan_match_plan_of_rows() -> None:
    present = random_presence(9, 4, seed=6)
    terms, index = mvae_terms(present, names(4)), torch.tensor([7, 0, 0, 3])
    some, own = terms.rows(index), mvae_terms(present[index], names(4))
    assert some.names == ("full", *names(4))
    for row in range(4):
        assert counted(some, row) == counted(own, row)
    assert torch.equal(some.of, some.given)


def test_cross_term_scores_all_observed_given_one() -> None:
    present = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [True, False, True]])
    terms = cross(present, names(3), "m0")
    assert terms.names == ("m0 to all",)
    assert terms.weight.tolist() == [[1, 0, 0, 1]]
    assert terms.given[0].tolist() == [[True, False, False], [False] * 3, [False] * 3, [True, False, False]]
    assert terms.of[0].tolist() == [[True, True, True], [False] * 3, [False] * 3, [True, False, True]]


def test_recipe_sets_weights_for_each_kind_of_term() -> None:
    present = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [True, False, True]])
    own = torch.tensor([1.0, 2.0, 50.0])
    eq5 = mvae_terms(present, names(3))
    assert Recipe().extend(eq5, present, names(3), own) is eq5
    terms = Recipe(("m0",), share=0.2).extend(eq5, present, names(3), own)
    assert terms.names == ("full", "m0", "m1", "m2", "m0 to all")
    assert terms.likelihood_weight is not None
    alone, joint, crossed = [1, 2, 50], [1, 1, 1], [1, 1, 20]  # half the rows have it: 2/5 of λ, at least 1
    assert terms.likelihood_weight.tolist() == [joint, alone, alone, alone, crossed]
    for share in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="cross_share, a share of λ, must be above 0 and at most 1"):
            Recipe(("m0",), share)


def test_terms_are_found_by_key_for_any_modality_names() -> None:
    unusual = ["full", "random 1", "full to all", "full (term)"]
    present = torch.ones(1, 4, dtype=torch.bool)
    terms = Recipe(("full",)).extend(mvae_terms(present, unusual, k=1), present, unusual, torch.ones(4))
    assert terms.names == ("full (term) (term)", *unusual, "random 1 (term)", "full to all (term)")
    assert [terms.find(key) for key in (FULL, single(0), single(3), single(4))] == [0, 1, 4, None]
    without = mvae_terms(torch.tensor([[True, False, False, False]]), unusual)  # only the single term of the first
    assert [without.find(key) for key in (FULL, single(0), single(1))] == [None, 0, None]


def test_plan_is_moved_to_device_once_and_whole() -> None:
    terms = mvae_terms(torch.ones(1, 3, dtype=torch.bool), names(3))
    terms = replace(terms, likelihood_weight=torch.ones(4, 3))
    device = torch.device("meta")
    placed = terms.on_device(device)
    assert placed.likelihood_weight is not None
    assert {part.device for part in (placed.given, placed.of, placed.weight, placed.likelihood_weight)} == {device}
    assert terms.on_device(device) is placed
    assert terms.on_device(torch.device("cpu")) is terms
    assert not terms.masked


def test_concatenate_refuses_partial_likelihood_weights() -> None:
    """Applying λ in some terms only would silently give a wrong objective."""
    present = torch.ones(1, 2, dtype=torch.bool)
    crossed = replace(cross(present, ["a", "b"], "a"), likelihood_weight=torch.ones(1, 2))
    with pytest.raises(SettingsError, match="either all parts of a plan have likelihood weights"):
        concatenate(full(present), crossed)
    assert concatenate(crossed, crossed).likelihood_weight is not None
