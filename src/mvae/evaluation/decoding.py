"""Decoding: choose among many sampled texts by minimum Bayes risk."""

from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["consensus", "expected_chrf", "ngrams"]

ORDERS = range(1, 7)  # n of chrF's n-grams
RECALL = 2.0  # β of its F-score: how much more recall counts than precision


def ngrams(text: str) -> Counter[str]:
    """Counts of a text's character n-grams, without spaces."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for n in ORDERS for i in range(len(text) - n + 1))


def expected_chrf(
    found: Mapping[str, int | float], expected: Mapping[str, int | float], of_expected: Sequence[float] | None = None
) -> float:
    """chrF2 of a sentence's n-grams (`ngrams`) against expected counts of n-grams, 0 to 1.

    ``of_expected`` are the expected totals for each n, to be computed once if many sentences are compared with them.

    >>> round(expected_chrf(ngrams("ab"), ngrams("ac")), 2)  # 1 of 2 characters, 0 of 1 pairs
    0.25
    """
    same = _by_order({gram: min(x, expected[gram]) for gram, x in found.items() if gram in expected})
    of_expected = _by_order(expected) if of_expected is None else of_expected
    scores = [
        (both / ours, both / theirs)
        for both, ours, theirs in zip(same, _by_order(found), of_expected, strict=True)
        if ours and theirs  # sacrebleu's "effective order": n-grams that are too long for either do not count
    ]
    if not any(precision for precision, _ in scores):
        return 0.0
    precision, recall = (sum(each) / len(scores) for each in zip(*scores, strict=True))
    return (1 + RECALL**2) * precision * recall / (RECALL**2 * precision + recall)


def _by_order(grams: Mapping[str, int | float]) -> list[float]:
    """The number of n-grams for each n."""
    number = [0.0] * len(ORDERS)
    for gram, x in grams.items():
        number[len(gram) - 1] += x
    return number


def consensus(samples: Sequence[str]) -> list[int]:
    """The indices of sampled translations, sorted by Bayes risk (Kumar & Byrne 2004): the most typical comes first.

    The risk is 1 − chrF against the mean n-gram counts of all samples, which takes time linear in the samples, not in
    their pairs (DeNero et al. 2009). Repetitions of an earlier text come last.

    >>> consensus(["a dog barks", "the cat sat", "the cat sits", "the cat sat"])
    [1, 2, 0, 3]
    """
    counts = [ngrams(text) for text in samples]
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    mean = {gram: x / len(samples) for gram, x in total.items()}
    of_mean = _by_order(mean)
    scores = [expected_chrf(count, mean, of_mean) for count in counts]
    first: dict[str, int] = {}
    for place, text in enumerate(samples):
        first.setdefault(text, place)
    return sorted(range(len(samples)), key=lambda place: (first[samples[place]] != place, -scores[place]))
