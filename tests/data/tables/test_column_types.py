"""Filled cells keep the type of their column in every part of a table and are valid values of its kind."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvae.data.tables.column import TableColumn
from mvae.data.tables.dates import FORMATS, as_seconds, from_seconds
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


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timestamp[us][pyarrow]"])
def test_numbers_can_fill_a_column_of_dates(dtype: str) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    size = infer("size", pd.Series([1.5, 2.25, 9.0]))
    found = size.filled(pd.Series([NAIVE, None], dtype=dtype), np.full(2, 1.5))
    assert found.tolist() == [NAIVE, 1.5]


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
    zone = pytest.importorskip("dateutil.tz").tzoffset(None, 3600)
    days = pd.Series(pd.to_datetime(["2021-01-02", None, "2021-03-04"])).dt.tz_localize(zone)
    found = infer("x", days).filled(days, np.full(3, 1.6e9))
    assert found.dtype == days.dtype
    assert found[1] == pd.Timestamp(1.6e9, unit="s", tz="UTC")


@pytest.mark.parametrize("form", FORMATS)
def test_years_before_1000_are_written_with_four_digits(form: str) -> None:
    day = datetime.datetime(385, 7, 25, tzinfo=datetime.UTC)
    text = from_seconds(np.array([day.timestamp(), 0.0]), form).tolist()
    assert [datetime.datetime.strptime(cell, form).year for cell in text] == [385, 1970]
    assert as_seconds(text, form).tolist() == [day.timestamp(), 0.0]


def test_years_before_1000_are_written_to_text_files_with_four_digits(tmp_path: Path) -> None:
    days = np.array(["0385-07-25", "NaT", "0001-01-01", "2021-03-04"], "datetime64[ms]")
    write_frames(tmp_path / "x.csv", iter([pd.DataFrame({"day": days, "n": 1})]))
    assert (tmp_path / "x.csv").read_text() == "day,n\n0385-07-25,1\n,1\n0001-01-01,1\n2021-03-04,1\n"


def test_seconds_stay_seconds() -> None:
    times = pd.Series(pd.to_datetime(["2021-03-04 10:30:00", None, "2021-03-04 10:30:01"])).dt.as_unit("s")
    for series in (times, times.dt.tz_localize("Europe/Oslo")):
        found = infer("x", series).filled(series, np.full(3, 1.6e9 + 0.4))
        assert found.dtype == series.dtype
        assert found[1].timestamp() == 1.6e9


def test_dates_of_whole_seconds_are_filled_in_with_whole_seconds() -> None:
    """A CSV of the result had dates with and without fractions of a second, which is two formats."""
    times = pd.Series(pd.to_datetime(["2021-03-04 10:30:00", None, "2021-03-04 10:30:01"]))
    for series, numbers in ((times, [1.6e9] * 3), (times + pd.Timedelta("1ms"), [1.6e9 + 0.4] * 3)):
        assert infer("x", series).filled(series, np.full(3, 1.6e9 + 0.4))[1].timestamp() == numbers[1]


def test_objects_of_datetimes_keep_their_time_zone_and_type() -> None:
    for first in (STAMP, NAIVE, STAMP.to_pydatetime(), NAIVE.to_pydatetime()):
        series = pd.Series([first, None, first + datetime.timedelta(hours=9)], dtype=object)
        found = infer("x", series).filled(series, np.full(3, STAMP.timestamp()))
        assert type(found.tolist()[1]) is type(first)
        assert str(found.tolist()[1]) == str(first if first.tzinfo else STAMP.tz_convert("UTC").tz_localize(None))


@pytest.mark.parametrize("text", ["1,50 2,75 3,25", "15.06.1951 17.06.1951 16.06.1951", "low mid high", "1 2 3"])
def test_text_of_any_type_is_read_and_filled_in_as_text(text: str) -> None:
    """Text in Arrow types was filled in with 2.75 in place of 2,75, or not at all; categories of text with numbers."""
    arrow = pytest.importorskip("pyarrow")
    words = text.split() * 5
    trained = infer("x", pd.Series(words, dtype=object))
    numbers = trained.encode(pd.Series(words, dtype=object), strict=True)[0]
    types = [arrow.string(), arrow.large_string(), arrow.dictionary(arrow.int32(), arrow.string())]
    for dtype in (*map(pd.ArrowDtype, types), "string", "category"):
        full, holes = pd.Series(words, dtype=dtype), pd.Series([None, *words[1:]], dtype=dtype)
        found = trained.filled(holes, numbers)
        assert (found.dtype, trained.decode_as(holes, numbers[:3]).tolist()) == (holes.dtype, found.tolist()[:3])
        assert all(type(cell) is str for cell in found)
        assert trained.encode(found, strict=True)[0].tolist() == numbers.tolist()
        own = infer("x", full, kind=trained.kind)
        assert own.filled(holes, own.encode(full)[0]).dtype == holes.dtype
        assert own.dtype == ("category" if dtype == "category" and own.classes else "text")


def test_numbers_that_fill_categories_of_text_are_text() -> None:
    column = infer("x", pd.Series([1.5, 2.5, 3.25]))
    found = column.filled(pd.Series(["1.5", None], dtype="category"), np.full(2, 2.5))
    assert found.tolist() == ["1.5", "2.5"]
    whole = infer("x", pd.Series([1, 2, 3] * 5))
    found = whole.filled(pd.Series([1, None, 3], dtype="category"), np.full(3, 1.0))
    assert found.tolist() == [1, 2, 3]


def test_booleans_are_not_filled_in_for_other_classes() -> None:
    for cells, expected in ((["a", "b", "c"], "c"), ([1, 2, 3], 3), ([True, False], False), (["yes", "no"], "no")):
        column = infer("x", pd.Series(cells * 5, dtype=object))
        found = column.filled(pd.Series([None], dtype="boolean"), column.encode(pd.Series([expected]))[0])
        assert found.tolist() == [expected]


def test_a_huge_number_among_classes_is_written() -> None:
    column = infer("x", pd.Series(["1", "2", "3"] * 5))
    assert column.typed(np.array(["inf", "1e30", "2"], object)).tolist() == [np.inf, 1e30, 2]
    assert str(column.typed(np.array(["7", None, "2"], object)).dtype) == "Int64"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_parts_with_different_categories_are_written(tmp_path: Path, suffix: str) -> None:
    """Arrow files were refused."""
    pytest.importorskip("pyarrow")
    parts = [pd.DataFrame({"x": pd.Series([word, "z"], dtype="category")}) for word in "abc"]
    write_frames(tmp_path / f"x{suffix}", iter(parts))
    found = open_table(tmp_path / f"x{suffix}").whole()["x"]
    assert found.tolist() == ["a", "z", "b", "z", "c", "z"]
