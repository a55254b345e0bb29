"""Coherence by the number of given modalities: do all modalities that a model generates show the same class?

The benchmarks of multimodal VAEs report it for every number of given modalities, with classifiers of real examples. Any
classifiers will do; compare each number with their own accuracy, which bounds it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mvae.arguments import require_whole_number
from mvae.data.columns import Values
from mvae.errors import QueryError
from mvae.evaluation.rows import given_part, labels_of, rows_with
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data

__all__ = ["Agreement", "Coherence", "Subset", "coherence_by_number", "subsets_of", "unconditional_coherence"]

Subset = tuple[str, ...]
Classifier = Callable[[Tensor], Tensor]

ROWS = 250  # generated at once
MOST = 20  # subsets of one size


@dataclass(frozen=True)
class Coherence:
    """Shares of generated examples that show their row's class.

    Attributes:
        shares: (given modalities, generated one) → share of the rows that have all given modalities.
        rows: the number of rows in the data.

    >>> found = Coherence({(("a",), "b"): 0.5, (("a",), "c"): 0.7, (("a", "b"), "c"): 0.9}, rows=10)
    >>> found.by_number
    {1: 0.6, 2: 0.9}
    """

    shares: Mapping[tuple[Subset, str], float]
    rows: int

    @property
    def by_number(self) -> dict[int, float]:
        """Number of given modalities → the mean over the subsets of that size and all targets outside them."""
        numbers = sorted({len(given) for given, _ in self.shares})
        found = {n: [share for (given, _), share in self.shares.items() if len(given) == n] for n in numbers}
        return {n: sum(own) / len(own) for n, own in found.items()}


class Agreement(NamedTuple):
    """How coherent draws from the prior are.

    Attributes:
        share: the share of draws in which all modalities show the same class.
        largest: the share of the most frequent class among these; 1 if all show the same one, NaN if there are none.
    """

    share: float
    largest: float


@torch.no_grad()
def coherence_by_number(
    model: MultimodalVAE,
    classifiers: Mapping[str, Classifier],
    data: Data,
    labels: Values,
    *,
    numbers: Sequence[int] | None = None,
    seed: int = 0,
) -> Coherence:
    """How often a modality generated from n others shows the row's class, for every n: E[x | z], one z ~ q(z | given).

    Rows are read, generated and classified a few at a time. If a size has more than 20 subsets, 20 are drawn.

    Args:
        model: any model with a posterior for the subsets.
        classifiers: modality → a function from its examples to logits ``rows classes``; one per modality to generate.
        data: the rows; for each subset, those that have all of it are used.
        labels: the class of each row, ``rows``.
        numbers: how many modalities are given; default 1 to all but one.
        seed: the seed of z and of the subsets drawn.

    Raises:
        QueryError: a classifier of an unknown modality, no classifier, a number of modalities that leaves none to
            generate, or no row that has a whole subset.
        DataError: data that does not fit, or labels that are not one number per row.
    """
    model.require_known(list(classifiers), "classifiers")
    table, names = model.as_table(data), model.names
    classes = labels_of(table, labels)
    numbers = range(1, len(names)) if numbers is None else numbers
    shares: dict[tuple[Subset, str], float] = {}
    generator = torch.Generator(model.device).manual_seed(seed)
    for given in [subset for n in numbers for subset in subsets_of(names, n, seed)]:
        targets = [name for name in names if name in classifiers and name not in given]
        if not targets:
            continue
        rows = rows_with(table, given)
        right = dict.fromkeys(targets, 0)
        for part in rows.split(ROWS):
            shown = model.generate(given_part(model, table, part, given), targets, mean=True, generator=generator)
            for name in targets:
                seen = classifiers[name](shown[name][0]).argmax(-1).cpu()
                right[name] += int((seen == classes[part]).sum())
        shares |= {(given, name): count / len(rows) for name, count in right.items()}
    if not shares:
        raise QueryError("no modality is left to generate: give classifiers of others, or smaller numbers")
    return Coherence(shares, len(table))


@torch.no_grad()
def unconditional_coherence(
    model: MultimodalVAE, classifiers: Mapping[str, Classifier], n: int = 1000, seed: int = 0
) -> Agreement:
    """How many of n draws of z ~ p(z) show the same class in all modalities, by E[x | z] of each.

    If a prior was fitted (`mvae.models.prior`), z is drawn from it. A model whose samples all look alike agrees with
    itself: so look at the largest class, too.

    Raises:
        QueryError: classifiers of fewer than two modalities, an unknown one, or n < 1.
    """
    require_whole_number("n", n, 1)
    model.require_known(list(classifiers), "classifiers")
    if len(classifiers) < 2:
        raise QueryError("coherence is between modalities: give the classifiers of two at least")
    generator, agreed = torch.Generator(model.device).manual_seed(seed), Counter[int]()
    for start in range(0, n, ROWS):
        drawn = model.generate(None, list(classifiers), min(ROWS, n - start), mean=True, generator=generator)
        seen = torch.stack([classifier(drawn[name][:, 0]).argmax(-1).cpu() for name, classifier in classifiers.items()])
        agreed.update(seen[0, (seen == seen[0]).all(0)].tolist())
    return Agreement(agreed.total() / n, max(agreed.values()) / agreed.total() if agreed else math.nan)


def subsets_of(names: Sequence[str], number: int, seed: int = 0) -> list[Subset]:
    """All subsets of that size, in order; if there are more than 20, 20 drawn ones, without listing all.

    Raises:
        QueryError: a size above the number of names, or below one.

    >>> subsets_of(["a", "b", "c"], 2)
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    >>> len(subsets_of([f"x{i}" for i in range(60)], 30))
    20
    """
    if not 1 <= number <= len(names):
        raise QueryError(f"{number} modalities cannot be given: there are {len(names)}")
    found = list(islice(combinations(names, number), MOST + 1))
    if len(found) <= MOST:
        return found
    random, drawn = np.random.RandomState([seed, number]), dict[Subset, None]()
    while len(drawn) < MOST:
        chosen: list[int] = sorted(random.permutation(len(names))[:number].tolist())
        drawn[tuple(names[i] for i in chosen)] = None
    return list(drawn)
