"""How good translations are: chrF and BLEU by sacrebleu, a nearest-neighbour baseline, and whether z is used at all."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from mvae.errors import DataError, require_extra
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.models.queries import parts_of

__all__ = ["bleu", "chrf", "nearest_neighbours", "require_sacrebleu", "source_gap"]


def require_sacrebleu() -> ModuleType:
    """Import sacrebleu.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require_extra("sacrebleu", "translation", "chrF and BLEU")


def chrf(found: Sequence[str], gold: Sequence[str]) -> float:
    """chrF2 of a corpus (Popović 2015), 0 to 100: F-score of character n-grams, which forgives a wrong ending.

    Raises:
        MissingDependencyError: without sacrebleu. DataError: a different number of references.
    """
    return float(require_sacrebleu().corpus_chrf(*_paired(found, gold)).score)


def bleu(found: Sequence[str], gold: Sequence[str]) -> float:
    """BLEU of a corpus (Papineni et al. 2002), 0 to 100, over words as they are: corpora here are tokenised.

    Raises:
        MissingDependencyError: without sacrebleu. DataError: a different number of references.
    """
    return float(require_sacrebleu().corpus_bleu(*_paired(found, gold), tokenize="none", force=True).score)


def _paired(found: Sequence[str], gold: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    if len(found) != len(gold) or not found:
        raise DataError(f"{len(found)} translations and {len(gold)} references: give one for each, at least one")
    return list(found), [list(gold)]


def nearest_neighbours(sources: Sequence[str], known: Sequence[str], translations: Sequence[str]) -> list[str]:
    """For each source, the translation of the most similar known sentence (cosine of TF-IDF over words).

    >>> nearest_neighbours(["the cat"], ["a dog", "a cat"], ["một con chó", "một con mèo"])
    ['một con mèo']
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # here: importing it takes longer than all of mvae

    # Words are whatever spaces separate: scikit-learn's own pattern would drop punctuation and single letters.
    weigh = TfidfVectorizer(analyzer=str.split)  # pyright: ignore
    table = weigh.fit_transform(known)
    found = []
    for start in range(0, len(sources), 256):
        similarity = weigh.transform(sources[start : start + 256]) @ table.T
        found += [translations[int(place)] for place in similarity.toarray().argmax(1)]
    return found


@torch.no_grad()
def source_gap(model: MultimodalVAE, data: Data, source: str, target: str) -> Tensor:
    """log p(x_target | z(x_source)) minus the same with another row's source, in nats, of each row that has both.

    z is the mean of q(z | x_source). A decoder that ignores z, as with a collapsed posterior, has a gap of 0. The
    other row is the previous one, so pass rows in random order.

    Raises:
        QueryError: an unknown modality. DataError: fewer than two rows have both, or data that does not fit the model.
    """
    model.require_known([source, target])
    table = model.as_table(data)
    both = (table.has(source) & table.has(target)).nonzero().flatten()
    if len(both) < 2:
        raise DataError(f"{len(both)} rows have both {source} and {target}; two are needed, to exchange their sources")
    modality = model.modalities[target]
    gaps = []
    with evaluating(model):
        mean = torch.cat([model.posterior_of(batch, [source]).mean for batch in parts_of(table, rows=both)])
        z, start = torch.stack([mean, mean.roll(1, 0)]), 0
        for batch in parts_of(table, rows=both):
            own, other = modality.log_prob(model.prepare(batch)[target], z[:, start : start + len(batch)])
            start += len(batch)
            gaps.append(own - other)
    return torch.cat(gaps)
