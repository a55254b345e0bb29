"""The order of rows of a table on disk: every row once, shuffled, and read in a few large blocks."""

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from mvae.data import blocks
from mvae.data.blocks import ReadAhead, order_of_rows
from mvae.data.table import Table

ROWS, BLOCK_ROWS, TOGETHER = 1003, 10, 8


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    """A table with one column on disk, of 16 bytes per row, and a small one in memory."""
    monkeypatch.setattr(blocks, "LARGE", 0)
    monkeypatch.setattr(blocks, "BLOCK", 16 * BLOCK_ROWS)
    monkeypatch.setattr(blocks, "TOGETHER", TOGETHER)
    np.save(tmp_path / "x.npy", np.arange(4 * ROWS, dtype=np.float32).reshape(ROWS, 4))
    return Table({"x": np.load(tmp_path / "x.npy", mmap_mode="r"), "y": torch.arange(ROWS)})


def test_every_row_comes_once_and_neighbours_are_separated(table: Table) -> None:
    order = order_of_rows(table, torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(ROWS))
    assert (order.diff() == 1).float().mean() < 0.05
    assert not torch.equal(order, order_of_rows(table, torch.Generator().manual_seed(1)))
    assert torch.equal(order, order_of_rows(table, torch.Generator().manual_seed(0)))


def test_rows_of_a_block_stay_close_and_batches_mix_distant_blocks(table: Table) -> None:
    order = order_of_rows(table, torch.Generator().manual_seed(0))
    place = order.argsort()
    for block in place.split(BLOCK_ROWS):
        assert block.max() - block.min() < TOGETHER * BLOCK_ROWS
    for batch in order.split(20):
        assert len((batch // BLOCK_ROWS).unique()) > 1
    spread = torch.stack([part.double().std() for part in order.split(TOGETHER * BLOCK_ROWS)[:-1]])
    assert spread.mean() == pytest.approx(ROWS / 12**0.5, rel=0.15)  # the spread of uniformly drawn rows


def test_small_and_in_memory_tables_are_fully_shuffled(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    full = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(order_of_rows(Table({"y": torch.arange(ROWS)}), torch.Generator().manual_seed(0)), full)
    monkeypatch.setattr(blocks, "LARGE", 16 * ROWS + 1)
    assert torch.equal(order_of_rows(table, torch.Generator().manual_seed(0)), full)


def test_the_next_rows_are_read_ahead(table: Table) -> None:
    order = order_of_rows(table, torch.Generator().manual_seed(0))
    ahead = ReadAhead(table, order)
    requested: list[tuple[int, int]] = []

    class Recorder:
        def will_need(self, first: int, last: int) -> None:
            requested.append((first, last))

    ahead._files = [Recorder()]  # pyright: ignore[reportAttributeAccessIssue]
    for place in range(0, ROWS, 7):
        ahead.reach(place)
        ready = {row for first, last in requested for row in range(first, last)}
        assert ready >= set(order[: place + TOGETHER * BLOCK_ROWS].tolist())
    assert len(requested) <= 2 * ROWS / BLOCK_ROWS


def test_the_file_offset_of_a_column_is_that_of_its_values(table: Table, tmp_path: Path) -> None:
    column = table.columns["x"][300:]
    assert isinstance(column, np.memmap)
    found = blocks._file_of(column)
    assert found is not None
    with (tmp_path / "x.npy").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        # NumPy's mapping starts at a page of the file, here the first.
        values = np.frombuffer(whole[found.offset : found.offset + found.row_bytes], np.float32)
    assert values.tolist() == [1200.0, 1201.0, 1202.0, 1203.0]
    found.will_need(0, 10**9)
    assert blocks._file_of(np.load(tmp_path / "x.npy", mmap_mode="r")[::2]) is None
