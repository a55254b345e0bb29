"""How good translations are: chrF and BLEU by sacrebleu, plain references, and whether z says anything at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import DataError, require_extra
from mvae.modality.base import evaluating
from mvae.models.base import MultimodalVAE

__all__ = ["bleu", "chrf", "consensus", "expected_chrf", "nearest_neighbours", "require_sacrebleu", "source_gap"]


def require_sacrebleu() -> ModuleType:
    """The library.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require_extra("sacrebleu", "translation", "chrF and BLEU")


def chrf(found: Sequence[str], gold: Sequence[str]) -> float:
    """chrF2 of a corpus (Popović 2015), 0 to 100: F-score of character n-grams, which forgives a wrong ending.

    Raises:
        MissingDependencyError: without sacrebleu. DataError: not as many references.
    """
    return float(require_sacrebleu().corpus_chrf(*_paired(found, gold)).score)


def bleu(found: Sequence[str], gold: Sequence[str]) -> float:
    """BLEU of a corpus (Papineni et al. 2002), 0 to 100, over words as they stand: corpora here are tokenised.

    Raises:
        MissingDependencyError: without sacrebleu. DataError: not as many references.
    """
    return float(require_sacrebleu().corpus_bleu(*_paired(found, gold), tokenize="none", force=True).score)


def _paired(found: Sequence[str], gold: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    if len(found) != len(gold) or not found:
        raise DataError(f"{len(found)} translations and {len(gold)} references: one for each, and at least one")
    return list(found), [list(gold)]


ORDERS = range(1, 7)  # n of chrF's n-grams
RECALL = 2.0  # β of its F-score: how much more recall counts than precision


def ngrams(text: str) -> Counter[str]:
    """How often a text has each n-gram of characters, spaces apart."""
    text = "".join(text.split())
    return Counter(text[i : i + n] for n in ORDERS for i in range(len(text) - n + 1))


def expected_chrf(
    found: Mapping[str, int | float],
    expected: Mapping[str, int | float],
    of_expected: Sequence[float] | None = None,
) -> float:
    """chrF2 of a sentence's n-grams (`ngrams`) against expected numbers of n-grams, 0 to 1.

    ``of_expected`` are the numbers expected of each n, to be counted once where many sentences are compared with them.

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
    """How many n-grams there are of each n."""
    number = [0.0] * len(ORDERS)
    for gram, x in grams.items():
        number[len(gram) - 1] += x
    return number


def consensus(samples: Sequence[str]) -> list[int]:
    """The places of sampled translations, the best first by minimum Bayes risk (Kumar & Byrne 2004): the most like all.

    The risk is 1 − chrF against the mean numbers of n-grams of all samples, which takes as many steps as there are
    samples (DeNero et al. 2009), not as there are pairs. A text that has come before stands behind all others.

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


def nearest_neighbours(sources: Sequence[str], known: Sequence[str], translations: Sequence[str]) -> list[str]:
    """For each source, the translation of the most similar known sentence (cosine of TF-IDF over words).

    >>> nearest_neighbours(["the cat"], ["a dog", "a cat"], ["một con chó", "một con mèo"])
    ['một con mèo']
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # here: importing it takes longer than all of mvae

    # Only what comes between spaces is a word: scikit-learn's own pattern would drop punctuation and single letters.
    weigh = TfidfVectorizer(analyzer=str.split)  # pyright: ignore
    table = weigh.fit_transform(known)
    found = []
    for start in range(0, len(sources), 256):
        similarity = weigh.transform(sources[start : start + 256]) @ table.T
        found += [translations[int(place)] for place in similarity.toarray().argmax(1)]
    return found


@torch.no_grad()
def source_gap(model: MultimodalVAE, table: Table, source: str, target: str, chunk: int = 500) -> Tensor:
    """log p(x_target | z(x_source)) minus the same with another row's source, in nats, of each row that has both.

    z is the mean of q(z | x_source). A decoder that ignores z, as a collapsed posterior's does, has a gap of 0; the
    other row is the one before, so give rows in random order.

    Raises:
        DataError: fewer than two rows have both.
    """
    both = table.presence([source, target]).expand(len(table), -1).all(1).nonzero().flatten()
    if len(both) < 2:
        raise DataError(f"{len(both)} rows have both {source} and {target}; two are needed, to exchange their sources")
    modality = model.modalities[target]
    gaps = []
    with evaluating(model):
        mean = torch.cat([model.posterior(table.take(rows), [source]).mean for rows in both.split(chunk)])
        for start, rows in zip(range(0, len(both), chunk), both.split(chunk), strict=True):
            x = model.prepare(table.take(rows).select([target]))[target]
            here = torch.arange(start, start + len(rows), device=mean.device)
            own, other = modality.log_prob(x, torch.stack([mean[here], mean[(here - 1) % len(both)]]))
            gaps.append(own - other)
    return torch.cat(gaps)
