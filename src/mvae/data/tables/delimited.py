"""Text files with a separator (CSV and TSV), read in parts; cells are kept as they are written."""

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mvae.data.tables.frames import Frames, checked_names, pandas
from mvae.errors import DataError

__all__ = ["read_delimited"]

SEPARATORS = (",", ";", "\t", "|")
LOOKED_AT = 1 << 16  # characters of the file that are read to choose its separator
DAMAGED = (EOFError, OSError, zlib.error)  # what reading a file may raise; the first and last from a .gz
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_delimited(path: Path) -> Frames:
    """Open a CSV or TSV file (or ``.gz`` of one) in UTF-8, or in UTF-16 with a byte order mark.

    The separator (comma, semicolon, tab, bar) is the one with which most lines have as many cells as the header. Cells
    are text exactly as written, and may contain quotes and line breaks; their meaning is determined for each column
    (`mvae.data.tables.infer`).

    Raises:
        DataError: the file is absent, empty, has only a header, or is not UTF-8 (the message names the line); a line
            has another number of cells than the header, a quote is not closed, or two columns have the same name.
    """
    encoding = _encoding(path)
    separator = _separator(path, encoding)
    header = next(_records(path, encoding, separator), None)
    if header is None:
        raise DataError(f"{path} is empty: give a file with a header and rows")
    names = checked_names(header[1], str(path))

    def read(rows: int) -> Iterator[Any]:
        pd = pandas()
        lines = _records(path, encoding, separator)
        next(lines)
        part: list[list[str]] = []
        for number, cells in lines:
            if len(cells) != len(names):
                raise DataError(
                    f"{path}, line {number}: {len(cells)} cells, where the header has {len(names)}: fix the line, or "
                    f"quote cells that hold {separator!r}"
                )
            part.append(cells)
            if len(part) == rows:
                yield _frame(pd, names, part)
                part = []
        if part:
            yield _frame(pd, names, part)

    if next(read(1), None) is None:
        raise DataError(f"{path} has a header and no rows")
    notes = [f"{path.name}: cells are separated by {separator!r}"] if separator != "," else []
    if all(name.replace(".", "", 1).isdigit() for name in names):
        notes.append(f"{path.name}: its first line holds numbers; it is taken as the header")
    return Frames(
        str(path),
        names,
        read,
        text=True,
        separator=separator,
        encoding=encoding,
        folder=path.parent,
        notes=tuple(notes),
    )


def _frame(pd: Any, names: tuple[str, ...], rows: list[list[str]]) -> Any:
    columns = zip(*rows, strict=True)
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in zip(names, columns, strict=True)})


def _opened(path: Path, mode: str = "rb", **how: Any) -> Any:
    """Open the file, which is decompressed if it is a ``.gz``."""
    return (gzip.open if path.suffix.lower() == ".gz" else open)(path, mode, **how)


def _encoding(path: Path) -> str:
    try:
        with _opened(path) as file:
            start = file.read(4)
    except DAMAGED as error:
        raise _unreadable(path, error) from None
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")


def _separator(path: Path, encoding: str) -> str:
    try:
        with _opened(path, "rt", encoding=encoding, newline="") as file:
            text = file.read(LOOKED_AT)
    except (UnicodeDecodeError, *DAMAGED):
        return ","  # reading the file will report where it is damaged
    lines = text.splitlines(keepends=True)
    lines = lines[: -1 if len(text) == LOOKED_AT and len(lines) > 1 else None]

    def fit(separator: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            return 0.0, 0
        width = widths[0] if widths else 0
        return (widths.count(width) / len(widths) if width > 1 else 0.0), width

    return max(SEPARATORS, key=fit)


def _records(path: Path, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the records, each with the number of its last line; empty lines are skipped."""
    try:
        with _opened(path, "rt", encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            try:
                for record in reader:
                    if record:
                        yield reader.line_num, record
            except csv.Error as error:
                raise DataError(
                    f"{path}, line {reader.line_num}: {error}: is a quote not closed, or not doubled inside a cell?"
                ) from None
    except UnicodeDecodeError:
        raise _not_text(path, encoding) from None
    except DAMAGED as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path} ({getattr(error, 'strerror', None) or error}): give an intact file")


def _not_text(path: Path, encoding: str) -> DataError:
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8" if encoding == "utf-8-sig" else encoding)
                except UnicodeDecodeError as error:
                    return DataError(
                        f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8. Save the file as UTF-8, "
                        f"for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.csv"
                    )
    except DAMAGED as error:
        return _unreadable(path, error)
    return DataError(f"{path} is not text in {encoding}: save it as UTF-8")
