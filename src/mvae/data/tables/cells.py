"""Cells of a column in any type: the distinct ones, those that mean missing, and the order of categories."""

import datetime
import numbers
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from mvae.data.tables.dates import as_seconds, format_of
from mvae.data.tables.frames import pandas
from mvae.data.tables.numbers import as_numbers, style_of, trimmed
from mvae.errors import DataError, SettingsError, abridged

__all__ = [
    "Missing", "Series", "category_order", "factorized", "is_text", "marks_of", "missing_cells", "object_kind", "plain",
    "restored", "row_named",
]  # fmt: skip

EMPTY = ("", "nan", "null", "<na>")  # what text files write for missing, in lower case
_TEXT = re.compile(r"(dictionary<values=)?(large_)?str(ing)?(_view)?\b")  # the names of types that hold text only
Missing = Sequence[str | int | float]
Series = Any  # a Series of pandas, which is an optional dependency


def factorized(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The index of each cell among the distinct cells (−1: missing for pandas), and the distinct cells.

    Raises:
        DataError: cells that are complex numbers, lists or mappings.
    """
    pd = pandas()

    try:
        codes, uniques = pd.factorize(series)
    except TypeError:
        what = next(type(cell).__name__ for cell in series if getattr(type(cell), "__hash__", None) is None)
        raise DataError(
            f"column {series.name!r} has cells of type {what}: give it a number or a text in each"
        ) from None
    if getattr(uniques.dtype, "kind", "") == "c":
        raise DataError(f"column {series.name!r} has complex numbers: give real and imaginary parts as two columns")
    if isinstance(uniques, np.ndarray):
        return codes, uniques
    own = getattr(uniques.dtype, "numpy_dtype", uniques.dtype)  # of a nullable type, without missing values
    numeric = isinstance(own, np.dtype) and own.kind in "iuf"
    return codes, uniques.to_numpy(own) if numeric else np.asarray(uniques, object)


def row_named(index: Any, place: int) -> str:
    """The name of a row for messages: its label, which is the row number in a file."""
    label = index[place]
    return repr(label) if isinstance(label, str) else str(label)


def is_text(cells: Any) -> bool:
    """Are these cells text?"""
    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "U" or (cells.dtype == object and any(isinstance(c, str) for c in cells[:100]))
    return _TEXT.match(str(cells.dtype)) is not None or (
        cells.dtype == object and any(isinstance(cell, str) for cell in cells.dropna().iloc[:100])
    )


def missing_cells(uniques: np.ndarray, named: Missing, style: str = "") -> np.ndarray:
    """The mask of these distinct cells that mean missing: those that are empty, NaN or null, and those in ``named``.

    Numbers in text are compared in the style of the column's numbers, if it is given.

    >>> missing_cells(np.array(["80 kg", "-999 kg", "-999"], object), [-999], "1234.5 kg").tolist()
    [False, True, True]
    >>> missing_cells(np.array(["", "NaN", "?", "-999", "0"], object), ["?", -999]).tolist()
    [True, True, True, True, False]
    """
    if uniques.dtype.kind == "b":
        return np.zeros(len(uniques), bool)
    if uniques.dtype.kind in "iuf":
        marks = np.array([*_numbers_in(named)])
        if uniques.dtype.kind == "f":  # in lower precision, −99.9 is another number
            held = np.isinf(marks) | (np.abs(marks) <= np.finfo(uniques.dtype).max)
            return np.isin(uniques, marks[held].astype(uniques.dtype)) | np.isnan(uniques)
        return np.isin(uniques, marks)
    if uniques.dtype.kind in "mM":
        return np.isnat(uniques) | (uniques.dtype.kind == "M" and np.isin(as_seconds(uniques), _dates_in(named)))
    words = {*map(str, named), *(f"{value:.1f}" for value in named if isinstance(value, int))}
    values, every = {*_numbers_in([mark for mark in named if not isinstance(mark, str)])}, {*_numbers_in(named)}

    def gone(cell: Any) -> bool:
        if isinstance(cell, str):
            bare = cell.strip()
            return bare.lower() in EMPTY or bare in words or (bool(values) and _value(bare) in values)
        if cell is None or cell != cell:
            return True
        return isinstance(cell, numbers.Real | Decimal) and not isinstance(cell, bool) and float(cell) in every

    found = np.array([gone(cell) for cell in uniques.tolist()], bool)
    if every and style not in ("", "1234.5"):
        text = np.array([isinstance(cell, str) for cell in uniques.tolist()], bool)
        found[text] |= np.isin(as_numbers(uniques[text], style), list(every))
    dates = np.array([isinstance(cell, datetime.date) for cell in uniques.tolist()], bool) & ~found
    if dates.any() and (marks := _dates_in(named)):
        cells = uniques[dates].tolist()
        shown = [cell.replace(tzinfo=None) if isinstance(cell, datetime.datetime) else cell for cell in cells]
        found[dates] = np.isin(as_seconds(cells), marks) | np.isin(as_seconds(shown), marks)
    return found


def marks_of(named: Iterable[Any]) -> tuple[str | int | float, ...]:
    """Convert cells that mean missing for storage: numbers to Python's, dates to text; empty ones are left out.

    Raises:
        SettingsError: one that is neither text nor a number nor a date.

    >>> marks_of(["?", np.int64(-999), datetime.date(1900, 1, 1), None, Decimal("-9")])
    ('?', -999, '1900-01-01', -9.0)
    """
    pd = pandas()

    found: list[str | int | float] = []
    for mark in named:
        value = pd.Timestamp(mark) if isinstance(mark, np.datetime64) else mark
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or value is pd.NA or (isinstance(value, float | Decimal | datetime.date) and value != value):
            continue
        if isinstance(value, datetime.date):
            value = str(value).removesuffix(" 00:00:00")
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise SettingsError(
                f"missing names cells that mean missing, as [-999, '?', '1900-01-01'], and {abridged(value)} is not "
                "text, a number or a date"
            )
        found.append(float(value) if isinstance(value, Decimal) else value)
    return tuple(found)


def object_kind(cell: Any) -> str:
    """The Python type of a cell if the column's dtype does not determine it (Decimal, datetime or date), else empty."""
    kinds = {"Decimal": Decimal, "datetime": datetime.datetime, "date": datetime.date}  # a datetime is a date, too
    return next((name for name, kind in kinds.items() if isinstance(cell, kind)), "")


def restored(value: Any, kind: str) -> Any:
    """Convert the text of a cell to the type that `object_kind` named; other text is returned unchanged.

    >>> restored("2020-01-31", "date"), restored("2.50", "Decimal"), restored("low", "Decimal")
    (datetime.date(2020, 1, 31), Decimal('2.50'), 'low')
    """
    if not kind:
        return value
    makers = {"Decimal": Decimal, "datetime": pandas().Timestamp, "date": datetime.date.fromisoformat}
    try:
        return makers[kind](str(value))
    except (ArithmeticError, KeyError, ValueError):  # a declared level may be anything
        return value


def _value(text: str) -> float | None:
    """The number that is written as text, with a decimal point or comma; None if the text is not a number."""
    text = trimmed(text)
    try:
        return float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return None


def _numbers_in(named: Missing) -> Iterator[float]:
    """The numbers among the named cells, including those written as text."""
    for value in named:
        try:
            yield float(value)
        except (ValueError, OverflowError):
            continue


def _dates_in(named: Missing) -> list[float]:
    """The dates among the named cells, in seconds since 1970."""
    return [seconds for mark in named if isinstance(mark, str) and (seconds := _date(mark.strip())) is not None]


@cache
def _date(mark: str) -> float | None:
    found = format_of("missing", [mark])
    return None if found is None else float(as_seconds([mark], found[0])[0])


def plain(value: Any) -> Any:
    """A category in the form in which it is compared: whole numbers and booleans the same in every type, as text."""
    if isinstance(value, str):
        bare = value.strip()
        lowered = bare.lower()
        if lowered in ("true", "false"):
            return str(int(lowered == "true"))
        whole = bare.removesuffix(".0") if bare.replace(".", "", 1).lstrip("-").isdigit() else bare
        return "0" if whole == "-0" else whole
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def category_order(values: Sequence[Any]) -> list[Any]:
    """Distinct categories in the order of their codes: numbers by size, also if they are text; others alphabetically.

    >>> category_order(["10 mg", "9 mg"]), category_order(["b", "a"]), category_order([2.0, 1.0])
    (['9 mg', '10 mg'], ['a', 'b'], [1.0, 2.0])
    """
    kept = list({plain(value): value for value in reversed(values)}.values())
    style = style_of(kept) if all(isinstance(value, str) for value in kept) else None
    numbers = as_numbers(kept, style or "1234.5")
    if not np.isnan(numbers).any():
        return [kept[i] for i in np.argsort(numbers, kind="stable")]
    return sorted(kept, key=str)
