"""One column of a table: its kind, the encoding of its cells as numbers, and the decoding to the user's cells."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from mvae.data.tables.cells import (
    Series,
    factorized,
    is_text,
    missing_cells,
    object_kind,
    plain,
    restored,
    row_named,
)
from mvae.data.tables.dates import FORMATS, as_seconds, ending_of, format_of, from_seconds, rounded_to, zone_of
from mvae.data.tables.frames import pandas
from mvae.data.tables.missed import Missed, say_missed
from mvae.data.tables.numbers import as_numbers, places_of, written
from mvae.errors import DataError, abridged, nearest

__all__ = ["ALONE", "CLASSED", "FORMS", "MODELLED", "NUMBERS", "ColumnKind", "TableColumn"]

ColumnKind = Literal[
    "real", "positive", "bounded", "count", "binary", "categorical", "ordinal", "date", "picture", "text",
    "constant", "ignored",
]  # fmt: skip
"""The kind of a column's cells. The cells of a picture are paths, those of a text are sentences. A
constant is imputed as itself; an ignored column is left unchanged."""

NUMBERS = ("real", "positive", "bounded", "count")
CLASSED = ("binary", "categorical", "ordinal")
MODELLED = (*NUMBERS, *CLASSED, "date")
ALONE = ("picture", "text")  # each such column is a modality by itself
LARGEST = 2.0**63  # larger than NumPy's integers
_TRUTH = ("true", "false")
FORMS = "mvae.forms"  # key in the `attrs` of a data frame: column → format of its dates in the whole table
FINER, ROUNDING = 1e-3, 1e-12  # tolerances for being a whole number of steps: absolute (in steps) and relative


@dataclass(frozen=True)
class TableColumn:
    """The meaning of one column, learned from training rows by `mvae.data.tables.infer.infer`.

    Args:
        name: name of the column.
        kind: kind of its cells.
        reason: why this kind was chosen.
        dtype: name of the column's dtype in pandas; ``text`` if its cells were text.
        classes: the classes in the order of their codes; for a constant, its value; for a text, the vocabulary.
        low, high: the bounds of a bounded column.
        style: how numbers are written in text, one of `mvae.data.tables.numbers.STYLES`, with a unit if they have one.
        form: how dates are written in text, in the format of ``strftime``.
        resolution: imputed numbers are rounded to multiples of it (for dates, in seconds); 0: not rounded.
        missing: cells that mean missing, in addition to those of the file format.
        cells: the type of training cells that are objects, as `mvae.data.tables.cells.object_kind` names it.

    >>> sex = TableColumn("sex", "binary", dtype="text", classes=("f", "m"))
    >>> import pandas
    >>> values, here = sex.encode(pandas.Series(["m", "", "f"]))
    >>> values, here
    (array([ 1., nan,  0.]), array([ True, False,  True]))
    >>> sex.decode(np.array([1.0, 0.0])).tolist()
    ['m', 'f']
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    kind: ColumnKind
    reason: str = ""
    dtype: str = "float64"
    classes: tuple[str | int | float | bool, ...] = ()
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    style: str = "1234.5"
    form: str = ""
    resolution: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    missing: tuple[str | int | float | bool, ...] = ()
    cells: str = ""

    @cached_property
    def _codes(self) -> dict[Any, int]:
        return {plain(value): code for code, value in enumerate(self.classes)}

    def encode(
        self, series: Series, *, strict: bool = False, missed: Missed | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode the cells as numbers; return them with the mask of present cells.

        Numbers are in the user's units, dates in seconds since 1970, classes are codes 0 … K−1; NaN is missing. A cell
        that is invalid for the kind (an unseen category, a negative count, ±∞) is treated as missing, with a warning.

        Args:
            series: the column.
            strict: raise an error for an invalid cell.
            missed: counts invalid cells if a table is read in parts; default: warn immediately.

        Raises:
            DataError: an invalid cell, if ``strict``; the message names the row and the cell.
        """
        codes, uniques = factorized(series)
        numbers = self._read(uniques, series)
        gone = missing_cells(uniques, self.missing, self.style)
        wrong = ~gone & ~np.isfinite(numbers)
        numbers[gone | wrong] = np.nan
        values = np.append(numbers, np.nan)[codes]  # cells that are missing for pandas have the code −1
        if wrong.any():
            at = np.append(wrong, False)[codes].nonzero()[0]
            self._refuse(series.index, at, uniques[codes[at[:1]]], strict, missed)
        return values, ~np.isnan(values)

    def present(self, series: Series) -> np.ndarray:
        """The mask of cells that are not missing, whether they are valid for this kind or not."""
        codes, uniques = factorized(series)
        return ~np.append(missing_cells(uniques, self.missing, self.style), True)[codes]

    def unlike(self, series: Series) -> np.ndarray:
        """The mask of present cells that differ from what was learned: invalid for the kind, or of finer resolution."""
        codes, uniques = factorized(series)
        there = ~missing_cells(uniques, self.missing, self.style)
        numbers = self._codes_of(uniques) if self.kind == "constant" else self._read(uniques, series)
        odd = there & ~np.isfinite(numbers)
        if self.kind in (*NUMBERS, "date") and self.resolution:
            with np.errstate(over="ignore", invalid="ignore"):  # an infinite number is already marked
                near = self._rounded(numbers, zone_of(str(series.dtype)))
                steps, apart = np.abs(numbers / self.resolution), np.abs((numbers - near) / self.resolution)
                odd |= there & (apart > FINER + ROUNDING * steps)
        return np.append(odd, False)[codes]

    def _codes_of(self, uniques: np.ndarray) -> np.ndarray:
        return np.array([self._codes.get(plain(value), np.nan) for value in uniques.tolist()], np.float64)

    def _read(self, uniques: np.ndarray, series: Series) -> np.ndarray:
        """Distinct cells as numbers; NaN for cells that are invalid for this kind."""
        if self.kind in CLASSED:
            return self._codes_of(uniques)
        if self.kind == "date":
            return as_seconds(uniques, self._form_of(uniques, series) if is_text(uniques) else "")
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

    def _form_of(self, cells: np.ndarray, series: Series) -> str:
        """The format of dates in text; if the training cells were not text, that of the table or of these cells."""
        if told := self.form or series.attrs.get(FORMS, {}).get(self.name):
            return told
        there = cells[~missing_cells(cells, self.missing)].tolist()
        found = format_of(self.name, there) if there else None
        return FORMATS[0] if found is None else found[0]

    def _refuse(self, index: Any, at: np.ndarray, cells: np.ndarray, strict: bool, missed: Missed | None) -> None:
        row, cell = row_named(index, int(at[0])), cells.tolist()[0]
        what, instead = f"is not a value of kind {self.kind}", "kind"
        if self.kind == "bounded":
            what, instead = f"{what}, from {self.low} to {self.high}", "kind or bounds"
        if self.kind in CLASSED:
            what, instead = "is a category that no training row has", "level"
            what = f"is none of {', '.join(map(str, self.classes))}" if strict else what
            what += "" if self._numbered else nearest(str(cell), map(str, self.classes))
        if strict:
            raise DataError(
                f"column {self.name!r}, row {row}: {cell!r} {what}: correct it, declare another {instead}, or name it "
                f"as missing ([data] missing = [{cell!r}])"
            )
        say = say_missed if missed is None else missed.add
        say(self.name, len(at), f"row {row}: {cell!r} {what}")

    def decode(self, numbers: np.ndarray) -> Any:
        """Decode numbers to cells of the user's type: an array of one axis, of text if the column was text.

        >>> TableColumn("n", "count", dtype="int64", resolution=1.0).decode(np.array([2.4])).tolist()
        [2]
        """
        if self.kind in CLASSED:
            found = np.empty(len(numbers), object)
            codes = np.clip(np.round(numbers), 0, len(self.classes) - 1).astype(int)
            found[:] = [self._cell(self.classes[code]) for code in codes]
            return found
        if self.kind == "constant":
            return np.array([self._cell(self.classes[0])] * len(numbers), object)
        if self.kind == "date":
            zone = zone_of(self.dtype)
            dates = from_seconds(self._rounded(numbers, zone), self.form, zone)
            return dates.to_numpy(object) if self.form else dates.array
        rounded = self._rounded(numbers) if self.resolution else numbers
        decimals = self._decimals
        if self.dtype == "text":
            return np.array(written(rounded, self.style, decimals), object)
        if self.resolution == 1 and not (np.abs(rounded) >= LARGEST).any():
            return rounded.astype(np.int64)
        if decimals:  # 57 × 0.01 is 0.5700000000000001
            return np.array([round(number, decimals + 2) for number in rounded.tolist()], np.float64)
        return np.asarray(rounded, np.float64)

    @property
    def _decimals(self) -> int | None:
        """The number of decimal places, from the resolution; None: as many as a number has."""
        return max(0, round(-np.log10(self.resolution))) if self.resolution else None

    def _cell(self, value: Any) -> Any:
        """A class or a constant in the type of the training cells."""
        return restored(value, self.cells or ("datetime" if self.dtype.startswith("datetime64") else ""))

    def filled(self, series: Series, numbers: np.ndarray) -> Series:
        """Fill in the column's missing cells from ``numbers`` (one per row); all other cells stay unchanged."""
        gone = ~self.present(series)
        if self.kind in ("ignored", *ALONE) or not gone.any():
            return series
        sparse = isinstance(series.dtype, pandas().SparseDtype)  # a sparse Series cannot be assigned to
        found, cells = series.sparse.to_dense() if sparse else series.copy(), self.decode_as(series, numbers[gone])
        if gone.all() and series.dtype == object and not is_text(series):
            kept = self.dtype in ("object", "text")
            made = pandas().Series(cells, index=series.index, name=series.name, dtype=object if kept else None)
            return made if kept else made.infer_objects()
        if is_text(_of_categories(series)) and self.dtype != "text":
            cells = np.array([str(value) for value in cells], object)
        try:
            return self._put(found, gone, cells)
        except (TypeError, ValueError, NotImplementedError, FutureWarning):  # numbers where names are expected
            if gone.all():
                return pandas().Series(cells, index=series.index, name=series.name).infer_objects()
            found = found.astype(object)
            found[gone] = np.asarray(cells)
            return found

    def _put(self, found: Series, gone: np.ndarray, cells: Any) -> Series:
        """Put these cells in place of a column's missing ones, in the column's own type.

        Raises:
            TypeError, ValueError, NotImplementedError, FutureWarning: the column's type cannot hold them.
        """
        if str(found.dtype) == "category":
            own = {plain(value): value for value in found.cat.categories}
            cells = pandas().Series([own.get(plain(value), value) for value in cells], dtype=object).to_numpy()
            absent = [value for value in dict.fromkeys(cells.tolist()) if plain(value) not in own]
            found = found.cat.add_categories(absent) if absent else found
        own = getattr(found.dtype, "numpy_dtype", found.dtype)  # of a nullable type: the type of its numbers
        if str(own) == "bool" and not all(isinstance(cell, bool) for cell in cells.tolist()):
            raise TypeError("these are not booleans")
        if isinstance(own, np.dtype) and own.kind in "iuf":
            if any(isinstance(cell, str) for cell in cells.tolist()) and not self._numbered:
                raise TypeError("names are not numbers")
            if own.kind == "f":
                cells = np.array(cells.tolist(), own)
            else:
                least, most = (1 if self.kind == "positive" else np.iinfo(own).min), np.iinfo(own).max
                whole = [cell if isinstance(cell, int) else round(float(cell)) for cell in cells.tolist()]
                cells = np.array([min(max(cell, int(least)), int(most)) for cell in whole], own)
        cells = cells if cells.dtype == object else np.asarray(cells)
        at = np.flatnonzero(gone)  # by a mask, pandas would make Timestamps of Python's dates
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # pandas 2 warns where pandas 3 raises TypeError
            found.iloc[at] = cells.tolist() if str(found.dtype).startswith("dictionary") else cells
        return found

    def decode_as(self, series: Series, numbers: np.ndarray) -> Any:
        """Decode numbers to the type (and for dates the time zone) of the cells that are present in ``series``."""
        there = _of_categories(series[self.present(series)])
        cells = self._as_stored(there, numbers)
        if cells is None:
            cells = self.decode(numbers)
            empty = there.dtype == object and not len(there)  # a part of a text column may have no cells
            if self.dtype == "text" and not empty and not is_text(there):  # stored in another type than in training
                cells = self.typed(cells)
            elif self.kind in CLASSED and is_text(there):  # TRUE, where training wrote True
                own = {plain(value): value for value in reversed(factorized(there)[1].tolist())}
                cells = np.array([own.get(plain(value), _in_case_of(own, value)) for value in cells.tolist()], object)
        return cells

    def _as_stored(self, there: Series, numbers: np.ndarray) -> Any:
        """Decode numbers to the type of the present cells ``there``; None if that is the training column's type.

        If no cell is present and the dtype does not determine their type, the type of the training cells is used.
        """
        dtype, kind = str(there.dtype), object_kind(there.iloc[0]) if len(there) else self.cells
        if self.kind == "date":
            if is_text(there):
                cells = factorized(there)[1]
                form = self._form_of(cells, there)
                return from_seconds(self._rounded(numbers), form, ending=ending_of(cells)).to_numpy(object)
            if dtype.startswith(("datetime64", "timestamp")):
                zone = zone_of(dtype)
                numbers = np.round(numbers) if "[s" in dtype else numbers  # a type of whole seconds
                return from_seconds(self._rounded(numbers, zone), "", zone).array
            if kind == "datetime" and len(there):
                zone = there.iloc[0].tzinfo or ""
                dates = from_seconds(self._rounded(numbers, zone), "", zone)
                own = [d if isinstance(there.iloc[0], pandas().Timestamp) else d.to_pydatetime() for d in dates]
                return np.array(own, object)
            if kind == "date":
                return np.array([stamp.date() for stamp in from_seconds(self._rounded(numbers))], object)
        if set(self._codes) <= {"0", "1"} and self.kind in CLASSED and dtype in ("bool", "boolean", "bool[pyarrow]"):
            return np.array([plain(cell) == "1" for cell in self.decode(numbers).tolist()])
        if self.kind in NUMBERS and kind == "Decimal":
            places = places_of(there.tolist()) if len(there) else self._decimals or 0
            least = 10.0**-places if self.kind == "positive" else -np.inf
            return np.array([*map(Decimal, written(np.maximum(numbers, least), decimals=places))], object)
        return None

    def _rounded(self, numbers: np.ndarray, zone: str = "") -> np.ndarray:
        """Round to the resolution (dates to days of their time zone); valid numbers of the kind stay valid."""
        if self.kind == "date":
            return rounded_to(numbers, self.resolution or 1e-3, zone)
        step, rounded = self.resolution, np.round(numbers / self.resolution) * self.resolution + 0.0  # −0 becomes 0
        if self.kind == "positive":
            return np.maximum(rounded, step)
        if self.kind == "bounded" and self.low is not None and self.high is not None:
            rounded = np.where((rounded < self.low - FINER * step) & (numbers >= self.low), rounded + step, rounded)
            return np.where((rounded > self.high + FINER * step) & (numbers <= self.high), rounded - step, rounded)
        return rounded

    def typed(self, cells: Any) -> Any:
        """Convert text cells to values: to numbers or dates; categories stay as they are written."""
        pd = pandas()
        series = pd.Series(cells, dtype=object)
        if self.kind == "date":
            numbers = self.encode(series)[0]
            dates = from_seconds(np.nan_to_num(numbers), "", "UTC" if "%z" in self.form else "")
            return dates.mask(np.isnan(numbers))
        if self.kind in NUMBERS or (self.kind in CLASSED and self._numbered):
            style = self.style if self.kind in NUMBERS else "1234.5"
            numbers = as_numbers(series.mask(~self.present(series)), style)
            there = numbers[~np.isnan(numbers)]
            whole = self.resolution == 1 or (self.kind in CLASSED and "." not in "".join(map(str, self.classes)))
            whole = whole and bool((np.abs(there) < LARGEST).all()) and not (there % 1).any()
            return pd.array(numbers).astype("Int64") if whole else numbers
        return series.mask(~self.present(series)).to_numpy(object)

    @property
    def _numbered(self) -> bool:
        """Are its classes numbers in their usual form? (The zero of 01 would be lost.)"""
        return [plain(number) for number in as_numbers(self.classes).tolist()] == list(map(plain, self.classes))

    def to_dict(self) -> dict[str, Any]:
        """The column as a dictionary for JSON, without default values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value != getattr(TableColumn, key, None)
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TableColumn":
        """Restore a column from the output of `to_dict`.

        Raises:
            DataError: it is not such an output.
        """
        try:
            return _STORED.validate_python(stored)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"this is not a column of a table: {abridged(stored)} ({where}: {first['msg']})") from None


_STORED = TypeAdapter(TableColumn)


def _of_categories(series: Series) -> Series:
    """The categories that are there in the type of their values; any other column unchanged."""
    return series.dropna().astype(series.cat.categories.dtype) if str(series.dtype) == "category" else series


def _in_case_of(own: Mapping[str, Any], value: Any) -> Any:
    """A category that none of a column's own cells has; true and false in the case in which they write the other."""
    other = next((str(cell).strip() for cell in own.values() if str(cell).strip().lower() in _TRUTH), None)
    if other is None or str(value).lower() not in _TRUTH:
        return value
    return next((case(str(value)) for case in (str.upper, str.lower, str.capitalize) if case(other) == other), value)
