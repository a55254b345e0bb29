"""Rows of a table in data frames of bounded size, whatever they come from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mvae.errors import DataError, require_extra

__all__ = ["CHUNK", "Frames", "as_frame", "checked_names", "of_arrow", "of_frame", "pandas"]

CHUNK = 100_000
"""Rows that are held as a data frame at once, where it has few columns."""

CELLS = 1 << 21  # that are held as a data frame at once: in Python a cell of text takes some 60 bytes
LEAST = 100  # rows of one, however many columns there are

DataFrame = Any  # of pandas, which is an extra


@dataclass(frozen=True)
class Frames:
    """A table that is read from its source in parts, as often as it is asked for.

    Args:
        where: what it is, for messages.
        names: of the columns, in order.
        read: gives the rows in data frames of at most so many rows.
        groups: file → its columns, where several files were joined.
        text: is every cell text, as in a CSV file?
        separator: of the cells, of a text file.
        encoding: of a text file; answers have it, too: without its mark Excel takes UTF-8 for something else.
        folder: of the file, which paths of pictures are relative to; None: it is no file.
        key: the column that names a row.
        notes: what a reader should know of how the file was read.
        labelled: rows have labels of their own, and are not numbered through.
    """

    where: str
    names: tuple[str, ...]
    read: Callable[[int], Iterator[DataFrame]]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: bool = False
    separator: str = ","
    encoding: str = "utf-8"
    folder: Path | None = None
    key: str | None = None
    notes: tuple[str, ...] = ()
    labelled: bool = False

    def chunks(self, rows: int = CHUNK) -> Iterator[DataFrame]:
        """The rows in order, in data frames of at most so many rows, and of a bounded number of cells."""
        start = 0
        for part in self.read(min(rows, self.at_once)):
            numbered = isinstance(part.index, pandas().RangeIndex) and not part.index.start
            if start and numbered and not self.labelled:
                part = part.set_axis(pandas().RangeIndex(start, start + len(part)), axis=0)  # rows of the file
            start += len(part)
            yield part

    def sample(self, among: np.ndarray | None = None) -> DataFrame:
        """As many rows as are held at once, drawn from all of them (or from those of these numbers), in order."""
        among = np.arange(self.rows) if among is None else among
        if len(among) > self.at_once:
            among = np.sort(np.random.default_rng(0).choice(among, self.at_once, replace=False))
        parts, start = [], 0
        for part in self.chunks():
            here = among[np.searchsorted(among, start) : np.searchsorted(among, start + len(part))] - start
            parts.append(part.iloc[here])
            start += len(part)
        return parts[0] if len(parts) == 1 else pandas().concat(parts)

    @property
    def at_once(self) -> int:
        """How many rows are held at once."""
        return min(CHUNK, max(LEAST, CELLS // len(self.names)))

    def whole(self) -> DataFrame:
        """All rows as one data frame."""
        parts = list(self.chunks())
        return parts[0] if len(parts) == 1 else pandas().concat(parts, ignore_index=True)

    @cached_property
    def rows(self) -> int:
        """How many rows there are; a text file is read once for it."""
        return sum(len(part) for part in self.chunks())


def pandas() -> Any:
    """The package pandas.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require_extra("pandas", "tables", "tables")


def checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Names of columns, all different and not empty; one without a name gets its place as name.

    Raises:
        DataError: none at all, two of the same name, or a name that is no text.
    """
    if any(isinstance(name, tuple) for name in names):
        raise DataError(f"{where} has column names of several levels: join them first, as in '_'.join(name)")
    found = [f"unnamed {i}" if isinstance(name, str) and not name.strip() else name for i, name in enumerate(names, 1)]
    if not found:
        raise DataError(f"{where} has no columns")
    if odd := [name for name in found if not isinstance(name, str)]:
        raise DataError(f"{where} has a column named {odd[0]!r}, which is no text: rename it")
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise DataError(f"{where} has more than one column {', '.join(map(repr, twice))}: rename them")
    return tuple(found)


def as_frame(data: Any) -> DataFrame:
    """A data frame of pandas, from one of any library that narwhals knows (polars, PyArrow …) or columns by name.

    Raises:
        DataError: it is neither.
    """
    pd = pandas()
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame(dict(data))
        except ValueError as error:
            raise DataError(f"these columns make no table ({error})") from None
    narwhals = require_extra("narwhals", "tables", "data frames other than those of pandas")
    try:
        return of_arrow(narwhals.from_native(data, eager_only=True).to_arrow())
    except TypeError:
        raise DataError(f"a table is a data frame, a file or columns by name, not a {type(data).__name__}") from None


def of_arrow(table: Any, *, ignore_metadata: bool = False) -> DataFrame:
    """A table of PyArrow; integers and booleans of which some are missing stay what they are.

    Args:
        table: of PyArrow.
        ignore_metadata: an index of pandas is a column like any other.
    """
    arrow, pd = require_extra("pyarrow", "tables", "tables of PyArrow and polars"), pandas()
    widths = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    kinds = {getattr(arrow, name.lower())(): pd.api.types.pandas_dtype(name) for name in widths}
    kinds[arrow.bool_()] = pd.BooleanDtype()
    return table.to_pandas(types_mapper=kinds.get, ignore_metadata=ignore_metadata)


def of_frame(data: Any, where: str = "the data frame") -> Frames:
    """A data frame as `Frames`; its index is kept.

    Raises:
        DataError: no rows, or names of columns that are not unique text.

    >>> of_frame({"age": [41, 73], "sex": ["f", "m"]}).names
    ('age', 'sex')
    """
    frame = as_frame(data)
    names = checked_names(list(frame.columns), where)
    if not len(frame):
        raise DataError(f"{where} has no rows (columns: {', '.join(names)})")
    if names != tuple(frame.columns):
        frame = frame.set_axis(list(names), axis=1)

    def read(rows: int) -> Iterator[DataFrame]:
        for start in range(0, len(frame), rows):
            yield frame.iloc[start : start + rows]

    return Frames(where, names, read, labelled=True)
