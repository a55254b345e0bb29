"""The rows of a table from any source, in data frames of bounded size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mvae.errors import DataError, listed, nearest, require_extra

__all__ = ["CHUNK", "Frames", "as_frame", "checked_names", "of_arrow", "of_frame", "pandas", "stacked"]

CHUNK = 100_000
"""Most rows of a data frame that is held at once."""

CELLS = 1 << 21  # most cells of a data frame that is held at once: in Python a cell of text takes about 60 bytes
LEAST = 100  # rows that are held at once in any case, however many columns there are

DataFrame = Any  # a data frame of pandas, which is an optional dependency


@dataclass(frozen=True)
class Frames:
    """A table that is read from its source in parts, as often as needed.

    Args:
        where: name of the source, for messages.
        names: names of the columns, in order.
        read: gives the rows in data frames of at most a given number of rows.
        groups: file → its columns, if several files were joined.
        text: is every cell text, as in a CSV file?
        separator: separator of the cells of a text file.
        encoding: encoding of a text file, which answers have too: without the mark, Excel does not recognise UTF-8.
        folder: folder of the file, which paths of pictures are relative to; None if the source is not a file.
        key: the column that names a row.
        notes: notes for the user on how the file was read.
        labelled: the rows have their own labels, and are not numbered consecutively.
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
        """The rows in order, in data frames of at most ``rows`` rows and a bounded number of cells."""
        start = 0
        for part in self.read(min(rows, self.at_once)):
            numbered = isinstance(part.index, pandas().RangeIndex) and not part.index.start
            if start and numbered and not self.labelled:
                part = part.set_axis(pandas().RangeIndex(start, start + len(part)), axis=0)  # numbered as in the file
            start += len(part)
            yield part

    def sample(self, among: np.ndarray | None = None) -> DataFrame:
        """A random sample of at most `at_once` rows, from all rows or from the row numbers ``among``, in order."""
        among = np.arange(self.rows) if among is None else among
        if len(among) > self.at_once:
            among = np.sort(np.random.default_rng(0).choice(among, self.at_once, replace=False))
        parts, start = [], 0
        for part in self.chunks():
            here = among[np.searchsorted(among, start) : np.searchsorted(among, start + len(part))] - start
            parts.append(part.iloc[here])
            start += len(part)
        return parts[0] if len(parts) == 1 else pandas().concat(parts)

    def keyed(self, key: str | None) -> "Frames":
        """The same table with this key, if one is given.

        Raises:
            DataError: there is no such column.
        """
        if key is not None and key not in self.names:
            said = f"it has {listed(self.names)}{nearest(key, self.names)}"
            raise DataError(f"{self.where} has no column {key!r} (the key); {said}")
        return self if key is None else replace(self, key=key)

    @property
    def at_once(self) -> int:
        """The number of rows that are held at once."""
        return min(CHUNK, max(LEAST, CELLS // len(self.names)))

    def whole(self) -> DataFrame:
        """All rows as one data frame."""
        parts = list(self.chunks())
        return parts[0] if len(parts) == 1 else pandas().concat(parts, ignore_index=True)

    @cached_property
    def rows(self) -> int:
        """The number of rows; a text file is read once to count them."""
        return sum(len(part) for part in self.chunks())


def pandas() -> Any:
    """Import the package pandas.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require_extra("pandas", "tables", "tables")


def checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Check that column names are distinct text; a column without a name is named by its position.

    Raises:
        DataError: no columns, two of the same name, or a name that is not text.
    """
    if any(isinstance(name, tuple) for name in names):
        raise DataError(f"{where} has column names of several levels: join them first, as in '_'.join(name)")
    found = [f"unnamed {i}" if isinstance(name, str) and not name.strip() else name for i, name in enumerate(names, 1)]
    if not found:
        raise DataError(f"{where} has no columns")
    if odd := [name for name in found if not isinstance(name, str)]:
        raise DataError(f"{where} has a column named {odd[0]!r}, which is not text: rename it")
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise DataError(f"{where} has more than one column {', '.join(map(repr, twice))}: rename them")
    return tuple(found)


def as_frame(data: Any) -> DataFrame:
    """Convert a data frame of any library that narwhals knows (polars, PyArrow …), or columns by name, to pandas.

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
            raise DataError(f"these columns do not make a table ({error}): give each a list of as many cells") from None
    narwhals = require_extra("narwhals", "tables", "data frames other than those of pandas")
    try:
        return of_arrow(narwhals.from_native(data, eager_only=True).to_arrow())
    except TypeError:
        raise DataError(f"a table is a data frame, a file or columns by name, not a {type(data).__name__}") from None


def of_arrow(table: Any, *, ignore_metadata: bool = False) -> DataFrame:
    """Convert a PyArrow table to pandas; integers and booleans with missing values keep their types.

    Args:
        table: table of PyArrow.
        ignore_metadata: read a stored pandas index as an ordinary column.
    """
    arrow, pd = require_extra("pyarrow", "tables", "tables of PyArrow and polars"), pandas()
    widths = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    kinds = {getattr(arrow, name.lower())(): pd.api.types.pandas_dtype(name) for name in widths}
    kinds[arrow.bool_()] = pd.BooleanDtype()
    return table.to_pandas(types_mapper=kinds.get, ignore_metadata=ignore_metadata)


def stacked(parts: Sequence[DataFrame]) -> DataFrame:
    """Data frames with the same columns, one below the other; a column of categories has those of all parts."""
    pd = pandas()
    found = [part.copy(deep=False) for part in parts]
    for name in parts[0].columns:
        dtypes = [part[name].dtype for part in parts]
        if all(str(dtype) == "category" for dtype in dtypes) and any(dtype != dtypes[0] for dtype in dtypes):
            every = list(dict.fromkeys(value for dtype in dtypes for value in dtype.categories))
            for part in found:
                part[name] = part[name].cat.set_categories(every)
    return pd.concat(found)


def of_frame(data: Any, where: str = "the data frame") -> Frames:
    """Wrap a data frame as `Frames`; its index is kept.

    Raises:
        DataError: no rows, or names of columns that are not unique text.

    >>> of_frame({"age": [41, 73], "sex": ["f", "m"]}).names
    ('age', 'sex')
    """
    frame = as_frame(data)
    names = checked_names(list(frame.columns), where)
    if not len(frame):
        raise DataError(f"{where} has no rows (columns: {listed(names)})")
    if names != tuple(frame.columns):
        frame = frame.set_axis(list(names), axis=1)
    swapped = {name: kind for name, kind in frame.dtypes.items() if isinstance(kind, np.dtype) and not kind.isnative}
    if swapped:  # pandas does not compute with numbers of another byte order, as in FITS files
        frame = frame.astype({name: kind.newbyteorder("=") for name, kind in swapped.items()})

    def read(rows: int) -> Iterator[DataFrame]:
        for start in range(0, len(frame), rows):
            yield frame.iloc[start : start + rows]

    return Frames(where, names, read, labelled=True)
