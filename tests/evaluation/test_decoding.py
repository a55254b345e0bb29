"""Minimum Bayes risk decoding against sacrebleu and against counting n-grams one by one."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvae.evaluation.decoding import consensus, expected_chrf, ngrams
from mvae.evaluation.text import chrf

TEXTS = st.text(alphabet="ab c", max_size=12)


@given(TEXTS, TEXTS)
@example("", "a")
@example("a", "aa")
def test_expected_chrf_of_one_sentence_equals_sacrebleu(found: str, gold: str) -> None:
    pytest.importorskip("sacrebleu")
    assert 100 * expected_chrf(ngrams(found), ngrams(gold)) == pytest.approx(chrf([found], [gold]))


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_the_consensus_equals_that_of_naive_ngram_counts(texts: list[str]) -> None:
    def score(text: str) -> float:
        written = [x.replace(" ", "") for x in [text, *texts]]
        precision, recall, orders = 0.0, 0.0, 0
        for n in range(1, 7):
            grams = [[t[i : i + n] for i in range(len(t) - n + 1)] for t in written]
            own, others = grams[0], grams[1:]
            if not own or not any(others):
                continue
            orders += 1
            kinds = {gram for each in grams for gram in each}
            same = sum(min(own.count(g), sum(each.count(g) for each in others) / len(texts)) for g in kinds)
            precision += same / len(own)
            recall += same / (sum(map(len, others)) / len(texts))
        return 5 * precision * recall / (4 * precision + recall) / orders if precision else 0.0

    places = consensus(texts)
    assert sorted(places) == list(range(len(texts)))
    kinds = len(set(texts))
    ranked = [texts[place] for place in places]
    assert len(set(ranked[:kinds])) == kinds
    for part in (ranked[:kinds], ranked[kinds:]):
        scores = [score(text) for text in part]
        assert all(a >= b - 1e-9 for a, b in pairwise(scores))
