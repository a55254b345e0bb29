"""A table on disk is read in blocks; it trains as from memory in the same order, bit-for-bit."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mvae.data import blocks
from mvae.data.table import Table
from mvae.models.mvae import MVAE
from mvae.training import state
from mvae.training.callbacks import History
from mvae.training.fit import fit
from tests.resumable import Signals, assert_same_run, handled
from tests.small_training import Watched, columns, same, small, weights

ROWS = 203


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    monkeypatch.setattr(blocks, "LARGE", 0)
    monkeypatch.setattr(blocks, "BLOCK", 28 * 7)  # seven rows of the two columns on disk
    monkeypatch.setattr(blocks, "TOGETHER", 4)
    data = {name: column.numpy() for name, column in columns(ROWS).items()}
    for name in ("image", "sound"):
        np.save(tmp_path / f"{name}.npy", data[name])
        data[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    return Table(data, {"sound": torch.arange(ROWS) % 5 > 0})


def train(model: MVAE, table: Table, run_dir: Path | None = None, **changes: Any) -> History:
    settings: dict[str, Any] = {"callbacks": []} | changes
    return fit(model, table, epochs=2, batch_size=20, run_dir=run_dir, **settings)


def test_every_row_is_seen_once_per_epoch_in_a_new_order(on_disk: Table) -> None:
    watched = Watched()
    train(watched, on_disk)
    seen = [value for batch in watched.seen for value in batch]
    first, second = seen[:ROWS], seen[ROWS:]
    assert sorted(first) == sorted(second) == sorted(on_disk.columns["image"][:, 0].tolist())
    assert first != second


def test_table_in_memory_trains_the_same(on_disk: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped, loaded = MVAE(small(), 2), MVAE(small(), 2)
    train(mapped, on_disk)
    in_memory = on_disk[:]
    assert not any(isinstance(column, np.memmap) for column in in_memory.columns.values())
    order = state.row_order
    monkeypatch.setattr(state, "row_order", lambda table, seed, epoch: order(on_disk, seed, epoch))
    train(loaded, in_memory)
    assert same(weights(mapped), weights(loaded))


def test_training_resumes_exactly_within_an_epoch(on_disk: Table, tmp_path: Path) -> None:
    train(MVAE(small(), 2), on_disk, tmp_path / "whole")
    with handled(signal.SIGINT):
        history = train(MVAE(small(), 2), on_disk, tmp_path / "stopped", callbacks=[Signals(at=15)])
    assert history.interrupted
    train(MVAE(small(3), 2), on_disk, tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
