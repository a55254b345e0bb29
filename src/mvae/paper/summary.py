"""Rows that differ only in their seed, summarised as their mean with its standard error."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Summary", "summaries"]


@dataclass(frozen=True)
class Summary:
    """A mean over seeds; ``stderr`` is None for one seed, and ``row`` is one of the summarised rows."""

    value: float
    stderr: float | None
    seeds: int
    row: Mapping[str, Any]


def summaries(rows: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Hashable]) -> list[Summary]:
    """One summary per key, in order of the first rows; if a seed was measured twice, its last row counts.

    >>> rows = [{"metric": "m", "seed": seed, "value": value} for seed, value in ((0, 9.0), (1, 2.0), (0, 1.0))]
    >>> (one,) = summaries(rows, lambda row: row["metric"])
    >>> one.value, one.stderr, one.seeds
    (1.5, 0.5, 2)
    """
    groups: dict[Hashable, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), {})[row["seed"]] = row
    found = []
    for by_seed in groups.values():
        values, n = [row["value"] for row in by_seed.values()], len(by_seed)
        mean = sum(values) / n
        error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None
        found.append(Summary(mean, error, n, next(iter(by_seed.values()))))
    return found
