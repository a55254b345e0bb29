"""Cells marked as missing are found in columns of every type, and no others are."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from mvae.data.tables.cells import marks_of, missing_cells
from mvae.data.tables.describe import describe
from mvae.data.tables.frames import of_frame
from mvae.data.tables.infer import infer
from mvae.errors import SettingsError
from tests.unchecked import unchecked

pd = pytest.importorskip("pandas")

DAYS = pd.to_datetime(["1900-01-01", "2020-01-31", "2021-05-06"])


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (pd.Series(DAYS), "1900-01-01"),
        (pd.Series(DAYS.astype("datetime64[ns]")), "1900-01-01 00:00:00"),
        (pd.Series(DAYS.tz_localize("Europe/Oslo")), "1900-01-01"),
        (pd.Series(DAYS.tz_localize("Europe/Oslo")), str(DAYS.tz_localize("Europe/Oslo")[0])),
        (pd.Series(list(DAYS.date), dtype=object), "01.01.1900"),
        (pd.Series([Decimal("-999"), Decimal("1.5"), Decimal("2.25")], dtype=object), -999),
        (pd.Series([Decimal("-999.0"), Decimal("1.5"), Decimal("2.25")], dtype=object), "-999"),
        (pd.Series([np.int64(-999), np.int64(1), np.int64(2)], dtype=object), -999),
        (pd.Series([np.inf, 1.5, 2.25]), float("inf")),
        (pd.Series([-np.inf, 1.5, 2.25], dtype="float32"), "-inf"),
        (pd.Series([np.inf, 1.5, 2.25], dtype=object), float("inf")),
        (pd.Series(["inf", "1.5", "2.25"], dtype=object), float("inf")),
        (pd.Series(["-999 kg", "1.5 kg", "2.25 kg"], dtype=object), -999),
        (pd.Series(["-999.0 kg", "1.5 kg", "2.25 kg"], dtype=object), "-999"),
        (pd.Series(["$9,999", "$1,250", "$2"], dtype=object), 9999),
        (pd.Series(["-9.999,0", "1,5", "2,25"], dtype=object), -9999),
        (pd.Series(["\u2212999", "1.5", "2.25"], dtype=object), -999),
    ],
)
def test_a_missing_value_mark_is_found_in_every_type(cells: Any, mark: Any) -> None:
    column = infer("x", cells, [mark])
    assert column.present(cells).tolist() == [False, True, True]
    assert column.encode(cells, strict=True)[1].tolist() == [False, True, True]
    assert infer("x", cells[1:], ["?", -1]).present(cells[1:]).all()


@pytest.mark.parametrize("dtype", [bool, object, "boolean"])
def test_zero_and_one_do_not_match_booleans(dtype: Any) -> None:
    cells = pd.Series([True, False, True], dtype=dtype)
    assert infer("x", cells, [0, 1, 0.0, "0"]).present(cells).all()
    assert not missing_cells(np.array([True, False]), [0]).any()


def test_a_mark_suggested_by_describe_is_recognised() -> None:
    days = pd.Series([*pd.date_range("2020-01-31", periods=30, freq="17h"), pd.Timestamp("1900-01-01")])
    notes = [note for note in describe(of_frame({"day": days})).notes if "far from all other" in note]
    mark = notes[0].removeprefix("day: ").partition(" is far")[0]
    assert (~infer("day", days, [mark]).present(days)).sum() == 1


@pytest.mark.parametrize(
    ("mark", "stored"),
    [
        (datetime.date(1900, 1, 1), ("1900-01-01",)),
        (pd.Timestamp("1900-01-01"), ("1900-01-01",)),
        (np.datetime64("1900-01-01T10:30"), ("1900-01-01 10:30:00",)),
        (np.int64(-999), (-999,)),
        (np.float64(-9.5), (-9.5,)),
        (Decimal("-9.5"), (-9.5,)),
        (pd.NA, ()),
        (pd.NaT, ()),
        (float("nan"), ()),
        (None, ()),
    ],
)
def test_a_mark_of_any_type_is_stored_as_text_or_a_number(mark: Any, stored: Any) -> None:
    assert marks_of([mark]) == stored


@pytest.mark.parametrize("mark", [True, np.bool_(False), [1, 2], datetime.timedelta(1), b"x", 1j])
def test_a_mark_of_another_type_is_refused(mark: Any) -> None:
    with unchecked(), pytest.raises(SettingsError, match="is not text, a number or a date"):
        infer("x", pd.Series([1.5, 2.5]), [mark])
