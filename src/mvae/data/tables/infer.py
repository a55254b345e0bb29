"""Inference of a column: its kind, the reason for it, and everything that is learned about it."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mvae.arguments import fits
from mvae.data.picture import read_picture
from mvae.data.tables.cells import (
    Missing,
    Series,
    category_order,
    factorized,
    is_text,
    marks_of,
    missing_cells,
    object_kind,
    plain,
    row_named,
)
from mvae.data.tables.column import ALONE, CLASSED, NUMBERS, ColumnKind, TableColumn
from mvae.data.tables.dates import DAY, as_seconds, format_of, rounded_to, zone_of
from mvae.data.tables.missed import say_constant
from mvae.data.tables.numbers import STYLES, as_numbers, decimals_of, places_of, short, style_of, unit_of
from mvae.data.tables.pictures import is_there, picture_file
from mvae.data.tables.texts import words_in
from mvae.errors import DataError, SettingsError, nearest

__all__ = ["NONE_THERE", "Kind", "infer"]

NONE_THERE = "no training row has it"

MOST_LEVELS = 10  # distinct integers above which they are numbers, not levels
MANY = 50  # cells from which on just two distinct numbers with fractions are two classes
ODD, FREQUENT = 5, 3  # most distinct words among numbers that may mean missing; the second limit if they are frequent
FULL = 0.9  # the maximum that numbers from 0 to 1 must exceed to be shares
FEW_COUNTS = 6  # as MOST_LEVELS, for integers that begin with 0, as counts do
RARE, LEAST_COUNTS = 0.01, 4  # of few integers: share of the largest (new rows may have a larger one), and number
MOST_NUMBERED = 50  # most classes that are numbers, if other classes have names
MOST_CLASSES = 1_000  # distinct texts above which a column is left out unless it is declared categorical
EXACT = 2**53  # up to here every integer is exactly a float
LARGEST = 1e100  # the largest number modelled: the squares of larger ones overflow
SKEWED = 1.0  # skewness above which positive numbers are modelled on a logarithmic scale
SPREAD_AS_COUNTS, SKEWED_AS_COUNTS = 0.8, 0.5  # least variance and skewness relative to those of a count
MOST_OTHERS = 0.1  # share of the texts in a column of pictures that may have other names
LOOKED_FOR = 100  # files that are looked for, of a column that may be pictures
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Times of day and durations.
_CLOCK = re.compile(r"\s*-?(\d+ days? )?\d+:\d\d(:\d\d([.,]\d+)?)?(\s*[ap]\.?m\.?)?\s*", re.IGNORECASE)
# The texts that may be huge numbers; `float` reads each of them.
_HUGE = re.compile(r"\s*[+-]?(inf|infinity|(\d+\.?\d*|\.\d+)e\+?\d{3,})\s*$", re.IGNORECASE)


Kind = str | tuple[Any, ...]
"""A kind, "bounded" with its two bounds, or "ordinal" with its levels in order."""


def infer(
    name: str,
    series: Series,
    missing: Missing = (),
    kind: Kind | None = None,
    *,
    folder: Path | None = None,
    comma_first: bool = False,
) -> TableColumn:
    """Learn a column from training rows; its kind is proposed unless it is declared.

    Args:
        name: name of the column.
        series: its training cells.
        missing: cells that mean missing, in addition to those of the file format.
        kind: the declared kind; None proposes one (check it: numbers alone do not determine their meaning).
            ``("bounded", 0, 100)`` sets bounds, ``("ordinal", "low", "mid", "high")`` the levels in order. A column
            with a single class becomes a constant.
        folder: folder that paths of pictures are relative to.
        comma_first: read ``1,234`` with a decimal comma if both readings are possible.

    Raises:
        DataError: cells of mixed types, dates in two formats, infinite or huge numbers, or cells invalid for the
            declared kind (the message names a row). SettingsError: an unknown kind, or invalid bounds or levels.

    >>> import pandas
    >>> infer("age", pandas.Series([41, 73, 12, 55, 18, 90, 33, 27, 64, 50, 8, 71])).kind
    'real'
    >>> infer("sex", pandas.Series(["f", "m", "", "f"])).reason
    'two values: f, m'
    """
    missing = marks_of(missing)
    kind, said = (kind[0], kind[1:]) if isinstance(kind, tuple) and kind else (kind, ())
    if kind is not None:
        _require_kind(name, kind, said)
    low, high = said if kind == "bounded" and said else (None, None)
    codes, uniques = factorized(series.rename(name))
    gone = missing_cells(uniques, missing)
    if missing and all(isinstance(cell, str) for cell in uniques[~gone].tolist()):
        gone = missing_cells(uniques, missing, style_of(uniques[~gone].tolist(), comma_first) or "")
    counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
    cells, often = uniques[~gone], counts[~gone]
    classed = str(series.dtype) == "category" and kind not in (*NUMBERS, "date")
    dtype = "text" if is_text(cells) and not classed else str(series.dtype)
    own = "" if dtype.startswith("datetime64") else _objects(cells)
    blank = TableColumn(name, "ignored", dtype=dtype, low=low, high=high, missing=missing, cells=own)
    if kind == "ignored":
        return replace(blank, reason="declared")
    if not len(cells):
        return replace(blank, reason=NONE_THERE)
    _require_finite(name, cells, codes, uniques, series.index)
    alike = all(plain(cell) == plain(cells[0]) for cell in cells.tolist())
    if alike and (kind is None or (kind in CLASSED and not said)):
        return _constant(blank, kind, cells[0])
    found = _proposed(blank, series, cells, often, folder, comma_first) if kind is None else blank
    found = replace(found, kind=kind, reason="declared") if kind is not None else found
    found = _learned(found, series, cells, comma_first, said if kind == "ordinal" else ())
    if kind == "ordinal":
        found = replace(found, reason=_order_declared(found, series, said))
    if found.kind not in ("ignored", "constant", *ALONE):
        found.encode(series, strict=True)
    return found


def _objects(cells: np.ndarray) -> str:
    """The type of these cells if all are objects of the same one that `object_kind` names; else empty."""
    own = object_kind(cells[0]) if len(cells) and cells.dtype == object else ""
    return own if own and all(object_kind(cell) == own for cell in cells.tolist()) else ""


def _constant(blank: TableColumn, declared: str | None, cell: Any) -> TableColumn:
    """A column with one value; warns if classes were declared, because others may occur only outside these rows."""
    if declared is not None:
        say_constant(blank.name, declared, _python(cell))
    return replace(blank, kind="constant", classes=(_python(cell),), reason=f"always {cell}")


def _require_kind(name: str, kind: object, said: Sequence[Any]) -> None:
    if not isinstance(kind, str):
        raise SettingsError(
            f"column {name!r}: a kind is 'real' and the like, ('bounded', low, high) or ('ordinal', level, level, …), "
            f"not {kind!r}"
        )
    known = get_args(ColumnKind)
    if kind not in known:
        raise SettingsError(f"column {name!r}: no kind {kind!r}; there are {', '.join(known)}{nearest(kind, known)}")
    if said and kind not in ("bounded", "ordinal"):
        raise SettingsError(f"column {name!r}: {kind} takes neither bounds nor levels; bounded and ordinal do")
    if said and kind == "bounded" and len(said) != 2:
        raise SettingsError(f"column {name!r}: bounded takes two bounds, not {len(said)}")
    if said and kind == "bounded" and not (all(fits(end, float) for end in said) and said[0] < said[1]):
        raise SettingsError(
            f"column {name!r}: bounded takes two numbers, the lower one first, not {said[0]!r} and {said[1]!r}"
        )


def _levels(name: str, said: Sequence[Any], cells: np.ndarray) -> tuple[Any, ...]:
    """The declared levels, written as in the cells; a level that no cell has is kept, too."""
    if len(category_order(said)) < max(2, len(said)):
        raise SettingsError(f"column {name!r}: its levels, {', '.join(map(str, said))}, must be two or more, each once")
    own = {plain(cell): _python(cell) for cell in cells.tolist()}
    return tuple(own.get(plain(level), level) for level in said)


def _order_declared(column: TableColumn, series: Series, said: Sequence[Any]) -> str:
    """The reason for the order of a declared ordinal column's levels."""
    order = " < ".join(map(str, column.classes))
    if said:
        return f"declared, {order}"
    words = isinstance(column.classes[0], str) and style_of(map(str, column.classes)) is None
    if words and str(series.dtype) != "category":
        return f"declared; in alphabetical order, {order}: declare levels for another order"
    return "declared"


def _proposed(
    blank: TableColumn, series: Series, cells: np.ndarray, often: np.ndarray, folder: Path | None, comma_first: bool
) -> TableColumn:
    """Propose the kind and reason, and determine the style of numbers or the format of dates."""
    dtype = series.dtype
    if str(dtype) == "category":
        return replace(blank, kind="ordinal" if dtype.ordered else "categorical", reason="categories of the data frame")
    if cells.dtype.kind == "M" or all(isinstance(cell, datetime.date) for cell in cells[:100].tolist()):
        return replace(blank, kind="date", reason="dates")
    if cells.dtype == bool or all(isinstance(cell, bool) for cell in cells.tolist()[:100]):
        return replace(blank, kind="binary", reason="booleans")
    text = np.array([isinstance(cell, str) for cell in cells.tolist()])
    if text.any() and not text.all():
        raise DataError(
            f"column {blank.name!r} mixes text ({cells[text][0]!r}) and other values ({cells[~text][0]!r}): make it "
            "all one type, or name the exceptions as missing"
        )
    if not text.any():
        _require_numbers(blank.name, cells)
        return _of_numbers(blank, cells, often, "")
    style = style_of(cells.tolist(), comma_first)
    if style is not None:
        written = "" if style == "1234.5" else f", written as {style}"
        return _of_numbers(replace(blank, style=style), cells, often, written)
    return _of_words(blank, cells, often, folder, comma_first)


def _require_numbers(name: str, cells: np.ndarray) -> None:
    """Raise DataError if these are neither numbers nor text: times of day, durations, bytes, tuples."""
    if (odd := np.isnan(as_numbers(cells)) | (cells.dtype.kind == "m")).any():
        kind = type(cells.tolist()[int(odd.argmax())]).__name__
        raise DataError(
            f"column {name!r} has cells of type {kind} ({cells[odd][0]!r}): give numbers, text or dates (for a "
            "duration, its seconds), or declare the column as ignored"
        )


def _some_files(words: Sequence[str], folder: Path | None) -> list[Path]:
    """The files that some of these paths name, spread over all of them."""
    return [picture_file(folder or Path(), word) for word in words[:: max(1, len(words) // LOOKED_FOR)]]


def _opens(file: Path) -> bool:
    """Whether a file is a picture that can be decoded."""
    try:
        read_picture(file, 1, 1, 1)
    except DataError:
        return False
    return True


def _of_words(
    blank: TableColumn, cells: np.ndarray, often: np.ndarray, folder: Path | None, comma_first: bool
) -> TableColumn:
    words, name = cells.tolist(), blank.name
    if (dates := format_of(name, words)) is not None:
        return replace(blank, kind="date", form=dates[0], reason=dates[1])
    if len(cells) == 2:
        return replace(blank, kind="binary", reason=f"two values: {', '.join(sorted(words))}")
    others = [word for word in words if not word.strip().lower().endswith(PICTURES)]
    if len(others) <= MOST_OTHERS * len(words):
        there = any(map(is_there, _some_files(words, folder)))
        odd = next((file for file in _some_files(others, folder) if is_there(file) and not _opens(file)), None)
        if odd is not None:
            return replace(blank, reason=f"paths of pictures and of other files, such as {odd.name!r}")
        reason = f"paths of pictures, except {len(others)} such as {others[0]!r}" if others else "paths of pictures"
        return replace(
            blank, kind="picture" if there else "ignored", reason=reason if there else f"{reason}, which are not there"
        )
    unit = unit_of(words)
    styles = ("1.234,5", "1,234.5") if comma_first else ("1234.5", "1,234.5", "1.234,5")
    for style in (*styles, *(unit.replace("#", style) for style in styles if unit)):
        odd = np.isnan(as_numbers(words, style))
        some = often[odd].sum() <= 0.1 * often.sum() and odd.sum() <= ODD
        many = often[odd].sum() <= 0.5 * often.sum() and odd.sum() <= FREQUENT and (~odd).sum() > MOST_NUMBERED
        if odd.any() and (some or many):
            listed = ", ".join(repr(word) for word in cells[odd].tolist())
            raise DataError(
                f"column {name!r} holds numbers, except {listed} ({often[odd].sum()} cells): if they mean missing, "
                f"name them (--missing, or [data] missing = [{listed}]); else write them as numbers, or declare the "
                "column as categorical"
            )
    what = f"most are numbers as {unit.replace('#', '12')!r}: write all of them so, or without the unit" if unit else ""
    if all(map(_CLOCK.fullmatch, words)):
        what = f"times as {words[0]!r}; for their size to count, write them as numbers, such as minutes"
    spaces = np.mean([word.count(" ") for word in words])
    if len(cells) > MOST_CLASSES or (len(cells) > 50 and len(cells) > 0.9 * often.sum()):
        sentences = "such as sentences; to use them, declare text"
        names = "such as names or row numbers; to use them, declare categorical"
        what = what or (sentences if spaces > 3 else names)
        return replace(blank, reason=f"{len(cells)} different texts in {often.sum()} cells, {what}")
    hint = "; declare text if they are sentences" if spaces >= 3 else ""
    reason = f"text with {len(cells)} different values{hint}"
    return replace(blank, kind="categorical", reason=f"{reason}, {what}" if what else reason)


def _of_numbers(blank: TableColumn, cells: np.ndarray, often: np.ndarray, how: str) -> TableColumn:
    """Propose the kind of a column of numbers from its distinct cells and the frequency of each."""
    numbers = as_numbers(cells, blank.style)
    low, high, whole = numbers.min(), numbers.max(), bool((numbers == np.round(numbers)).all())
    span = f"{short(low)} to {short(high)}{how}"
    if set(numbers.tolist()) <= {0.0, 1.0}:
        return replace(blank, kind="binary", reason="only 0 and 1")
    as_written = {plain(cell) for cell in cells[:3].tolist()} == {plain(number) for number in numbers[:3].tolist()}
    if len(numbers) == 2 and (whole or (often.sum() >= MANY and as_written)):
        what = "integers" if whole else "numbers"
        return replace(blank, kind="binary", reason=f"two {what}, {low:g} and {high:g}{how}")
    if whole:
        if max(abs(low), abs(high)) > EXACT:
            reason = "integers beyond 2⁵³, such as row numbers, which no float holds exactly"
            return replace(blank, reason=f"{reason}; to use them, declare categorical")
        counted = 0 <= low <= 1 and _spread_as_counts(numbers, often)
        rare = len(numbers) >= LEAST_COUNTS and often[numbers.argmax()] < RARE * often.sum()
        if len(numbers) <= (FEW_COUNTS if low == 0 else MOST_LEVELS) and not (low == 0 and counted and rare):
            reason = f"{len(numbers)} different integers, {span}; declare categorical if their order means nothing"
            return replace(blank, kind="ordinal", reason=reason)
        if often.max() == 1 and len(numbers) > 50 and (high - low < 2 * len(numbers) or (np.diff(numbers) > 0).all()):
            return replace(blank, reason=f"{span}, each once: it numbers the rows")
        if counted:
            return replace(blank, kind="count", reason=f"integers, {span}")
        if 0 <= low <= 1:
            return replace(blank, kind="real", reason=f"integers, {span}, less spread or skewed than counts are")
    elif low >= 0 and FULL < high <= 1:
        return replace(blank, kind="bounded", low=0.0, high=1.0, reason=f"numbers from 0 to 1{how}")
    what = "integers" if whole else "numbers"
    if low > 0 and _skewness(numbers, often) > max(SKEWED, abs(_skewness(np.log(numbers), often))):
        return replace(blank, kind="positive", reason=f"skewed {what} above 0, {span}")
    return replace(blank, kind="real", reason=f"{what if whole else 'numbers with fractions'}, {span}")


def _spread_as_counts(numbers: np.ndarray, often: np.ndarray) -> bool:
    """Whether whole numbers are as spread and skewed as counts.

    Given any other values of its row, a count of mean μ has a variance v of at least μ. So a score from 0 to 100 would
    be learned with an error of at least 7; as real numbers, such columns have errors a tenth smaller. The skewness of a
    negative binomial count is (2v/μ − 1)/√v.
    """
    mean = np.average(numbers, weights=often)
    variance = np.average((numbers - mean) ** 2, weights=often)
    least = SKEWED_AS_COUNTS * (2 * variance / mean - 1) / np.sqrt(variance)
    return bool(variance >= SPREAD_AS_COUNTS * mean and _skewness(numbers, often) >= least)


def _skewness(values: np.ndarray, often: np.ndarray) -> float:
    mean = np.average(values, weights=often)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=often))
    return float(np.average(((values - mean) / spread) ** 3, weights=often)) if spread > 0 else 0.0


def _learned(
    column: TableColumn, series: Series, cells: np.ndarray, comma_first: bool, levels: Sequence[Any]
) -> TableColumn:
    """Learn a column of a known kind: its classes, bounds, how its cells are written, and its resolution."""
    text = isinstance(cells[0], str)
    if column.kind in CLASSED:
        return replace(
            column, classes=_levels(column.name, levels, cells) if levels else _classes(column, series, cells)
        )
    if column.kind == "constant":
        return replace(column, classes=(_python(cells[0]),))
    if column.kind == "date":
        form = column.form
        if text and not form:
            dates = format_of(column.name, cells.tolist())
            form = dates[0] if dates is not None else ""
            if not form:
                raise DataError(f"column {column.name!r} is declared as dates; {cells[0]!r} is in no known format")
        seconds = as_seconds(cells, form)
        days = (seconds == rounded_to(seconds, DAY, zone_of(column.dtype))).all()
        return replace(column, form=form, resolution=DAY if days else float((seconds == np.round(seconds)).all()))
    if column.kind == "text":
        return replace(column, classes=words_in(cells.tolist()))
    if column.kind in ("ignored", "picture"):
        return column
    style = column.style
    if text:  # one cell in another style is refused by `encode`, which names it
        style = style_of(cells.tolist(), comma_first) or unit_of(cells.tolist()).replace("#", style) or style
    numbers = as_numbers(cells, style)
    if column.kind == "bounded" and column.low is None:
        good = numbers[np.isfinite(numbers)]
        column = replace(column, low=float(good.min()), high=float(good.max()))
    decimals = decimals_of(cells.tolist(), style) if text else None
    decimals = places_of(cells.tolist()) if column.cells == "Decimal" else decimals
    whole = bool((numbers == np.round(numbers)).all()) and (text or cells.dtype.kind in "biu" or column.kind == "count")
    resolution = 1.0 if whole else 0.0 if decimals is None else 10.0**-decimals
    return replace(column, style=style, resolution=resolution)


def _classes(column: TableColumn, series: Series, cells: np.ndarray) -> tuple[Any, ...]:
    if str(series.dtype) == "category" and series.dtype.ordered:
        used = set(cells.tolist())
        values = [value for value in series.dtype.categories.tolist() if value in used]
    else:
        values = category_order(cells.tolist())
    if column.kind == "binary" and len(values) > 2:
        raise DataError(f"column {column.name!r} is declared binary, but has {len(values)} values: {values[:5]}")
    return tuple(_python(value) for value in values)


def _require_finite(name: str, cells: np.ndarray, codes: np.ndarray, uniques: np.ndarray, index: Any) -> None:
    """Raise DataError for an infinite or huge number; as text it counts only if all other cells are numbers."""
    odd = [cell for cell in cells.tolist() if _too_large(cell)] if cells.dtype.kind in "OUf" else []
    if not odd:
        return
    rest = [cell for cell in cells.tolist() if not _too_large(cell)]
    if isinstance(odd[0], str) and all(np.isnan(as_numbers(rest, style)).any() for style in STYLES):
        return
    row = row_named(index, int((codes == uniques.tolist().index(odd[0])).argmax()))
    what = "not a finite number" if "inf" in str(odd[0]).lower() else f"beyond {LARGEST:g}, the largest number modelled"
    raise DataError(f"column {name!r}, row {row}: {odd[0]} is {what}: correct it, or name it as missing")


def _too_large(cell: Any) -> bool:
    """Is this a number beyond `LARGEST`, or a text that is read as one?"""
    if isinstance(cell, str):
        return bool(_HUGE.match(cell)) and not abs(float(cell)) <= LARGEST
    return isinstance(cell, float | np.floating) and abs(float(cell)) > LARGEST


def _python(value: Any) -> Any:
    return (
        value.item() if hasattr(value, "item") else value if isinstance(value, str | int | float | bool) else str(value)
    )
