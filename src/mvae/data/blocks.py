"""A random order of the rows of a table larger than memory, in which its files are read in blocks.

A memory-mapped column needs no memory of its own: the system reads what is used and drops it again. But in a fully
random order, every row would be a separate small read. So blocks of neighbouring rows are shuffled, a few blocks at a
time are combined, and their rows are shuffled again; the operating system is told in advance which blocks come next.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mvae.data.table import Table

__all__ = ["ReadAhead", "order_of_rows"]

LARGE = 8 << 30  # bytes of mapped columns from which on rows are read in blocks
BLOCK = 4 << 20  # bytes of a block
TOGETHER = 64  # blocks whose rows are mixed, so that a batch has rows from most of them


def order_of_rows(table: Table, generator: torch.Generator) -> Int[Tensor, "rows"]:
    """A random order of all rows, by blocks if mapped columns are large; equal for the same table and seed."""
    block = _block_rows(table)
    if block is None:
        return torch.randperm(len(table), generator=generator)
    return torch.cat(list(_mixed(len(table), block, generator)))


def _mixed(rows: int, block: int, generator: torch.Generator) -> Iterator[Int[Tensor, "some"]]:
    """The rows of a few blocks at a time, in a random order."""
    blocks = torch.arange(rows).split(block)
    for numbers in torch.randperm(len(blocks), generator=generator).split(TOGETHER):
        together = torch.cat([blocks[number] for number in numbers])
        yield together[torch.randperm(len(together), generator=generator)]


def _block_rows(table: Table) -> int | None:
    """The number of rows of a block; None if the table is read row by row."""
    mapped = [column for column in table.columns.values() if isinstance(column, np.memmap)]
    size = sum(column.nbytes for column in mapped)
    return max(1, BLOCK * len(table) // size) if mapped and size >= LARGE else None


class ReadAhead:
    """Tell the system which parts of mapped files come next while an order of rows is processed.

    Args:
        table: the table whose mapped columns are read.
        order: order of rows by blocks, as `order_of_rows` gives it.
    """

    def __init__(self, table: Table, order: Int[Tensor, "rows"]):
        block = _block_rows(table)
        columns = [column for column in table.columns.values() if isinstance(column, np.memmap)]
        self._files = [] if block is None else [file for column in columns if (file := _file_of(column))]
        self._order, self._block, self._announced = order, block or 1, 0

    def reach(self, row: int) -> None:
        """Announce the rows needed next, given that the order has been processed up to this position."""
        step = self._block * TOGETHER
        while self._files and self._announced < min(row + step + 1, len(self._order)):
            rows = self._order[self._announced : self._announced + step]
            for number in torch.unique(rows.cpu() // self._block).tolist():
                for file in self._files:
                    file.will_need(number * self._block, (number + 1) * self._block)
            self._announced += step


@dataclass(frozen=True)
class _File:
    """The location of a column's rows in a mapped file."""

    file: mmap.mmap
    offset: int
    row_bytes: int

    def will_need(self, first: int, last: int) -> None:
        start = (self.offset + first * self.row_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        stop = min(self.offset + last * self.row_bytes, len(self.file))
        if stop > start:
            self.file.madvise(mmap.MADV_WILLNEED, start, stop - start)


def _file_of(column: np.memmap) -> _File | None:
    """The file of a column that is stored row by row; None if it is not, or if the system takes no advice."""
    base = column
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED") or not column.flags.c_contiguous:
        return None
    start = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    return _File(base, column.__array_interface__["data"][0] - start, column.strides[0])
