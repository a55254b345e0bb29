"""Filled cells keep the type of their column in every part of a table and are valid values of its kind."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvae.data.tables.column import TableColumn
from mvae.data.tables.infer import infer
from mvae.data.tables.opening import open_table
from mvae.data.tables.writing import write_frames

pd = pytest.importorskip("pandas")

DAY = datetime.date(2021, 3, 4)
STAMP = pd.Timestamp("2021-03-04 10:30", tz="Europe/Oslo")
NAIVE = STAMP.tz_localize(None)
PARTS: dict[str, Any] = {
    "category": (pd.Series(["a", "b", "c"], dtype="category"), None),
    "intervals": (pd.cut(pd.Series([1.0, 5.0, 9.0]), 3), None),
    "float32": (pd.Series([1.5, 2.25, 9.0], dtype="float32"), None),
    "whole floats": (pd.Series([1.0, 2.0, 5.0]), None),
    "Int8": (pd.Series([3, 70, 9], dtype="Int8"), "real"),
    "Float32": (pd.Series([3.5, 70, 9], dtype="Float32"), None),
    "boolean": (pd.Series([True, False, True], dtype="boolean"), None),
    "string of two": (pd.Series(["yes", "no", "no"], dtype="string"), None),
    "dates": (pd.Series([DAY, datetime.date(2020, 1, 1), DAY], dtype=object), None),
    "datetimes": (pd.Series([NAIVE, NAIVE, NAIVE + pd.Timedelta("1D")], dtype=object), None),
    "decimals": (pd.Series([Decimal("1.50"), Decimal("2.25"), Decimal("7.10")], dtype=object), "real"),
    "levels of decimals": (pd.Series([Decimal(1), Decimal(2), Decimal(3)], dtype=object), None),
    "two dates": (pd.Series([DAY, datetime.date(2020, 1, 1), DAY], dtype=object), "binary"),
    "always a date": (pd.Series([DAY] * 3, dtype=object), None),
    "always a decimal": (pd.Series([Decimal("2.5")] * 3, dtype=object), None),
    "category of dates": (pd.Series([DAY, datetime.date(2020, 1, 1), DAY], dtype="category"), None),
    "objects of text": (pd.Series(["1.5", "2.5", "9.0"], dtype=object), None),
    "objects of numbers": (pd.Series([1.5, 2.5, 9.0], dtype=object), None),
    "time zone": (pd.Series([STAMP, STAMP, STAMP + pd.Timedelta("1D")]), None),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_fully_missing_part_gets_the_dtype_of_the_others(case: str) -> None:
    cells, kind = PARTS[case]
    column = infer("x", cells, kind=kind)
    column = TableColumn.from_dict(json.loads(json.dumps(column.to_dict())))
    numbers = column.encode(cells, strict=True)[0]
    some, none = cells.copy(), cells.copy()
    some.iloc[0], none.iloc[:] = None, None
    assert column.filled(some, numbers).dtype == column.filled(none, numbers).dtype == cells.dtype
    for found in (column.filled(some, numbers), column.filled(none, numbers)):
        assert found.tolist() == cells.tolist()
        assert [type(cell) for cell in found] == [type(cell) for cell in cells]


@pytest.mark.parametrize("dtype", ["date32", "decimal128"])
def test_a_parquet_column_missing_in_one_part_is_filled_in(tmp_path: Path, dtype: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kind = arrow.date32() if dtype == "date32" else arrow.decimal128(12, 2)
    there = [datetime.date(2020, 1, 1 + i) if dtype == "date32" else Decimal(f"{10 ** (i % 6)}.25") for i in range(20)]
    cells = arrow.array([None] * 10 + there, kind)
    parquet.write_table(arrow.table({"x": cells, "n": list(range(30))}), tmp_path / "in.parquet")
    frames = open_table(tmp_path / "in.parquet")
    column = infer("x", frames.whole()["x"], kind=None if dtype == "date32" else "real")
    parts = (part.assign(x=column.filled(part["x"], np.full(len(part), 86_400.0 * 9))) for part in frames.chunks(10))
    write_frames(tmp_path / "out.parquet", parts)
    found = parquet.read_table(tmp_path / "out.parquet")["x"].to_pylist()
    assert found[10:] == there
    assert set(found[:10]) == {datetime.date(1970, 1, 10) if dtype == "date32" else Decimal("777600.00")}


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_column_that_begins_with_missing_cells_is_written_with_its_type(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    columns = {"day": [DAY], "price": [Decimal("12.50")], "nothing": [None], "price.low": [Decimal("1234567.25")]}
    full = pd.DataFrame(columns, dtype=object)
    parts = [full.assign(**dict.fromkeys(columns)), full.assign(price=None), full]
    write_frames(tmp_path / f"x{suffix}", iter(parts))
    found = open_table(tmp_path / f"x{suffix}").whole()
    assert found["day"].tolist() == [None, DAY, DAY]
    assert found["price"].tolist() == [None, None, Decimal("12.50")]
    assert found["price.low"].tolist() == [None, *[Decimal("1234567.25")] * 2]
    assert found["nothing"].isna().all()


def test_text_can_fill_a_numeric_column() -> None:
    city = infer("city", pd.Series(["Oslo", "Bergen", "Hamar"], dtype=object))
    for dtype in ("Int64", "float64", "Float32", "datetime64[ns]"):
        found = city.filled(pd.Series([None, None], dtype=dtype), np.array([0.0, 2.0]))
        assert found.tolist() == ["Bergen", "Oslo"]
    code = infer("code", pd.Series(["01", "02", "10"] * 5, dtype=object), kind="categorical")
    assert code.filled(pd.Series([np.nan] * 2), np.array([0.0, 2.0])).tolist() == ["01", "10"]


@pytest.mark.parametrize(
    ("cells", "kind", "number", "expected"),
    [
        (["0.01", "1000.00", ""], "positive", 0.00317, "0.01"),
        (["0,01", "1000,00", ""], "positive", 0.00317, "0,01"),
        (["1", "1000", "7", ""], "positive", 0.3, "1"),
        (["0.25", "-1.50", ""], "real", -0.001, "0.00"),
        (["25", "-15", "7", ""], "real", -0.3, "0"),
        (["0.25", "1e-3", ""], "real", -0.0, "0.0"),
        (["1", "99", "7", ""], ("bounded", 0.5, 99.5), 99.5, "99"),
        (["0.1", "0.3", "0.2", ""], ("bounded", 0.1, 0.3), 0.3, "0.3"),
    ],
)
def test_a_rounded_number_stays_valid_for_its_kind(cells: list[str], kind: Any, number: float, expected: str) -> None:
    series = pd.Series(cells, dtype=object)
    column = infer("x", series, kind=kind)
    found = column.filled(series, np.full(len(cells), number))
    assert found.iloc[-1] == expected
    assert column.encode(found, strict=True)[1].all()


def test_decimals_keep_their_places_in_columns_of_other_types() -> None:
    column = infer("x", pd.Series([Decimal("0.25"), Decimal("1.50"), Decimal("7.00")], dtype=object), kind="real")
    assert column.decode(np.array([0.571])).tolist() == [0.57]
    assert column.filled(pd.Series(["1", ""], dtype=object), np.full(2, 0.571)).tolist() == ["1", "0.57"]


def test_positive_numbers_of_other_types_are_not_rounded_to_zero() -> None:
    money = pd.Series([Decimal("0.01"), Decimal("900.25"), None], dtype=object)
    assert infer("x", money, kind="positive").filled(money, np.full(3, 0.001))[2] == Decimal("0.01")
    whole = pd.Series([3, None], dtype="Int64")
    assert infer("x", pd.Series([0.5, 2.5]), kind="positive").filled(whole, np.full(2, 0.2)).tolist() == [3, 1]


@pytest.mark.parametrize("kind", ["UInt64", "uint64[pyarrow]"])
def test_integers_beyond_the_signed_range_are_filled_in(kind: str) -> None:
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    cells = pd.Series([9_300_000_000_000_000_000, None, 5], dtype="UInt64").astype(kind)
    column = infer("x", cells, kind="real")
    assert column.filled(cells, np.full(3, 9.3e18))[1] == 9_300_000_000_000_000_000
    assert column.filled(cells, np.full(3, 1e20))[1] == 2**64 - 1
    assert column.decode(np.array([9.3e18])).tolist() == [9.3e18]


def test_pyarrow_dates_keep_their_time_zone() -> None:
    arrow = pytest.importorskip("pyarrow")
    days = pd.Series([STAMP, None, STAMP + pd.Timedelta("1D")])
    days = days.astype(pd.ArrowDtype(arrow.timestamp("us", tz="Europe/Oslo")))
    column = infer("x", days, kind="date")
    numbers = np.full(3, STAMP.timestamp())
    assert column.filled(days, numbers)[1] == STAMP
    assert column.filled(days, numbers).dtype == days.dtype
    assert [str(stamp) for stamp in column.decode(numbers[:1])] == ["2021-03-04 10:30:00+01:00"]


@pytest.mark.parametrize("zone", ["Europe/Oslo", "America/Sao_Paulo", "+05:30"])
def test_days_in_a_time_zone_are_filled_in_with_local_midnights(zone: str) -> None:
    days = pd.Series(pd.date_range("2016-01-01", "2018-12-31", freq="D").tz_localize(zone, nonexistent="shift_forward"))
    days[700] = None
    column = infer("x", days)
    assert column.resolution == 86_400
    assert not column.unlike(days).any()
    near = pd.Timestamp("2017-10-14 14:30", tz=zone).timestamp()
    assert column.filled(days, np.full(len(days), near))[700] == days[653]  # the clocks go forward at that midnight
    assert column.unlike(days + pd.Timedelta("3h")).sum() == len(days) - 1
    naive = infer("x", days.dt.tz_localize(None).dt.normalize())
    assert naive.filled(days, np.full(len(days), near))[700] == days[653]


def test_an_unnamed_time_zone_is_kept() -> None:
    zone = pytest.importorskip("dateutil.tz").gettz("Europe/Oslo")
    days = pd.Series(pd.to_datetime(["2021-01-02", None, "2021-03-04"])).dt.tz_localize(zone)
    found = infer("x", days).filled(days, np.full(3, 1.6e9))
    assert found.dtype == days.dtype
    assert found[1] == pd.Timestamp(1.6e9, unit="s", tz="UTC")
