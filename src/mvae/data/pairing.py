"""Weak supervision as Sec. 5.1 simulates it: few rows stay complete, the others lose one of their two modalities."""

import math
from typing import cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mvae.data.table import Column, Table
from mvae.errors import DataError, SettingsError

__all__ = ["complete_rows", "repeat_pairs", "weak_supervision"]


def weak_supervision(table: Table, fraction: float, seed: int = 0, *, split_rows: bool = False) -> Table:
    """A table in which only a fraction of the rows are pairs, and the others cannot be paired again (Sec. 5.1).

    Of N rows, ⌊fraction · N⌋ stay complete (never more than the level allows). Of the R others, ⌈R/2⌉ keep the first
    modality only and ⌊R/2⌋ the second only, and all N stand in random order: the number of rows is fixed, and an image
    whose label is hidden is not among the rows that have a label. Hidden cells hold zeros, not the values hidden.

    Args:
        table: complete rows of two modalities. What is taken of it is copied into memory.
        fraction: the share of complete rows, 0 to 1.
        seed: of which rows, and their order.
        split_rows: another reading of the paper: each of the R others becomes two rows, one with its first modality and
            one with its second, shuffled apart; that makes N + R rows, and hides nothing but the pairing.

    Raises:
        SettingsError: a fraction outside 0 to 1. DataError: not two modalities, or a row that is incomplete already.

    >>> table = Table({"image": torch.rand(100, 4), "label": torch.arange(100)})
    >>> weak = weak_supervision(table, 0.05)
    >>> weak.present.sum(0), weak.present.all(1).sum()  # 5 pairs, 48 images, 47 labels
    (tensor([53, 52]), tensor(5))
    """
    if not 0 <= fraction <= 1:
        raise SettingsError(f"the share of pairs must be between 0 and 1, not {fraction}")
    if len(table.names) != 2:
        raise DataError(f"pairs are of two modalities; this table has {', '.join(table.names)}")
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
    return hidden(table, source[mixed], present[mixed])


def hidden(table: Table, source: Int[Tensor, "rows"], present: Bool[Tensor, "rows modalities"]) -> Table:
    """These rows of the table, with zeros where a cell is not present."""
    columns: dict[str, Column] = {}
    for i, name in enumerate(table.names):
        column = table.select_rows(name, source)  # a copy, also of a memory-mapped file
        column[~present[:, i].to(column.device)] = 0
        columns[name] = column
    return Table(columns, {name: present[:, i] for i, name in enumerate(table.names)})


def repeat_pairs(table: Table, times: int) -> Table:
    """The table with each complete row so many times, so that an epoch comes by few pairs more often.

    Raises:
        SettingsError: less than once.

    >>> table = Table({"x": torch.arange(3), "y": torch.arange(3)}, {"y": torch.tensor([True, False, True])})
    >>> repeat_pairs(table, 3).columns["x"]
    tensor([0, 1, 2, 0, 2, 0, 2])
    """
    if times < 1:
        raise SettingsError(f"pairs can be repeated once or more often, not {times} times")
    pairs = table.present.expand(len(table), -1).all(1).nonzero().flatten()
    return table.take(torch.cat([torch.arange(len(table)), pairs.repeat(times - 1)])) if times > 1 else table


def complete_rows(table: Table) -> Table | None:
    """The rows that have every modality, in their order; None where there is none.

    >>> table = Table({"x": torch.arange(3), "y": torch.arange(3)}, {"y": torch.tensor([True, False, True])})
    >>> pairs = complete_rows(table)
    >>> pairs.columns["x"], pairs.complete
    (tensor([0, 2]), True)
    """
    if table.complete:
        return table
    whole = table.present.all(1)
    if not whole.any():
        return None
    taken = table.take(whole)
    return Table({name: cast("Tensor", column) for name, column in taken.columns.items()})
