"""Description of a table: the kind of each column and why, columns missing together, and possible mistakes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mvae.data.tables.cells import Missing
from mvae.data.tables.column import ALONE, CLASSED, MODELLED, NUMBERS, TableColumn
from mvae.data.tables.frames import Frames, pandas
from mvae.data.tables.numbers import as_numbers, short
from mvae.data.tables.pictures import described
from mvae.data.tables.schema import Kind, column_groups, learn_columns
from mvae.data.tables.spellings import spelling_notes

__all__ = ["ColumnSummary", "Description", "describe"]

SHORT = 50  # characters of a text that is shown
MOST_PATTERNS = 10_000  # different patterns that are counted
COMPARED = 5_000  # rows by which columns are compared with each other
MOST_COMPARED = 300  # columns that are compared with each other
DOUBTFUL = ("na", "n/a", "?", "-", "unknown", ".")  # categories that may mean missing
NEGATIVE = (-1, -7, -8, -9, -77, -88, -99, -777, -888, -999, -9999, -99999)  # may mean missing
REPEATED = {digit * many for digit in "789" for many in range(1, 8)}  # may mean missing if far from all others
MOST_MARKS = 6  # largest numbers of a column that are checked
ENOUGH = 20  # cells needed to check a column of numbers
EQUAL = 1e-9  # 1 − |correlation| below which two columns of numbers have the same content


@dataclass(frozen=True)
class ColumnSummary:
    """One column: its kind and the reason for it, the fraction of missing cells, and its typical values."""

    name: str
    kind: str
    reason: str
    missing: float
    values: str
    problem: str = ""


@dataclass(frozen=True)
class Description:
    """The findings of `describe`.

    Attributes:
        where: name of the table.
        rows: number of rows.
        columns: summaries of the columns, in order.
        modalities: proposed modality → its columns.
        patterns: the most frequent sets of missing columns, each with the number of rows in which just these are
            missing.
        other_patterns: number of further patterns.
        empty_rows: number of rows in which all columns that a model sees are missing.
        duplicates: number of rows that equal an earlier one (apart from the key).
        leaks: pairs of columns of which one determines the other, and how.
        notes: other things that a reader should know about the file.
    """

    where: str
    rows: int
    columns: tuple[ColumnSummary, ...]
    modalities: Mapping[str, tuple[str, ...]]
    patterns: tuple[tuple[int, tuple[str, ...]], ...]
    other_patterns: int
    empty_rows: int
    duplicates: int
    leaks: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The description as a dictionary for JSON."""
        found = asdict(self)
        found["patterns"] = [{"rows": rows, "missing": list(names)} for rows, names in self.patterns]
        found["leaks"] = [{"columns": [one, other], "how": how} for one, other, how in self.leaks]
        return found


def describe(
    frames: Frames, missing: Missing = (), kinds: Mapping[str, Kind] | None = None, most: int = 12
) -> Description:
    """Describe a table from all of its rows, read part by part.

    Args:
        frames: the table.
        missing: cells that mean missing, in addition to those of the file format.
        kinds: column → kind; the kinds of other columns are proposed.
        most: number of patterns of missing columns that are listed.

    >>> from mvae.data.tables.frames import of_frame
    >>> found = describe(of_frame({"hb": [9.5, None, 8.25, 7.5], "sex": ["f", "m", "m", "f"]}))
    >>> [(column.name, column.kind, column.missing) for column in found.columns]
    [('hb', 'real', 0.25), ('sex', 'binary', 0.0)]
    >>> found.patterns
    ((3, ()), (1, ('hb',)))
    """
    problems: dict[str, str] = {}
    sample = frames.sample()
    columns = learn_columns(frames, sample, missing=missing, kinds=kinds, failed=problems)
    patterns, lacking, duplicates = _count(frames, columns)
    known = [(number, _missing_of(pattern, frames.names)) for pattern, number in patterns.most_common()]
    seen = [column for column in columns.values() if column.kind in (*MODELLED, *ALONE)]
    notes = [*frames.notes, *_suspicious(columns, sample)]
    pictures: dict[str, str] = {}
    for column in (column for column in seen if column.kind == "picture"):
        pictures[column.name], more = described(frames, column.name, column.missing)
        notes += more
    summaries = tuple(
        ColumnSummary(
            name,
            "?" if name in problems else columns[name].kind,
            "" if name in problems else columns[name].reason,
            float(lacking[i] / frames.rows),
            pictures.get(name) or _values(columns[name], sample[name]),
            problems.get(name, ""),
        )
        for i, name in enumerate(frames.names)
    )
    if frames.rows > frames.at_once:
        notes.append(f"values are from a sample of {frames.at_once:,} rows; counts are of all rows")
    return Description(
        frames.where,
        frames.rows,
        summaries,
        column_groups(frames, seen),
        tuple(known[:most]),
        max(0, len(known) - most),
        sum(number for number, names in known if set(names) >= {column.name for column in seen}),
        duplicates,
        tuple(_leaks(sample, [column for column in seen if column.kind not in ALONE][:MOST_COMPARED])),
        tuple(notes),
    )


def _count(frames: Frames, columns: Mapping[str, TableColumn]) -> tuple[Counter[bytes], np.ndarray, int]:
    """Count the rows by packed pattern of present cells, the missing cells by column, and the duplicates."""
    patterns, rows, lacking = Counter[bytes](), 0, np.zeros(len(frames.names))
    hashes: list[np.ndarray] = []
    for part in frames.chunks():
        here = np.stack([columns[name].present(part[name]) for name in frames.names], axis=1)
        packed, often = np.unique(np.packbits(here, axis=1), axis=0, return_counts=True)
        for pattern, number in zip(packed, often.tolist(), strict=True):
            if pattern.tobytes() in patterns or len(patterns) < MOST_PATTERNS:
                patterns[pattern.tobytes()] += number
        lacking += (~here).sum(0)
        rows += len(part)
        cells = part if frames.key is None else part.drop(columns=frames.key)
        hashes.append(pandas().util.hash_pandas_object(cells.astype(str), index=False).to_numpy())
    return patterns, lacking, rows - len(np.unique(np.concatenate(hashes)))


def _missing_of(pattern: bytes, names: Sequence[str]) -> tuple[str, ...]:
    here = np.unpackbits(np.frombuffer(pattern, np.uint8), count=len(names)).astype(bool)
    return tuple(name for name, there in zip(names, here, strict=True) if not there)


def _values(column: TableColumn, series: Any) -> str:
    """The range or the most frequent cells in a sample of the rows."""
    if column.kind in CLASSED:
        cells = series[column.present(series)]
        whole = cells.dtype.kind == "f" and ((cells % 1 == 0) & (cells.abs() < 2**53)).all()  # some were missing
        often = cells.astype("int64" if whole else cells.dtype).astype(str).value_counts()
        first, total = often.iloc[:3].items(), max(1, often.sum())
        listed = ", ".join(
            f"{value if len(value) <= SHORT else value[:SHORT] + '…'} ({number / total:.0%})" for value, number in first
        )
        return listed + (f" … {len(column.classes)} in all" if len(column.classes) > 3 else "")
    if column.kind not in MODELLED:
        return ""
    numbers, here = column.encode(series)
    if not here.any():
        return ""
    points = [numbers[here].min(), float(np.median(numbers[here])), numbers[here].max()]
    if column.kind == "date":
        first, last = column.decode(np.array([points[0], points[2]]))
        size = 10 if column.resolution else 19
        return f"{str(first)[:size]} … {str(last)[:size]}"
    return " … ".join(map(short, points))


def _leaks(frame: Any, columns: Sequence[TableColumn]) -> list[tuple[str, str, str]]:
    """Pairs of columns with the same content: linear functions of each other, or the same categories renamed."""
    found = []
    frame = frame.iloc[:: max(1, -(-len(frame) // COMPARED))]  # evenly spaced rows, because a table may be sorted
    encoded = {column.name: column.encode(frame[column.name]) for column in columns}
    for i, one in enumerate(columns):
        x, x_here = encoded[one.name]
        for other in columns[i + 1 :]:
            y, y_here = encoded[other.name]
            both = x_here & y_here
            if both.sum() < 10:
                continue
            a, b = x[both], y[both]
            if (a == b).all() and one.classes == other.classes and len(np.unique(a)) > 1:
                found.append((one.name, other.name, "equal in every row that has both"))
            elif one.kind in CLASSED and other.kind in CLASSED:
                pairs = len(np.unique(np.stack([a, b]), axis=1).T)
                if pairs == len(np.unique(a)) == len(np.unique(b)) > 1:
                    found.append((one.name, other.name, "each value of one goes with one value of the other"))
            elif one.kind not in CLASSED and other.kind not in CLASSED and a.std() > 0 and b.std() > 0:
                line = abs(float(np.mean((a - a.mean()) / a.std() * ((b - b.mean()) / b.std()))))
                if 1 - line < EQUAL:
                    found.append((one.name, other.name, "one is a multiple of the other, plus a constant"))
    return found


def _suspicious(columns: Mapping[str, TableColumn], frame: Any) -> list[str]:
    """Notes on cells that may mean missing, or the same as other cells, without being declared so."""
    notes = []
    for name, column in columns.items():
        if column.kind in CLASSED:
            words = [value for value in column.classes if str(value).strip().lower() in DOUBTFUL]
            notes += [
                f"{name}: {word!r} is read as a category; if it means missing, name it as missing" for word in words
            ]
            notes += spelling_notes(name, column.classes)
        if column.kind in (*NUMBERS, "date", "ordinal"):
            numbers, here = column.encode(frame[name])
            numbers = as_numbers(column.classes)[numbers[here].astype(int)] if column.classes else numbers[here]
            if len(numbers) < ENOUGH or np.isnan(numbers).any():
                continue
            found = _lone_dates(numbers) if column.kind == "date" else _marks(numbers)
            cells = column.decode(np.array(found)) if column.kind == "date" else [f"{value:.15g}" for value in found]
            notes += [
                f"{name}: {cell} is far from all other values; if it means missing, name it as missing"
                for cell in cells
            ]
    return notes


def _marks(numbers: np.ndarray) -> list[float]:
    """Numbers that look like codes for missing cells, such as -9, -99 or 999, and occur in two cells or more.

    They are negative while all others are not, or consist of a repeated digit 7, 8 or 9; then, and where others are
    negative, too, they are as far from all other numbers as these are from each other.

    >>> _marks(np.array([120.0, 135, 99, 131, 999, 999, -9, -9])), _marks(np.array([-31.0, 28, -2, -999, -999]))
    ([-9.0, 999.0], [-999.0])
    """
    values, often = np.unique(numbers, return_counts=True)
    low, high = np.isin(values, NEGATIVE), np.zeros(len(values), bool)
    high[-MOST_MARKS:] = [
        np.format_float_positional(v, trim="-").replace(".", "") in REPEATED for v in values[-MOST_MARKS:]
    ]
    rest = values[~low & ~high]
    if len(rest) < 2:
        return []
    span = rest[-1] - rest[0]
    marks = (low & ((rest[0] >= 0) | (rest[0] - values >= span))) | (high & (values - rest[-1] >= span))
    return values[marks & (often > 1)].tolist()


def _lone_dates(seconds: np.ndarray) -> list[float]:
    """The first and the last of these dates, if as far from all others as these are from each other."""
    values = np.unique(seconds)
    if len(values) < 3:
        return []
    found = [values[0]] if values[1] - values[0] >= values[-1] - values[1] else []
    return found + ([values[-1]] if values[-1] - values[-2] >= values[-2] - values[0] else [])
