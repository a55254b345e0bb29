"""Values of training rows that training does not see, hidden as the table's own values are missing.

Where columns are missing together, as a patient's whole blood count is, they are hidden together, and as often: what a
model knows of a whole view says little of how well it knows one cell beside others, and the other way round.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int

from mvae.data.table import Table
from mvae.data.tables.tensors import holds_fields, observed_of

__all__ = ["Held", "held_back", "missing_together"]

Held = dict[str, np.ndarray]
"""Modality → ``rows fields``, which values are hidden from training."""

SHARE, MOST, FEW = 0.05, 2_000, 100  # of the values; at most so many; where these are fewer, up to twice the share
LARGE = 1 << 28  # values of a modality, above which none are hidden: their mask would fill the memory
ROWS = 10_000  # of which it is read what is missing together
PATTERNS = 2_000  # of missing rows, above which only columns of the very same one are a group
ALIKE, CHANCE = 0.3, 5.0  # least correlation of what is missing together; and so many standard errors of none


def held_back(table: Table, seed: int = 0) -> tuple[Table, Held]:
    """A table with a few of its values hidden, and which; each row keeps a value.

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
    """The number of each column's group: columns whose missing rows are much the same have the same number.

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
    """Some of the values that are there, alone or with their group, as often as values are missing so."""
    number, hidden = int(here.sum()), np.zeros(here.shape, bool)
    wanted = round(min(MOST, max(SHARE * number, min(FEW, 2 * SHARE * number))))
    most = max(wanted, round(SHARE * number))  # values, where whole groups are hidden
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
    """How often a value of each column is to be hidden with its group, so that the share of values is the table's.

    Where a share p of a group's missing values is missing with all the others of its n, and values are picked one by
    one, each pick takes the group with p / (p + n(1 − p)).
    """
    chance = np.zeros(here.shape[1])
    for own in (group == number for number in np.unique(group)):
        if own.sum() > 1 and (lacking := (~here[:, own]).sum()):
            p = own.sum() * (~here[:, own]).all(1).sum() / lacking
            chance[own] = p / (p + own.sum() * (1 - p))
    return chance
