"""Values of training rows that are held out from training, hidden in the pattern in which the table's own are missing.

Columns that are missing together, such as a patient's whole blood count, are hidden together, and equally often. How
well a model predicts a whole view says little about how well it predicts a single cell from its neighbours, and vice
versa.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int

from mvae.data.table import Table
from mvae.data.tables.tensors import holds_fields, observed_of

__all__ = ["Held", "held_back", "missing_together"]

Held = dict[str, np.ndarray]
"""Modality → mask of the values hidden from training, ``rows fields``."""

SHARE, MOST, FEW = 0.05, 2_000, 100  # the share hidden, at most MOST values; where that is below FEW, up to twice it
LARGE = 1 << 28  # above this number of values nothing of a modality is hidden: the mask would fill the memory
ROWS = 10_000  # the most rows that are used to find columns that are missing together
PATTERNS = 2_000  # above this number of distinct column patterns, only columns with the same one form a group
ALIKE, CHANCE = 0.3, 5.0  # least correlation of columns missing together: as it is, and in standard errors from 0


def held_back(table: Table, seed: int = 0) -> tuple[Table, Held]:
    """Hide a few values of a table; returns the table and what is hidden. Each row keeps a value.

    >>> table = Table({"labs": torch.arange(4_000.0).reshape(1_000, 4)})
    >>> shown, held = held_back(table)
    >>> held["labs"].sum(), shown
    (np.int64(200), Table(1000 rows; labs: 4 float32, 200 values missing))
    """
    generator, held, here = np.random.default_rng(seed), Held(), {}
    masks = {name: table.observed.get(name, table.has(name)) for name in table.names}
    left = np.zeros(len(table), bool)  # does a row keep a value?
    for name, column in table.columns.items():
        if not holds_fields(column) or column.shape[0] * column.shape[1] > LARGE:
            left |= table.has(name).numpy()
            continue
        here[name] = observed_of(table, name)
        held[name] = _hidden(here[name], generator)
        left |= (here[name] & ~held[name]).any(1)
    for name, hidden in held.items():
        hidden[~left] = False
        masks[name] = torch.from_numpy(here[name] & ~hidden)
    return Table(table.columns, masks), held


def missing_together(here: Bool[np.ndarray, "rows fields"]) -> Int[np.ndarray, "fields"]:
    """The group number of each column; columns that are missing in nearly the same rows have the same number.

    >>> seen = np.ones((100, 3), bool)
    >>> seen[:30, :2], seen[50:60, 2] = False, False
    >>> group = missing_together(seen)
    >>> group[0] == group[1], group[0] == group[2]
    (np.True_, np.False_)
    """
    from scipy.sparse.csgraph import connected_components

    patterns, group = np.unique(here[:: max(1, -(-len(here) // ROWS))], axis=1, return_inverse=True)
    if patterns.shape[1] > PATTERNS:
        return group
    some = patterns - patterns.mean(0, dtype=np.float32)
    norm = np.sqrt((some**2).sum(0))
    some /= np.where(norm > 0, norm, 1)
    alike = some.T @ some > max(ALIKE, CHANCE / np.sqrt(max(1, len(some))))
    return connected_components(alike, directed=False)[1][group]


def _hidden(here: Bool[np.ndarray, "rows fields"], generator: np.random.Generator) -> Bool[np.ndarray, "rows fields"]:
    """Choose observed values to hide, alone or with their group, each as often as values are missing in this way."""
    number, hidden = int(here.sum()), np.zeros(here.shape, bool)
    wanted = round(min(MOST, max(SHARE * number, min(FEW, 2 * SHARE * number))))
    most = max(wanted, round(SHARE * number))  # the most values, where whole groups are hidden
    places = generator.choice(here.size, min(here.size, 4 * wanted + 100) if wanted else 0, replace=False)
    rows, columns = np.unravel_index(places[here.reshape(-1)[places]], here.shape)
    group = missing_together(here)
    chance = _chance_of_group(here, group)
    whole = generator.random(len(rows)) < chance[columns]
    count = 0
    for row, column, together in zip(rows[:wanted], columns[:wanted], whole, strict=False):
        own = group == group[column] if together else [column]
        hidden[row, own] = here[row, own]
        count += int(here[row, own].sum())
        if count >= most:
            break
    return hidden


def _chance_of_group(here: Bool[np.ndarray, "rows fields"], group: Int[np.ndarray, "fields"]) -> np.ndarray:
    """The probability that a value of each column is hidden with its whole group, so that the shares match the table's.

    If a share p of the missing values of a group of n columns is missing together with all the others, and values are
    picked one by one, each pick takes the whole group with probability p / (p + n(1 − p)).
    """
    chance = np.zeros(here.shape[1])
    for own in (group == number for number in np.unique(group)):
        if own.sum() > 1 and (lacking := (~here[:, own]).sum()):
            p = own.sum() * (~here[:, own]).all(1).sum() / lacking
            chance[own] = p / (p + own.sum() * (1 - p))
    return chance
