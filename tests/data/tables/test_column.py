"""Columns: inferring their kind, encoding cells as numbers, and filling cells in with the original types."""

import datetime
import json
import logging
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from mvae.data.tables.cells import missing_cells
from mvae.data.tables.column import TableColumn
from mvae.data.tables.dates import _far
from mvae.data.tables.infer import infer
from mvae.errors import DataError, SettingsError
from tests.unchecked import unchecked

pd = pytest.importorskip("pandas")


def series(values: list[Any], dtype: Any = None) -> Any:
    return pd.Series(values, dtype=object if dtype is None and any(isinstance(v, str) for v in values) else dtype)


def strings(values: Any) -> list[str]:
    return [str(value) for value in values]


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([0.5, 41.0, -3.0], "real", "numbers with fractions, -3 to 41"),
        (strings([0.5, 41.25, -3]), "real", "numbers with fractions"),
        (["1,5", "1.234,5", "-2"], "real", "written as 1.234,5"),
        (["1,234", "2,000", "1,500,000", "3,001", "5,000", "6,000", "7,100", "8,000", "9,000", "9,001", "9,002"],
         "positive", "written as 1,234.5"),
        (np.exp(RANDOM.standard_normal(500)), "positive", "skewed numbers above 0"),
        (["12%", "7.5%", "-3%"], "real", "numbers with fractions, -3 to 12, written as 1234.5%"),
        (["$1,234.50", "-$3.25", "$ 7"], "real", "-3.25 to 1234, written as $1,234.5"),
        (["1,5 kg", "80 kg", "7,25kg"], "real", "written as 1.234,5 kg"),
        (["₹12,34,567.50", "₹1,000", "-₹3"], "real", "-3 to 1234568, written as ₹1,234.5"),
        (["kr 1.234,50", "kr 8", "-kr 7"], "real", "-7 to 1234, written as kr 1.234,5"),
        (["R$ 1.5", "R$ 12", "R$ 7"], "real", "1.5 to 12, written as R$ 1234.5"),
        (["5.5 min.", "20 min.", "10 min."], "real", "5.5 to 20, written as 1234.5 min."),
        (["\u22125.5", "0.25", "\u2013 3", "7"], "categorical", "4 different values"),
        (["\u22125.5", "0.25", "\u20133", "7"], "real", "-5.5 to 7"),
        (["1\u2009234.5", "\u22122\u2009000", "3"], "real", "-2000 to 1234, written as 1 234.5"),
        (["01:30:00", "00:45:10", "12:00:00"], "categorical", "times as '01:30:00'; for their size to count"),
        ([f"{i // 60}:{i % 60:02} pm" for i in range(60, 150)], "ignored", "times as '1:00 pm'"),
        (["5 mg", "20 mg", "10 mg"], "ordinal", "3 different integers, 5 to 20, written as 1234.5 mg"),
        (["7.png", "8.png", "9.png"], "ignored", "paths of pictures"),
        (["5-", "7-", "9-"], "categorical", "text with 3 different values"),
        (["7 kg", "15 lb", "9 kg"], "categorical", "text with 3 different values"),
        ([*(f"{i}.5 kg" for i in range(95)), "7"], "ignored", "most are numbers as '12 kg': write all of them so"),
        ([0.25, 0.5, 1.0], "bounded", "numbers from 0 to 1"),
        (RANDOM.poisson(6, 500), "count", "integers, 0 to"),
        (RANDOM.poisson(1.5, 500), "count", "integers, 0 to"),
        ([0] * 900 + [1] * 250 + [2] * 60 + [4] * 8, "count", "integers, 0 to 4"),  # new rows may have a 5
        ([0] * 600 + [1] * 250 + [2] * 60 + [3] * 40, "ordinal", "4 different integers, 0 to 3"),
        (RANDOM.negative_binomial(2, 0.1, 500), "count", "integers, 0 to"),
        (RANDOM.integers(0, 101, 500), "real", "less spread or skewed than counts are"),
        (RANDOM.binomial(15, 0.3, 500), "real", "less spread or skewed than counts are"),
        (100 - RANDOM.poisson(6, 500), "real", "integers, 8"),
        (range(20, 60), "real", "integers, 20 to 59"),
        (range(1000, 1100), "ignored", "it numbers the rows"),
        ([3, 4, 5, 3], "ordinal", "3 different integers"),
        ([0, 1, 1.0], "binary", "only 0 and 1"),
        ([True, False], "binary", "booleans"),
        (["yes", "no", ""], "binary", "two values: no, yes"),
        (["a", "b", "c", "a"], "categorical", "text with 3 different values"),
        ([*(f"{i} kg" for i in range(60)), "7"] * 9, "categorical", "values, most are numbers as '12 kg': write all"),
        (["2020-01-31", "2021-12-01"], "date", "dates as 2020-01-31"),
        (["31.01.2020", "01.12.2021"], "date", "dates as 31.01.2020"),
        (["0001-01-01", "9999-12-31", "2020-02-02"], "date", "dates as 0001-01-01"),
        (["01/31/2020", "12/01/2021"], "date", "dates as 01/31/2020"),
        (pd.to_datetime(["2020-01-31", None, "2021-01-31"]), "date", "dates"),
        (pd.to_datetime(["2020-01-31", None]), "constant", "always 2020-01-31"),
        ([1, 2, 1], "binary", "two integers, 1 and 2"),
        ([0.5, 1.0] * 30, "binary", "two numbers, 0.5 and 1"),
        ([0.5, 1.0] * 3, "bounded", "numbers from 0 to 1"),
        (["0.5", "1.25"] * 30, "binary", "two numbers, 0.5 and 1.25"),
        (["0.5", "0.50"] * 30, "real", "0.5 to 0.5"),  # one number
        (["0,5", "1,25"] * 30, "real", "0.5 to 1.25, written as 1.234,5"),  # 0.5 would be another class
        (pd.Categorical(["lo", "hi"], ["lo", "hi"], ordered=True), "ordinal", "categories of the data frame"),
        (pd.Categorical([1, 2]), "categorical", "categories of the data frame"),
        (["x", "", "x"], "constant", "always x"),
        ([None, np.nan], "ignored", "no training row has it"),
        (["", "NaN", "null"], "ignored", "no training row has it"),
        ([2**53 + 2, 2**60 + 1, 5], "ignored", "integers beyond 2⁵³"),
        ([f"name {i}" for i in range(100)], "ignored", "100 different texts in 100 cells"),
        (["a.png", "b.png", "c.png"], "ignored", "paths of pictures, which are not there"),
        (np.exp(10 + RANDOM.standard_normal(500)).round(), "positive", "skewed integers above 0"),
        (2_000_000 - np.exp(10 + RANDOM.standard_normal(500)).round(), "real", "integers, 1"),
    ],
)  # fmt: skip
def test_a_kind_is_proposed_with_its_reason(values: Any, kind: str, reason: str) -> None:
    column = infer(
        "x", pd.Series(values if hasattr(values, "dtype") else list(values), dtype=getattr(values, "dtype", None))
    )
    assert (column.kind, reason in column.reason) == (kind, True), column
    assert TableColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["1.5", "n/a", *strings(range(2, 40))], None, "holds numbers, except 'n/a' (1 cells): if they mean missing"),
        ([*["n/a"] * 30, *strings(range(2, 80))], None, "holds numbers, except 'n/a' (30 cells): if they mean missing"),
        ([*(f"{i} kg" for i in range(40)), "7 lb"], "real", "row 40: '7 lb' is not a value of kind real"),
        (["n/a", *(f"{i} kg" for i in range(2, 40))], None, "holds numbers, except 'n/a' (1 cells): if they mean"),
        ([1, "a", 2.5], None, "mixes text ('a') and other values (1)"),
        ([[1, 2], [3]], None, "column 'x' has cells of type list: give it a number or a text in each"),
        ([1j, 2.5], None, "has complex numbers: give real and imaginary parts as two columns"),
        (["2020-01-31", "31.01.2020", "01.02.2020"], None, "in two formats, such as '2020-01-31' and '31.01.2020'"),
        ([1.5, np.inf], None, "row 1: inf is not a finite number"),
        (["1.5", "-Infinity", "2"], None, "row 1: -Infinity is not a finite number"),
        ([1.5, 1e200], None, "row 1: 1e+200 is beyond 1e+100, the largest number modelled"),
        (["1.5", "1e400", "2"], "real", "row 1: 1e400 is beyond 1e+100, the largest number modelled"),
        ([1.0, -2.0], "positive", "row 1: -2.0 is not a value of kind positive"),
        ([1.0, 2.5], "count", "row 1: 2.5 is not a value of kind count"),
        (["a", "b"], "real", "row 0: 'a' is not a value of kind real"),
        (["a", "b", "c"], "binary", "declared binary, but has 3 values"),
        (["a", "b"], "date", "'a' is in no known format"),
    ],
)  # fmt: skip
def test_cells_that_do_not_fit_a_kind_are_refused(values: list[Any], kind: str | None, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        infer("x", series(values), kind=kind)
    assert "column 'x'" in str(caught.value)
    with pytest.raises(SettingsError, match="did you mean 'ordinal'"):
        infer("x", series(values), kind="ordinl")


@pytest.mark.parametrize("kind", ["binary", "categorical", "ordinal"])
def test_a_declared_column_with_one_value_is_a_constant(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """`mvae describe` reads all rows, so a rare value may occur in no training row."""
    column = infer("x", series(["a", "a"]), kind=kind)
    assert (column.kind, column.classes) == ("constant", ("a",))
    assert f"column 'x' is declared {kind}, and all its training cells are 'a'" in caplog.text


def test_declared_levels_keep_their_order_even_if_unseen() -> None:
    cells = series(["mid", "low", "", "high", "mid"])
    column = infer("x", cells, kind=("ordinal", "low", "mid", "high", "extreme"))
    codes, here = column.encode(cells)
    assert codes[here].tolist() == [1, 0, 2, 1]
    assert column.decode(np.array([3.0, 0.0])).tolist() == ["extreme", "low"]
    assert column.reason == "declared, low < mid < high < extreme"
    assert TableColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column
    assert infer("x", series([30, 10, 10]), kind=("ordinal", "30", 20, 10)).classes == (30, 20, 10)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (("ordinal", "a", "b"), DataError, "row 2: 'c' is none of a, b: correct it, declare"),
        (("ordinal", "a", "b", "c", "a"), SettingsError, "its levels, a, b, c, a, must be two or more, each once"),
        (("ordinal", "a"), SettingsError, "its levels, a, must be two or more"),
        (("categorical", "a", "b"), SettingsError, "categorical takes neither bounds nor levels"),
        (("bounded", 0, 1, 2), SettingsError, "bounded takes two bounds, not 3"),
        ({"kind": "real"}, SettingsError, "a kind is 'real' and the like, ('bounded', low, high) or ("),
        ((), SettingsError, "level, …), not ()"),
    ],
)  # fmt: skip
def test_invalid_levels_and_bounds_are_refused(kind: Any, error: type, message: str) -> None:
    with unchecked(), pytest.raises(error, match=re.escape(message)):
        infer("x", series(["a", "b", "c"]), kind=kind)


def test_ten_thousand_categories_are_ignored_unless_declared() -> None:
    values = series([f"c{i % 10_000}" for i in range(30_000)])
    assert infer("x", values).kind == "ignored"
    column = infer("x", values, kind="categorical")
    assert len(column.classes) == 10_000
    codes, here = column.encode(values)
    assert here.all()
    assert (column.decode(codes) == values.to_numpy()).all()


CASES = {
    "text numbers": (series(["1.50", "", "12.25", "?"]), "real", ["?"]),
    "decimal comma": (series(["1,5", "", "12,2", "-3,1"]), "real", []),
    "integers": (series(["007", "3", "", "12"]), "real", []),
    "nullable": (series([3, None, 2, 5], "Int64"), "count", []),
    "floats": (series([1.5, np.nan, 2.25, -999.0]), "real", [-999]),
    "int8": (series([1, -9, 3, 2], "int8"), "ordinal", [-9]),
    "levels as floats": (series([1.0, np.nan, 3.0, 2.0]), "ordinal", []),
    "0 and 1 as floats": (series([1.0, np.nan, 0.0, 1.0]), "binary", []),
    "category": (series(["a", None, "b", "c"], "category"), "categorical", []),
    "yes or no": (series(["yes", "no", "", "no"]), "binary", []),
    "booleans": (series([True, None, False, True], "boolean"), "binary", []),
    "dates": (series(["31.01.2020", "", "01.02.2021", "03.03.2019"]), "date", []),
    "datetime": (series(pd.to_datetime(["2020-01-31", None, "2021-01-01", "2019-02-02"])), "date", []),
    "zone": (series(pd.to_datetime(["2020-01-31", None, "2021-01-01"]).tz_localize("Europe/Oslo")), "date", []),
    "string": (series(["a", None, "b", "c"], "string"), "categorical", []),
    "constant": (series(["x", "", "x", "x"]), "constant", []),
}


@pytest.mark.parametrize("case", CASES)
def test_observed_cells_are_kept_and_filled_ones_have_the_columns_type(case: str) -> None:
    values, kind, missing = CASES[case]
    values.index = [f"row {i}" for i in range(len(values))]
    column = infer("x", values, missing, None if kind == "constant" else kind)
    numbers, here = column.encode(values)
    assert not here.all()
    assert (here == column.present(values)).all()
    filled = column.filled(values, np.where(here, -1e9, np.nanmean(numbers)))  # -1e9 must never be used
    assert filled.dtype == values.dtype
    assert filled.index.equals(values.index)
    assert all(a is b or a == b for a, b in zip(filled[here], values[here], strict=True))
    assert column.present(filled).all()
    again, there = column.encode(filled, strict=True)
    assert there.all()
    assert (again[here] == numbers[here]).all()
    if kind == "constant":
        assert filled.tolist() == ["x"] * 4


def test_filled_text_has_the_format_of_its_column() -> None:
    for values, number, text in (
        (["1.50", "", "12.25"], 3.14159, "3.14"),
        (["1,5", "", "12,2"], 3.14159, "3,1"),
        (["12", "", "30", *strings(range(14, 29))], 17.6, "18"),
        (["1e-3", "", "2e-5"], 0.25, "0.25"),
        (["31.01.2020", "", "01.02.2021"], 86_400 * 365.4, "01.01.1971"),
    ):
        column = infer("x", series(values))
        assert column.filled(series(values), np.full(len(values), number)).tolist() == [values[0], text, *values[2:]]


@pytest.mark.parametrize(
    ("cells", "filled"),
    [
        (["12.5%", "-3.0%", "99.9%"], "-7.2%"),
        (["$1,234.50", "-$3.25", "$17.00"], "-$7.25"),
        (["1.234,5 €", "-80,0 €", "7,2 €"], "-7,2 €"),
        (["₹12,34,567.50", "-₹3.25", "₹17.00"], "-₹7.25"),
    ],
)
def test_numbers_with_a_unit_are_filled_in_with_it(cells: list[str], filled: str) -> None:
    column = infer("x", series([*cells, ""]))
    values, here = column.encode(series([*cells, ""]))
    assert here.tolist() == [True, True, True, False]
    assert column.filled(series([*cells, ""]), np.full(4, -7.25)).tolist() == [*cells, filled]
    again = column.decode(values[here])
    assert column.encode(series(again.tolist()))[0].tolist() == values[here].tolist()
    assert column.encode(series([re.sub(r"[^\d.,-]", "", cell) for cell in cells]))[0].tolist() == values[here].tolist()


def test_dates_beyond_nanoseconds_are_dates() -> None:
    """With pandas 2, whose dates are nanoseconds, such columns were categories."""
    days = [datetime.date(1, 1, 1), datetime.date(2020, 2, 29), datetime.date(9999, 12, 31)]
    expected = [(day.toordinal() - datetime.date(1970, 1, 1).toordinal()) * 86_400.0 for day in days]
    moments = [datetime.datetime.combine(day, datetime.time()) for day in days]
    for cells in (strings(days), days, moments, [f"{day:%d.%m.}{day.year:04}" for day in days]):
        column = infer("end", pd.Series(cells, dtype=object))
        assert column.kind == "date"
        assert column.encode(pd.Series(cells, dtype=object))[0].tolist() == expected
        assert column.filled(pd.Series([*cells, None], dtype=object), np.array([*expected, 0.0])).tolist()[:3] == cells
    assert [_far(f"{day}T10:00:00+02:00", "%Y-%m-%dT%H:%M:%S%z") - 8 * 3600 for day in days[::2]] == expected[::2]
    for other in ("2020-02-29", "9999-02-30", "word", 12.5):
        assert np.isnan(_far(other, "%Y-%m-%d"))


def test_levels_with_a_unit_are_in_the_order_of_their_numbers() -> None:
    assert infer("dose", series(["20 mg", "5 mg", "10 mg"])).classes == ("5 mg", "10 mg", "20 mg")
    assert infer("dose", series(["20 mg", "5 mg", "10 mg"]), kind="ordinal").reason == "declared"


def test_a_damaged_style_of_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="no style of numbers '1_234'"):
        TableColumn("x", "real", dtype="text", style="1_234").encode(series(["1"]))


def test_the_same_values_in_other_types_are_recognised() -> None:
    column = infer("x", series([1, 2, 3, 2], "int64"), kind="categorical")
    for other in (
        series(["1", "2", "3"]),
        series([1.0, 2.0, 3.0]),
        series([1, 2, 3], "Int8"),
        series(["1.0", "2.0", "3.0"]),
    ):
        assert column.encode(other, strict=True)[0].tolist() == [0, 1, 2]
    flag = infer("x", series([True, False]))
    for other in (series([1, 0]), series(["True", "false"]), series([1.0, 0.0])):
        assert flag.encode(other, strict=True)[0].tolist() == [1, 0]
    real = infer("x", series(["1,5", "2,5"]))
    assert real.encode(series([1.5, np.nan]))[0].tolist()[0] == 1.5


def test_an_unknown_category_is_missing_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    column = infer("city", series(["Oslo", "Bergen", "Hamar"]))
    with caplog.at_level(logging.WARNING, "mvae.data"):
        numbers, here = column.encode(series(["Oslo", "Paris", ""]))
    assert here.tolist() == [True, False, False]
    assert np.isnan(numbers[1])
    assert "row 1: 'Paris' is a category that no training row has" in caplog.text
    column.encode(series(["OSLO "]))
    assert "'OSLO ' is a category that no training row has (did you mean 'Oslo'?)" in caplog.text
    kept = column.filled(series(["Oslo", "Paris", ""]), np.zeros(3))
    assert kept.tolist() == ["Oslo", "Paris", "Bergen"]  # observed cells are kept


def test_a_fully_missing_column_gets_its_trained_type() -> None:
    city, visit = infer("city", series(["Oslo", "Bergen", "Hamar"])), infer("x", series(["2020-01-31", "2021-12-01"]))
    assert city.filled(series([np.nan, np.nan]), np.array([0.0, 2.0])).tolist() == ["Bergen", "Oslo"]
    assert city.filled(series([3.0, np.nan]), np.array([0.0, 2.0])).tolist() == [3.0, "Oslo"]  # observed cells are kept
    assert visit.filled(series([np.nan, np.nan]), np.array([0.0, 86_400.0])).dtype.kind == "M"


def test_typed_codes_keep_their_leading_zero() -> None:
    code = infer("code", pd.Series(["01", "02", "10"] * 5, dtype=object))
    assert list(code.typed(["01", "10", ""])[:2]) == ["01", "10"]
    stage = infer("stage", pd.Series(["1", "2.0", "10"] * 5, dtype=object))
    assert list(stage.typed(["1", "2.0", ""])[:2]) == [1, 2]


@pytest.mark.parametrize("dtype", [object, "str", "string"])
def test_numbers_in_text_columns_are_filled_in_as_text(dtype: Any) -> None:
    series = pd.Series(["1,5", "2,5", None, "9,4"], dtype=dtype)
    found = infer("x", series).filled(series, np.array([0, 0, 5.8, 0]))
    assert found.tolist() == ["1,5", "2,5", "5,8", "9,4"]


def test_a_text_column_may_begin_with_many_missing_cells() -> None:
    series = pd.Series([None] * 150 + ["1.5", "2.5", "9.5"], dtype=object)
    assert set(infer("x", series).filled(series, np.full(153, 4.5))) == {"4.5", "1.5", "2.5", "9.5"}


def test_a_sparse_column_is_filled_in() -> None:
    series = pd.Series(pd.arrays.SparseArray([0.0, 1.5, np.nan, 2.5]))
    assert infer("x", series).filled(series, np.full(4, 9.0)).tolist() == [0.0, 1.5, 9.0, 2.5]


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        ([datetime.time(1), datetime.time(2)], None, r"cells of type time \(datetime\.time\(1, 0\)\): give numbers"),
        (pd.to_timedelta([1, 2], "D"), None, "cells of type Timedelta .*for a duration, its seconds"),
        ([2019, 2020, 2021], "date", "row 0: 2019 is not a value of kind date"),  # not read as years or nanoseconds
    ],
)
def test_unsupported_cell_types_are_refused(cells: Any, kind: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer("x", pd.Series(cells), kind=kind)


def test_marked_cells_are_missing_and_zero_is_not() -> None:
    column = infer("x", series([0.0, 1.5, -999.0, np.nan]), [-999])
    assert column.present(series([0.0, 1.5, -999.0, np.nan])).tolist() == [True, True, False, False]
    text = infer("x", series(["0", "1.5", "-999", "-999.0", "?", " "]), [-999, "?"])
    assert text.present(series(["0", "1.5", "-999", "-999.0", "?", " "])).tolist() == [True, True, *[False] * 4]


def test_dates_of_any_century_survive_a_round_trip() -> None:
    written_as = ["0001-01-01", "9999-12-31", "1583-10-15"]
    column = infer("x", series(written_as))
    values, here = column.encode(series(written_as))
    assert here.all()
    assert column.decode(values).tolist() == written_as
    assert column.decode(np.array([-1e12, 1e12])).tolist() == written_as[:2]  # values beyond them are clipped


@pytest.mark.parametrize("kind", ["float64", "float32", "Float32", "float32[pyarrow]"])
def test_a_missing_value_mark_is_found_at_lower_precision(kind: str) -> None:
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    cells = pd.Series([14.5, -99.9, 3.25]).astype("float32" if "32" in kind else kind).astype(kind)
    assert infer("t", cells, [-99.9]).present(cells).tolist() == [True, False, True]


def test_a_numeric_missing_value_mark_may_be_given_as_text() -> None:
    cells = pd.Series([1, -999, 3])
    assert infer("t", cells, ["-999"]).present(cells).tolist() == [True, False, True]


@pytest.mark.parametrize("kind", ["Int64", "Int8", "UInt16", "int64[pyarrow]"])
def test_nullable_integers_are_filled_in_with_integers_of_their_type(kind: str) -> None:
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    cells = pd.Series([3, None, 90, None], dtype="Int64").astype(kind)
    found = infer("t", cells, kind="real").filled(cells, np.array([0, 41.7, 0, 1e6]))
    most = {"Int8": 127, "UInt16": 65_535}.get(kind, 1_000_000)
    assert found.dtype == cells.dtype
    assert found.tolist() == [3, 42, 90, most]


def test_the_word_none_is_a_category() -> None:
    cells = pd.Series(["none", "mild", "severe", "", None], dtype=object)
    column = infer("severity", cells)
    assert column.classes == ("mild", "none", "severe")
    assert column.present(cells).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("cell", ["-999", "-999.00", "-999,0", " -999.0 "])
def test_a_missing_value_mark_is_found_in_any_notation(cell: str) -> None:
    assert missing_cells(np.array([cell, "-99"], object), [-999]).tolist() == [True, False]


def test_text_dates_are_filled_in_in_their_own_format() -> None:
    trained = infer("day", pd.Series(pd.to_datetime(["2021-01-02", "2021-03-04", None])))
    cells = pd.Series(["06.03.2021", "", "16.03.2021"], dtype=object)
    seconds, here = trained.encode(cells)
    assert here.tolist() == [True, False, True]
    assert seconds[2] - seconds[0] == 10 * 86_400
    assert trained.filled(cells, seconds[[0, 2, 2]]).tolist() == ["06.03.2021", "16.03.2021", "16.03.2021"]


@pytest.mark.parametrize("zone", ["", "UTC"])
def test_dates_are_filled_in_with_the_time_zone_of_the_column(zone: str) -> None:
    days = pd.Series(pd.to_datetime(["2021-01-02", "2021-03-04", None]))
    here, there = (days.dt.tz_localize("UTC"), days) if zone else (days, days.dt.tz_localize("UTC"))
    found = infer("day", there).filled(here, np.full(3, 86_400.0 * 18_700))
    assert found.dtype == here.dtype
    assert found[2].tz_localize(None) == pd.Timestamp("2021-03-14")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["+02:00", "+02:00"], "2021-03-14T02:00:00+02:00"),
        (["-0330", "-0330"], "2021-03-13T20:30:00-0330"),
        (["Z", "Z"], "2021-03-14T00:00:00Z"),
        (["+01:00", "+02:00"], "2021-03-14T00:00:00+00:00"),  # summer and winter
        (["+0100", "+0200"], "2021-03-14T00:00:00+0000"),
    ],
)
def test_text_dates_are_filled_in_with_the_time_zone_of_the_others(written: list[str], expected: str) -> None:
    days = [f"2021-0{i + 1}-02T03:04:05{ending}" for i, ending in enumerate(written)]
    cells = pd.Series([*days, None], dtype=object)
    found = infer("day", cells).filled(cells, np.full(3, 86_400.0 * 18_700))
    assert found.tolist() == [*days, expected]


def test_cells_of_types_unseen_in_training_keep_their_type() -> None:
    words = infer("b", pd.Series(["True", "False", "True"], dtype=object))
    assert words.filled(pd.Series([True, None], dtype="boolean"), np.array([0, 1.0])).tolist() == [True, True]
    money = pd.Series([Decimal("1.50"), None, Decimal("2.25"), Decimal("7.10")], dtype=object)
    assert infer("m", money, kind="real").filled(money, np.full(4, 3.14159))[1] == Decimal("3.14")
    days = pd.Series([None, datetime.date(2021, 3, 4), datetime.date(2021, 3, 5)], dtype=object)
    assert infer("d", days).filled(days, np.full(3, 86_400.0 * 18_700))[0] == datetime.date(2021, 3, 14)


def test_infinite_and_huge_cells_raise_no_warnings() -> None:
    found = infer("x", pd.Series(["1.5", "2.25", "9.75"] * 5, dtype=object))
    cells = pd.Series(["inf", "1" + "0" * 308, "2.5", "2.125", ""], dtype=object)
    assert found.unlike(cells).tolist() == [True, False, False, True, False]


def test_classes_are_filled_in_with_the_columns_notation() -> None:
    found = infer("b", pd.Series(["True", "False", "True"], dtype=object))
    cells = pd.Series(["TRUE", "FALSE", None, ""], dtype=object)
    assert found.filled(cells, np.array([0, 0, 1.0, 0])).tolist() == ["TRUE", "FALSE", "TRUE", "FALSE"]
    for known, filled in (("TRUE", "FALSE"), ("true", "false"), ("True", "False")):  # the other class is absent
        assert found.filled(pd.Series([known, None], dtype=object), np.zeros(2)).tolist() == [known, filled]
    numbers = infer("n", pd.Series(["1", "2", "2"], dtype=object))
    assert numbers.filled(pd.Series(["1.0", "2.0", ""], dtype=object), np.ones(3)).tolist() == ["1.0", "2.0", "2.0"]


@pytest.mark.parametrize("bounds", [(100, 0), (5, 5), ("a", 3), (0, None), (True, False)])
def test_bounds_must_be_two_increasing_numbers(bounds: Any) -> None:
    with pytest.raises(SettingsError, match="bounded takes two numbers, the lower one first, not"):
        infer("x", pd.Series([1.5, 2.5]), kind=("bounded", *bounds))
    with pytest.raises(DataError, match=r"2.5 is not a value of kind bounded, from 0 to 2: .*another kind or bounds"):
        infer("x", pd.Series([1.5, 2.5]), kind=("bounded", 0, 2))


def test_a_single_class_is_reported_as_a_python_value(caplog: pytest.LogCaptureFixture) -> None:
    assert infer("x", pd.Series([1, 1], dtype="int64"), kind="categorical").kind == "constant"
    assert "all its training cells are 1: a constant" in caplog.text


def test_names_that_look_like_huge_numbers_are_names() -> None:
    found = infer("brand", series(["Infinity", "Acme", "Infinity", "12E456"]))
    assert (found.kind, found.classes) == ("categorical", ("12E456", "Acme", "Infinity"))
    versions = infer("version", series(["1.2.3e100", "1.0", "1.0.0", "1..2e345"]))
    assert versions.classes == ("1..2e345", "1.0", "1.0.0", "1.2.3e100")


def test_single_precision_numbers_in_an_object_column_raise_no_warnings() -> None:
    assert infer("x", pd.Series([np.float32(1.5), np.float32(2.25), 3.5], dtype=object)).kind == "real"


@pytest.mark.parametrize("cells", [["inf", "1,5", "2,25"], ["1,234.5", "1e400", "2,345.6"]])
def test_huge_cells_among_numbers_of_any_notation_are_refused(cells: list[str]) -> None:
    with pytest.raises(DataError, match=r"(inf is not a finite number|1e400 is beyond 1e\+100)"):
        infer("x", series(cells * 5))


def test_one_value_in_several_spellings_is_a_constant_and_minus_zero_is_zero() -> None:
    for cells in (["1", "1.0"], ["5", "5.0"], ["0.0", "-0.0"], [0.0, -0.0]):
        assert infer("x", pd.Series(cells * 9)).kind == "constant"
    column = infer("x", pd.Series(["-0.0", "0.0", "1.0"] * 9))
    assert (column.kind, len(column.classes)) == ("binary", 2)
    assert column.encode(pd.Series(["0", "-0", "1", "-0.0"]))[0].tolist() == [0, 0, 1, 0]
