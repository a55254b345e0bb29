"""Find columns of whole numbers that are not counts: given the other columns, they vary less than counts can."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mvae.data.tables.column import CLASSED, MODELLED, TableColumn
from mvae.data.tables.frames import DataFrame

__all__ = ["closer_than_counts"]

ROWS = 10_000  # rows used
LEAST_ROWS = 10  # observed values of a column needed per number of a row: with fewer its variance is uncertain
MOST = 500  # numbers of a row above which no columns are tested: the table is then one of counts, or of pixels
CLASSES = 20  # most classes of a column that is used
RIDGE = 0.02  # least eigenvalue of the correlations, which are from different rows where cells are missing
OPEN = 0.8  # least ratio of a count's variance, given the other columns, to its mean, with a margin for sampling


def closer_than_counts(
    columns: Mapping[str, TableColumn], among: Iterable[str], frame: DataFrame
) -> dict[str, TableColumn]:
    """Find columns proposed as counts that a linear regression predicts better than is possible for counts.

    Given all other columns, a Poisson or negative binomial count of mean μ still has a variance of at least μ. A score
    from 0 to 15 may be predictable from other columns to one point; as a count it would be learned with an error of
    two.

    Args:
        columns: name → column of the table.
        among: names of the columns that were proposed, not declared.
        frame: rows to learn from.

    Returns:
        Name → column with the kind real, for each column found.

    >>> import pandas
    >>> size = np.random.default_rng(0).poisson(9, 500)
    >>> frame = pandas.DataFrame({"size": size, "width": 2 * size + size % 2})
    >>> found = closer_than_counts({name: TableColumn(name, "count") for name in frame}, ["width"], frame)
    >>> {name: column.kind for name, column in found.items()}
    {'width': 'real'}
    """
    counts = [name for name in among if columns[name].kind == "count"]
    if not counts:
        return {}
    frame = frame.iloc[:: -(-len(frame) // ROWS)]
    seen = [c for c in columns.values() if c.kind in MODELLED and len(c.classes) <= CLASSES]
    width = sum(map(_width, seen))
    if width > MOST:
        return {}
    parts = {column.name: _numbers(column, frame) for column in seen}
    first = dict(zip(parts, np.cumsum([0, *(part.shape[1] for part in parts.values())]), strict=False))
    left = _variances_given_others(np.concatenate(list(parts.values()), 1))
    found = {}
    for name in counts:
        values = parts[name][~np.isnan(parts[name])]
        if len(values) >= LEAST_ROWS * width and left[first[name]] * values.var() < OPEN * values.mean():
            reason = columns[name].reason + ", closer to what other columns predict than counts can be"
            found[name] = replace(columns[name], kind="real", reason=reason)
    return found


def _width(column: TableColumn) -> int:
    """The number of regression inputs of a column."""
    return len(column.classes) - 1 if _indicated(column) else 1


def _indicated(column: TableColumn) -> bool:
    """Is this column one indicator for each class but the first?"""
    return column.kind == "categorical" or (column.kind in CLASSED and len(column.classes) == 2)


def _numbers(column: TableColumn, frame: DataFrame) -> Float[np.ndarray, "rows numbers"]:
    """A column as regression inputs: logarithms of positive numbers, indicators of classes; NaN is missing."""
    values = column.encode(frame[column.name])[0][:, None]
    if column.kind == "positive":
        return np.log(values)
    if _indicated(column):
        return np.where(np.isnan(values), np.nan, values == np.arange(1, len(column.classes)))
    return values


def _variances_given_others(x: Float[np.ndarray, "rows numbers"]) -> Float[np.ndarray, "numbers"]:
    """The unexplained share of each number's variance in a linear regression on all others, from observed pairs."""
    here = ~np.isnan(x)
    rows = here.sum(0)
    centred = np.where(here, x - np.where(here, x, 0).sum(0) / np.maximum(rows, 1), 0.0)
    scale = np.sqrt((centred**2).sum(0) / np.maximum(rows, 1))
    centred /= np.where(scale > 0, scale, 1)
    both = here.astype(np.float64).T @ here
    size, axes = np.linalg.eigh(centred.T @ centred / np.maximum(both, 1))
    inverse = (axes / np.maximum(size, RIDGE)) @ axes.T
    return 1 / np.diagonal(inverse)
