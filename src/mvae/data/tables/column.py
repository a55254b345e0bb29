"""One column of a table: its kind, the numbers that a model sees for its cells, and the way back to the user's."""

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from mvae.data.tables.dates import FORMATS, as_seconds, ending_of, format_of, from_seconds
from mvae.data.tables.frames import pandas
from mvae.data.tables.numbers import as_numbers, written
from mvae.errors import DataError

__all__ = [
    "ALONE", "CLASSED", "MODELLED", "ColumnKind", "Missing", "Series", "TableColumn", "category_order", "factorized",
    "is_text", "missing_cells", "plain",
]  # fmt: skip

ColumnKind = Literal[
    "real", "positive", "bounded", "count", "binary", "categorical", "ordinal", "date", "picture", "text",
    "constant", "ignored",
]  # fmt: skip
"""What the cells of a column are. A picture is a path, a text is sentences; a constant is filled
in; what is ignored is left as it is."""

NUMBERS = ("real", "positive", "bounded", "count")
CLASSED = ("binary", "categorical", "ordinal")
MODELLED = (*NUMBERS, *CLASSED, "date")
ALONE = ("picture", "text")  # such a column is a modality by itself
EMPTY = ("", "nan", "null", "<na>")  # in lower case: what text files call missing
Missing = Sequence[str | int | float]
Series = Any  # of pandas, which is an extra
log = logging.getLogger("mvae.data")


@dataclass(frozen=True)
class TableColumn:
    """What one column means, learned from training rows by `mvae.data.tables.infer.infer`.

    Args:
        name: of the column.
        kind: of its cells.
        reason: why it was taken for that.
        dtype: what pandas calls the column's type; ``text`` where its cells were text.
        classes: of a kind with classes, in the order of their codes; of a constant its value; of a text the vocabulary.
        low, high: the bounds of a bounded column; no whole number of a real one is filled in below ``low``.
        style: how numbers are written in text, one of `mvae.data.tables.numbers.STYLES`.
        form: how dates are written in text, as of ``strftime``.
        resolution: filled-in numbers are rounded to multiples of it; 0: not at all. Of dates in seconds.
        missing: cells that mean missing besides those that the format calls so.

    >>> sex = TableColumn("sex", "binary", dtype="text", classes=("f", "m"))
    >>> import pandas
    >>> values, here = sex.encode(pandas.Series(["m", "", "f"]))
    >>> values, here
    (array([ 1., nan,  0.]), array([ True, False,  True]))
    >>> sex.decode(np.array([1.0, 0.0])).tolist()
    ['m', 'f']
    """

    name: str
    kind: ColumnKind
    reason: str = ""
    dtype: str = "float64"
    classes: tuple[str | int | float | bool, ...] = ()
    low: float | None = None
    high: float | None = None
    style: str = "1234.5"
    form: str = ""
    resolution: float = 0.0
    missing: tuple[str | int | float, ...] = ()

    @cached_property
    def _codes(self) -> dict[Any, int]:
        return {plain(value): code for code, value in enumerate(self.classes)}

    def encode(self, series: Series, *, strict: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The cells as numbers, and which are present.

        Numbers are in the user's units, dates in seconds since 1970, classes codes 0 … K−1; NaN is missing. A cell
        that the kind cannot have (an unseen category, a negative count, ±∞) is treated as missing, with a warning.

        Args:
            series: the column.
            strict: such a cell is an error.

        Raises:
            DataError: strict, by the row and the cell.
        """
        codes, uniques = factorized(series)
        numbers = self._read(uniques)
        gone = missing_cells(uniques, self.missing)
        wrong = ~gone & ~np.isfinite(numbers)
        numbers[gone | wrong] = np.nan
        values = np.append(numbers, np.nan)[codes]  # the code of what pandas calls missing is −1
        if wrong.any():
            self._tell(series.index, codes, uniques, wrong, strict)
        return values, ~np.isnan(values)

    def present(self, series: Series) -> np.ndarray:
        """Which cells hold anything, be it of this kind or not."""
        codes, uniques = factorized(series)
        return ~np.append(missing_cells(uniques, self.missing), True)[codes]

    def _read(self, uniques: np.ndarray) -> np.ndarray:
        """Different cells as numbers; NaN for what is not of this kind."""
        if self.kind in CLASSED:
            return np.array([self._codes.get(plain(value), np.nan) for value in uniques.tolist()], np.float64)
        if self.kind == "date":
            return as_seconds(uniques, self._form_of(uniques) if is_text(uniques) else "")
        if self.kind not in NUMBERS:
            return np.zeros(len(uniques))
        numbers = as_numbers(uniques, self.style)
        with np.errstate(invalid="ignore"):
            if self.kind == "positive":
                numbers[numbers <= 0] = np.nan
            elif self.kind == "count":
                numbers[(numbers < 0) | (numbers != np.round(numbers))] = np.nan
            elif self.kind == "bounded" and self.low is not None and self.high is not None:
                numbers[(numbers < self.low) | (numbers > self.high)] = np.nan
        return numbers

    def _form_of(self, cells: np.ndarray) -> str:
        """How dates are written in a file of text; where training had no text, by these cells."""
        if self.form:
            return self.form
        there = cells[~missing_cells(cells, self.missing)].tolist()
        found = format_of(self.name, there) if there else None
        return FORMATS[0] if found is None else found[0]

    def _tell(self, index: Any, codes: np.ndarray, uniques: np.ndarray, wrong: np.ndarray, strict: bool) -> None:
        rows = np.append(wrong, False)[codes].nonzero()[0]
        row, cell = row_named(index, int(rows[0])), uniques.tolist()[codes[rows[0]]]
        what, instead = f"is no value of kind {self.kind}", "kind"
        if self.kind in CLASSED:
            what, instead = "is a category that no training row has", "level"
        if strict:
            what = f"is none of {', '.join(map(str, self.classes))}" if self.kind in CLASSED else what
            raise DataError(
                f"column {self.name!r}, row {row}: {cell!r} {what}: correct it, declare another {instead}, or name it "
                f"as missing ([data] missing = [{cell!r}])"
            )
        log.warning("column %r: %d cells are treated as missing; row %s: %r %s", self.name, len(rows), row, cell, what)

    def decode(self, numbers: np.ndarray) -> Any:
        """Numbers as cells of the user's type: an array of one axis, of text where the column was text.

        >>> TableColumn("n", "count", dtype="int64", resolution=1.0).decode(np.array([2.4])).tolist()
        [2]
        """
        if self.kind in CLASSED:
            found = np.empty(len(numbers), object)
            found[:] = [self.classes[code] for code in np.clip(np.round(numbers), 0, len(self.classes) - 1).astype(int)]
            return found
        if self.kind == "constant":
            pd = pandas()

            value = pd.Timestamp(str(self.classes[0])) if self.dtype.startswith("datetime") else self.classes[0]
            return np.array([value] * len(numbers), object)
        if self.kind == "date":
            dates = from_seconds(self._rounded_seconds(numbers), self.form, _zone(self.dtype))
            return dates.to_numpy(object) if self.form else dates.array
        rounded = np.round(numbers / self.resolution) * self.resolution if self.resolution else numbers
        rounded = rounded if self.low is None else np.maximum(rounded, self.low)
        if self.dtype == "text":
            decimals = max(0, round(-np.log10(self.resolution))) if self.resolution else None
            return np.array(written(rounded, self.style, decimals), object)
        return np.round(rounded).astype(np.int64) if self.resolution == 1 else np.asarray(rounded, np.float64)

    def filled(self, series: Series, numbers: np.ndarray) -> Series:
        """The column with its missing cells filled in from ``numbers`` (one per row); all others stay as they are."""
        gone = ~self.present(series)
        if self.kind in ("ignored", *ALONE) or not gone.any():
            return series
        found, cells = series.copy(), self.decode_as(series, numbers[gone])
        if gone.all() and not is_text(series):  # its own type says nothing
            return pandas().Series(cells, index=series.index, name=series.name).infer_objects()
        if str(found.dtype) == "category":
            absent = [value for value in dict.fromkeys(list(cells)) if value not in found.cat.categories]
            found = found.cat.add_categories(absent) if absent else found
        elif is_text(series) and self.dtype != "text":
            cells = np.array([str(value) for value in cells], object)
        elif found.dtype == bool or (found.dtype.kind == "O" and self.kind == "binary"):
            found = found.astype(object)
        own = getattr(found.dtype, "numpy_dtype", found.dtype)  # of a nullable type: what its numbers are
        if isinstance(own, np.dtype) and own.kind in "iu":
            limits, whole = np.iinfo(own), np.array(cells.tolist())
            whole = np.rint(whole) if whole.dtype.kind == "f" else whole
            cells = np.clip(whole, limits.min, limits.max).astype(own)
        elif isinstance(found.dtype, np.dtype) and found.dtype.kind == "f":
            try:
                cells = np.array(cells.tolist(), found.dtype)
            except (TypeError, ValueError):  # numbers where names are expected
                found = found.astype(object)
        found[gone] = cells if cells.dtype == object else np.asarray(cells)
        return found.infer_objects() if self.kind == "binary" and series.dtype != object else found

    def decode_as(self, series: Series, numbers: np.ndarray) -> Any:
        """Numbers as cells of the type, and of dates in the time zone, of the cells that are present in ``series``."""
        cells = self._as_stored(series[self.present(series)], numbers)
        if cells is None:
            cells = self.decode(numbers)
            if self.dtype == "text" and not is_text(series):  # stored in another type than in training
                cells = self.typed(cells)
        return cells

    def _as_stored(self, there: Series, numbers: np.ndarray) -> Any:
        """Answers in the type of the cells that are there, where that type is not the training column's; else None."""
        dtype, first = str(there.dtype), there.iloc[0] if len(there) and there.dtype == object else None
        if self.kind == "date":
            seconds = self._rounded_seconds(numbers)
            if is_text(there):
                cells = factorized(there)[1]
                return from_seconds(seconds, self._form_of(cells), ending=ending_of(cells)).to_numpy(object)
            if dtype.startswith("datetime64"):
                return from_seconds(seconds, "", _zone(dtype)).array
            if isinstance(first, datetime.date) and not isinstance(first, datetime.datetime):
                return np.array([stamp.date() for stamp in from_seconds(seconds)], object)
        if self.kind in CLASSED and dtype in ("bool", "boolean", "bool[pyarrow]"):
            return np.array([plain(cell) == "1" for cell in self.decode(numbers).tolist()])
        if self.kind in NUMBERS and isinstance(first, Decimal):
            places = max(-int(cell.as_tuple().exponent) for cell in there.tolist())
            return np.array([Decimal(f"{number:.{max(0, places)}f}") for number in numbers.tolist()], object)
        return None

    def _rounded_seconds(self, numbers: np.ndarray) -> np.ndarray:
        step = self.resolution or 1e-3
        return np.round(numbers / step) * step

    def typed(self, cells: Any) -> Any:
        """Cells of text as values: numbers as numbers, dates as dates, categories as they are written."""
        pd = pandas()
        series = pd.Series(cells, dtype=object)
        if self.kind == "date":
            numbers = self.encode(series)[0]
            dates = from_seconds(np.nan_to_num(numbers), "", "UTC" if "%z" in self.form else "")
            return dates.mask(np.isnan(numbers))
        if self.kind in NUMBERS or (self.kind in CLASSED and not np.isnan(as_numbers(self.classes)).any()):
            style = self.style if self.kind in NUMBERS else "1234.5"
            numbers = as_numbers(series.mask(~self.present(series)), style)
            whole = not (numbers[~np.isnan(numbers)] % 1).any() and (self.resolution == 1 or self.kind in CLASSED)
            return pd.array(numbers).astype("Int64") if whole else numbers
        return series.mask(~self.present(series)).to_numpy(object)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what has its default is left out."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value != getattr(TableColumn, key, None)
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TableColumn":
        """What `to_dict` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
            field = cls(**values)
        except TypeError:
            raise DataError(f"this is no column of a table: {stored!r}") from None
        if field.kind not in get_args(ColumnKind):
            raise DataError(
                f"column {field.name!r} has no kind {field.kind!r}; there are {', '.join(get_args(ColumnKind))}"
            )
        return field


def factorized(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The place of each cell among the different ones (−1: what pandas calls missing), and these.

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
    own = getattr(uniques.dtype, "numpy_dtype", uniques.dtype)  # of a nullable type; what is missing is not among them
    numeric = isinstance(own, np.dtype) and own.kind in "iuf"
    return codes, uniques.to_numpy(own) if numeric else np.asarray(uniques, object)


def row_named(index: Any, place: int) -> str:
    """A row as messages name it: by its label, which of a file is its number."""
    label = index[place]
    return repr(label) if isinstance(label, str) else str(label)


def is_text(cells: Any) -> bool:
    """Are these cells text?"""
    pd = pandas()

    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "U" or (cells.dtype == object and any(isinstance(c, str) for c in cells[:100]))
    if str(cells.dtype) == "category":
        return False
    return isinstance(cells.dtype, pd.StringDtype) or (
        cells.dtype == object and any(isinstance(cell, str) for cell in cells.iloc[:100])
    )


def missing_cells(uniques: np.ndarray, named: Missing) -> np.ndarray:
    """Which of these different cells mean missing: what is empty, NaN or null, and what was named.

    >>> missing_cells(np.array(["", "NaN", "?", "-999", "0"], object), ["?", -999]).tolist()
    [True, True, True, True, False]
    """
    if uniques.dtype.kind in "biuf":
        numbers = np.array([*_numbers_in(named)])
        if uniques.dtype.kind == "f":  # −99.9 of fewer digits is another number
            numbers = numbers[np.abs(numbers) <= np.finfo(uniques.dtype).max].astype(uniques.dtype)
            return np.isin(uniques, numbers) | np.isnan(uniques)
        return np.isin(uniques, numbers)
    if uniques.dtype.kind in "mM":
        return np.isnat(uniques)
    words = {*map(str, named), *(f"{value:.1f}" for value in named if isinstance(value, int))}
    values = {float(value) for value in named if not isinstance(value, str)}

    def gone(cell: Any) -> bool:
        if isinstance(cell, str):
            bare = cell.strip()
            return bare.lower() in EMPTY or bare in words or (bool(values) and _value(bare) in values)
        return cell is None or cell != cell or (isinstance(cell, int | float) and float(cell) in values)

    return np.array([gone(cell) for cell in uniques.tolist()], bool)


def _value(text: str) -> float | None:
    """A number that is written as text, with a decimal point or comma; None where it is none."""
    try:
        return float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return None


def _numbers_in(named: Missing) -> Iterator[float]:
    """What was named, as numbers: also where a number was written as text."""
    for value in named:
        try:
            yield float(value)
        except ValueError:
            continue


def plain(value: Any) -> Any:
    """A category as it is compared: whole numbers and booleans alike in every type, all else as text."""
    if isinstance(value, str):
        bare = value.strip()
        lowered = bare.lower()
        if lowered in ("true", "false"):
            return str(int(lowered == "true"))
        return bare.removesuffix(".0") if bare.replace(".", "", 1).lstrip("-").isdigit() else bare
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def category_order(values: Sequence[Any]) -> list[Any]:
    """Different categories in the order of their codes: numbers by size, also where they are text; else by alphabet.

    >>> category_order(["10", "9"]), category_order(["b", "a"]), category_order([2.0, 1.0])
    (['9', '10'], ['a', 'b'], [1.0, 2.0])
    """
    kept = list({plain(value): value for value in reversed(values)}.values())
    numbers = as_numbers(kept)
    if not np.isnan(numbers).any():
        return [kept[i] for i in np.argsort(numbers, kind="stable")]
    return sorted(kept, key=str)


def _zone(dtype: str) -> str:
    """The time zone in the name of a dtype: ``datetime64[us, Europe/Oslo]``."""
    return dtype.partition(", ")[2].removesuffix("]") if dtype.startswith("datetime64") else ""
