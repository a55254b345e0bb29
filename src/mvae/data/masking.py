"""Values hidden on purpose to simulate missing data: few complete rows (Sec. 5.1), or random cells (App. F)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.data.idx import memory_of_machine
from mvae.data.table import Column, Table
from mvae.errors import DataError, SettingsError, abridged

__all__ = ["complete_rows", "keep_at_random", "kept_cells", "oversample_complete", "pair_fraction"]


@checked_arguments()
def pair_fraction(table: Table, fraction: float, seed: int = 0, *, split_rows: bool = False) -> Table:
    """Make a table in which only a fraction of the rows is complete, and the others cannot be paired again (Sec. 5.1).

    Of N rows, ⌊fraction · N⌋ stay complete (rounded down, so never more than the fraction). Of the R others, ⌈R/2⌉ keep
    only the first modality and ⌊R/2⌋ only the second, and all N are in random order. So the number of rows stays the
    same, and each row is used once: the hidden label of an image does not appear as a row with only a label. Hidden
    cells contain zeros, not the hidden values.

    Args:
        table: complete rows of two modalities. The selected cells are copied into memory.
        fraction: fraction of complete rows, 0 to 1.
        seed: random seed of the choice of rows and their order.
        split_rows: another reading of the paper: each of the R others becomes two rows, one with its first modality and
            one with its second, shuffled separately. This gives N + R rows, and hides nothing but the pairing.

    Raises:
        SettingsError: a fraction outside 0 to 1. DataError: not two modalities, or a row that is already incomplete.

    >>> table = Table({"image": torch.rand(100, 4), "label": torch.arange(100)})
    >>> weak = pair_fraction(table, 0.05)
    >>> weak.present.sum(0), weak.present.all(1).sum()  # 5 pairs, 48 images, 47 labels
    (tensor([53, 52]), tensor(5))
    """
    if not 0 <= fraction <= 1:
        raise SettingsError(f"the share of pairs must be between 0 and 1, not {fraction}")
    if len(table.names) != 2:
        raise DataError(f"pairs need exactly two modalities; this table has {', '.join(table.names)}")
    if not table.complete:
        raise DataError("the table is incomplete already: choose the pairs from complete rows")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(table), generator=generator)
    pairs = math.floor(fraction * len(table) + 1e-9)  # 0.29 · 100 is 28.999…
    paired, others = order[:pairs], order[pairs:]
    if split_rows:
        first, second = others, others[torch.randperm(len(others), generator=generator)]
    else:
        half = (len(others) + 1) // 2
        first, second = others[:half], others[half:]
    source = torch.cat([paired, first, second])
    present = torch.ones(len(source), 2, dtype=torch.bool)
    present[pairs : pairs + len(first), 1] = False
    present[pairs + len(first) :, 0] = False
    mixed = torch.randperm(len(source), generator=generator)
    return _hidden(table, source[mixed], present[mixed])


def _hidden(table: Table, source: Int[Tensor, "rows"], present: Bool[Tensor, "rows modalities"]) -> Table:
    """The rows ``source`` of the table, with zeros where a cell is not present."""
    columns: dict[str, Column] = {}
    for i, name in enumerate(table.names):
        column = table.select_rows(name, source)  # a copy, also of a memory-mapped file
        column[~present[:, i].to(column.device)] = 0
        columns[name] = column
    masks = {name: present[:, i] for i, name in enumerate(table.names)}
    for name in table.observed:
        values, rows = table.observed[name][source.to(table.observed[name].device)].cpu(), masks[name]
        masks[name] = values & rows.reshape(-1, *[1] * (values.dim() - 1))
    return Table(columns, masks)


@checked_arguments()
def oversample_complete(table: Table, times: int, names: Sequence[str] | None = None) -> Table:
    """The table with each complete row repeated ``times`` times, so that an epoch sees few complete rows more often.

    ``names``: the modalities that make a row complete; default all.

    Raises:
        SettingsError: less than once, or more often than memory holds.

    >>> table = Table({"x": torch.arange(3), "y": torch.arange(3)}, {"y": torch.tensor([True, False, True])})
    >>> oversample_complete(table, 3).columns["x"]
    tensor([0, 1, 2, 0, 2, 0, 2])
    """
    if times < 1:
        raise SettingsError(f"pairs must be repeated at least once, not {times} times")
    whole = table.presence(table.names if names is None else names).all(1)
    pairs = whole.expand(len(table)).nonzero().flatten()
    each = table.nbytes // len(table) + 8
    if (size := len(pairs) * (times - 1) * each) > memory_of_machine():
        raise SettingsError(f"{abridged(times)} times each pair takes {size // 10**9:,} GB, more than this machine has")
    return table.take(torch.cat([torch.arange(len(table)), pairs.repeat(times - 1)])) if times > 1 else table


@checked_arguments()
def complete_rows(table: Table, names: Sequence[str] | None = None) -> Table | None:
    """The rows that have every modality, in their order; None if there are none.

    ``names``: the modalities that count and are kept; default all.

    >>> table = Table({"x": torch.arange(3), "y": torch.arange(3)}, {"y": torch.tensor([True, False, True])})
    >>> pairs = complete_rows(table)
    >>> pairs.columns["x"], pairs.complete
    (tensor([0, 2]), True)
    """
    if names is None and table.complete:
        return table
    names = table.names if names is None else names
    whole = table.presence(names).all(1)
    if not whole.any():
        return None
    if table.complete:
        return table.select(names)
    rows = whole.nonzero().flatten()
    observed = {name: mask[rows.to(mask.device)] for name, mask in table.observed.items() if name in names}
    return Table({name: table.select_rows(name, rows) for name in names}, observed)


@checked_arguments()
def kept_cells(rows: int, modalities: int, keep_probability: float, seed: int = 0) -> Bool[Tensor, "rows modalities"]:
    """A random mask of the cells to keep, each independently with that probability; rows may be left with none.

    (Figure 9's caption says that features are dropped with probability p. App. F says kept, and its curves rise with
    p.)

    Raises:
        SettingsError: the probability is not above 0 and at most 1.

    >>> kept_cells(1000, 19, keep_probability=0.1).float().mean()
    tensor(0.0970)
    """
    if not 0 < keep_probability <= 1:
        raise SettingsError(
            f"the probability that a value is kept must be above 0 and at most 1, not {keep_probability}"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, modalities, generator=generator, dtype=torch.float64) < keep_probability


@checked_arguments()
def keep_at_random(table: Table, keep_probability: float, seed: int = 0) -> Table:
    """The table with each cell kept independently with the same probability, without the rows left empty (App. F).

    A cell is one modality of one row. Hidden cells contain zeros, not the hidden values. The number of dropped rows is
    ``len(table)`` minus the length of the result.

    Args:
        table: rows of any modalities. The rows that are kept are copied into memory.
        keep_probability: probability that a cell is kept.
        seed: random seed of the choice of cells.

    Raises:
        SettingsError: the probability is not above 0 and at most 1. DataError: every row is left empty.

    >>> table = Table({"image": torch.rand(100, 4), "label": torch.arange(100)})
    >>> kept = keep_at_random(table, 0.1, seed=1)
    >>> len(table) - len(kept), kept.present.sum(0)
    (91, tensor([3, 6]))
    """
    kept = kept_cells(len(table), len(table.names), keep_probability, seed) & table.present
    left = kept.any(1).nonzero().flatten()
    if not len(left):
        raise DataError(f"all {len(table)} rows are left empty if values are kept with probability {keep_probability}")
    return _hidden(table, left, kept[left])
