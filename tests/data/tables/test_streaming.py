"""A table larger than memory is described, learned and filled in parts, with few parts alive at a time."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvae
from mvae.data import columns
from mvae.data.tables import frames
from mvae.data.tables.describe import describe
from mvae.data.tables.frames import Frames
from mvae.data.tables.opening import open_table
from mvae.data.tables.schema import TableSchema
from mvae.data.tables.tensors import encoded_parts
from mvae.data.tables.writing import write_frames
from mvae.errors import DataError
from tests.patients import FEW

pd = pytest.importorskip("pandas")

ROWS, NAMES, AT_ONCE = 2_000, ("a", "b", "city"), 100
ALIVE = 4  # the first part, the current one, and what a generator made of them


def endless(alive: "weakref.WeakSet[Any]", most: list[int]) -> Frames:
    """A table generated as it is read, with a weak reference to every part."""

    def read(rows: int) -> Iterator[Any]:
        assert rows <= AT_ONCE
        g = np.random.default_rng(0)
        for _ in range(ROWS // rows):
            x = g.normal(size=(rows, 2)).round(3).astype(str).astype(object)
            x[g.random(x.shape) < 0.1] = ""
            part = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "city": g.choice(["Oslo", "Bergen"], rows).astype(object)})
            alive.add(part._mgr)  # the object that holds the cells
            most[0] = max(most[0], len(alive))
            yield part
            del part

    return Frames("endless", NAMES, read, text=True)


def test_few_parts_are_alive_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CELLS", AT_ONCE * len(NAMES))
    alive, most = weakref.WeakSet[Any](), [0]
    table = endless(alive, most)
    described = describe(table)
    assert (described.rows, described.notes) == (
        ROWS,
        ("values are from a sample of 100 rows; counts are of all rows",),
    )
    model = mvae.fit_table(table, changes=FEW | {"training": {"epochs": 1, "batch_size": 1024}}, callbacks=[])
    path = tmp_path / "filled.csv"
    assert write_frames(path, model.impute_parts(table, samples=4, interval=0.9)) == ROWS
    assert most[0] <= ALIVE < ROWS // AT_ONCE
    assert pd.read_csv(path)[list(NAMES)].notna().all(axis=None)


def test_large_columns_are_memory_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "LARGE", 1_000)  # bytes
    monkeypatch.setattr(frames, "CELLS", AT_ONCE * len(NAMES))
    table = endless(weakref.WeakSet[Any](), [0])
    schema = TableSchema.learn(table)
    (found,) = encoded_parts(table, schema, np.zeros(ROWS, np.int8), 1)
    column = found.columns["endless"]
    assert isinstance(column, np.memmap)
    assert np.array_equal(np.asarray(column), schema.encode(table.whole())[0]["endless"])


def test_a_later_part_of_another_type_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    parts = [pd.DataFrame({"n": pd.array([1, 2], "Int64")}), pd.DataFrame({"n": [33.7]})]
    with pytest.raises(DataError, match=r"cannot hold these cells .*33\.7.*column n.*write a \.csv"):
        write_frames(tmp_path / "x.parquet", iter(parts))
    assert not list(tmp_path.iterdir())
    assert write_frames(tmp_path / "x.csv", iter(parts)) == 3


def test_cells_that_excel_cannot_hold_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match=r"an Excel file cannot hold this table .*: write a \.csv or \.parquet"):
        write_frames(tmp_path / "x.xlsx", iter([pd.DataFrame({"a": ["x\x01y"]})]))
    assert not list(tmp_path.iterdir())


def test_integers_that_arrow_cannot_hold_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="a typed file cannot hold these cells"):
        write_frames(tmp_path / "x.parquet", iter([pd.DataFrame({"x": [2**70, None, 1]}, dtype=object)]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("groups", [1, 40])
def test_little_of_a_parquet_file_is_in_memory_at_a_time(tmp_path: Path, groups: int) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = np.random.default_rng(0).normal(size=(10, 400_000))  # 32 MB
    table = arrow.table({f"x{i}": row for i, row in enumerate(x)})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=400_000 // groups, use_dictionary=False)
    del table
    before, most = arrow.total_allocated_bytes(), 0
    for part in open_table(tmp_path / "x.parquet").chunks(10_000):
        most = max(most, arrow.total_allocated_bytes() - before)
        assert len(part) == 10_000
    assert most < 20e6
