"""Which columns of whole numbers are no counts: the other columns leave less of them open than a count's variance."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mvae.data.tables.column import CLASSED, MODELLED, TableColumn
from mvae.data.tables.frames import DataFrame

__all__ = ["closer_than_counts"]

ROWS = 10_000  # that are looked at
LEAST_ROWS = 10  # that have a column, for each number that a row is: with fewer the variance is not known
MOST = 500  # numbers that a row is, above which nothing is looked at: the table then is one of counts, or of pixels
CLASSES = 20  # of a column that is looked at
RIDGE = 0.02  # least eigenvalue of the correlations, which are of different rows where cells are missing
OPEN = 0.8  # share of the mean that a count's variance given the other columns is at least, but for sampling


def closer_than_counts(
    columns: Mapping[str, TableColumn], among: Iterable[str], frame: DataFrame
) -> dict[str, TableColumn]:
    """Columns proposed as counts that a linear regression on all others predicts better than counts can be, as real.

    Whatever is known of its row, a Poisson or negative binomial count of mean μ has a variance of μ at least. A score
    from 0 to 15 may follow from other columns to one point. As a count it would be learned with an error of two.

    Args:
        columns: of the table, by name.
        among: names of those that were proposed, not declared.
        frame: rows to learn from.

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
    parts = {column.name: _numbers(column, frame) for column in seen}
    width = sum(part.shape[1] for part in parts.values())
    if width > MOST:
        return {}
    first = dict(zip(parts, np.cumsum([0, *(part.shape[1] for part in parts.values())]), strict=False))
    left = _variances_given_others(np.concatenate(list(parts.values()), 1))
    found = {}
    for name in counts:
        values = parts[name][~np.isnan(parts[name])]
        if len(values) >= LEAST_ROWS * width and left[first[name]] * values.var() < OPEN * values.mean():
            reason = columns[name].reason + ", nearer to what other columns predict than counts are"
            found[name] = replace(columns[name], kind="real", reason=reason)
    return found


def _numbers(column: TableColumn, frame: DataFrame) -> Float[np.ndarray, "rows numbers"]:
    """What a regression sees of a column: NaN is missing; positive numbers as logarithms, a number for each class."""
    values = column.encode(frame[column.name])[0][:, None]
    if column.kind == "positive":
        return np.log(values)
    if column.kind == "categorical" or (column.kind in CLASSED and len(column.classes) == 2):
        return np.where(np.isnan(values), np.nan, values == np.arange(1, len(column.classes)))
    return values


def _variances_given_others(x: Float[np.ndarray, "rows numbers"]) -> Float[np.ndarray, "numbers"]:
    """The share of each number's variance that a linear regression on all others leaves, from pairs that are there."""
    here = ~np.isnan(x)
    rows = here.sum(0)
    centred = np.where(here, x - np.where(here, x, 0).sum(0) / np.maximum(rows, 1), 0.0)
    scale = np.sqrt((centred**2).sum(0) / np.maximum(rows, 1))
    centred /= np.where(scale > 0, scale, 1)
    both = here.astype(np.float64).T @ here
    size, axes = np.linalg.eigh(centred.T @ centred / np.maximum(both, 1))
    inverse = (axes / np.maximum(size, RIDGE)) @ axes.T
    return 1 / np.diagonal(inverse)
