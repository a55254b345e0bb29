"""Writing data frames to a file part by part: CSV, TSV, Parquet, Arrow or Excel, depending on its suffix."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mvae.data.tables.frames import CELLS, DataFrame, pandas
from mvae.errors import DataError, require_extra
from mvae.files import write_whole

__all__ = ["WRITERS", "require_writable", "write_frames"]

Writer = Callable[[Path, Iterator[DataFrame], str, str, str], None]  # path, frames, separator, encoding, decimal


def write_frames(
    path: Path, frames: Iterator[DataFrame], separator: str = ",", encoding: str = "utf-8", decimal: str = "."
) -> int:
    """Write data frames with the same columns one below the other; no half-written file is left.

    Args:
        path: the file; its suffix determines the format.
        frames: the parts, at least one.
        separator: separator of a CSV file's cells.
        encoding: encoding of a CSV or TSV file.
        decimal: decimal mark of numbers that are not yet text, in a CSV or TSV file.

    Returns:
        The number of rows.

    Raises:
        DataError: an unknown suffix, or cells of another type than the first ones. RunError: the file cannot be
            written. MissingDependencyError: the format's library is not installed.
    """
    write, count = require_writable(path), 0

    def counted() -> Iterator[DataFrame]:
        nonlocal count
        for frame in frames:
            count += len(frame)
            yield frame

    mark = "\t" if path.suffix.lower() == ".tsv" else separator
    write_whole(path, lambda file: write(file, counted(), mark, encoding, decimal))
    return count


def require_writable(path: Path) -> Writer:
    """Return the writer for a file of this name.

    Raises:
        DataError: an unknown suffix. MissingDependencyError: the format's library is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise DataError(f"{path}: its suffix is none of {', '.join(WRITERS)}")
    if suffix in (".parquet", ".arrow", ".feather"):
        require_extra("pyarrow", "tables", "Parquet and Arrow files")
    if suffix == ".xlsx":
        require_extra("openpyxl", "tables", "Excel files")
    return WRITERS[suffix]


def _write_text(path: Path, frames: Iterator[DataFrame], separator: str, encoding: str, decimal: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        for number, frame in enumerate(frames):
            if number == 0:
                writer.writerow(list(frame.columns))
            columns = [_cells(frame[name], decimal) for name in frame.columns]
            writer.writerows(zip(*columns, strict=True))


def _cells(series: Any, decimal: str) -> list[Any]:
    """Convert cells to what `csv` writes; None for missing cells."""
    kind = getattr(series.dtype, "kind", "O")
    if kind == "M":
        year = re.compile(r"^\d{1,3}-")  # pandas 2 writes 1 for the year 0001
        series = series.astype(str).str.replace(year, lambda found: found[0].zfill(5), regex=True)
    cells = series.astype(object).where(series.notna() & (series.astype(str) != "NaT"), None).tolist()
    if kind != "f" or decimal == ".":
        return cells
    return [None if cell is None else str(cell).replace(".", decimal) for cell in cells]


def _write_arrow(path: Path, frames: Iterator[DataFrame], parquet: bool) -> None:
    arrow = require_extra("pyarrow", "tables", "Parquet and Arrow files")
    writer: Any = None
    try:
        first, schema = _begun(frames)
        first += islice(frames, 1)
        if len(first) > 1 and not parquet:  # an Arrow file has one set of categories for all parts
            plain = [f.with_type(f.type.value_type) if arrow.types.is_dictionary(f.type) else f for f in schema]
            schema = arrow.schema(plain)
        if parquet:
            writer = require_extra("pyarrow.parquet", "tables", "Parquet files").ParquetWriter(path, schema)
        else:
            writer = require_extra("pyarrow.ipc", "tables", "Arrow files").new_file(str(path), schema)
        for frame in chain(first, frames):
            writer.write_table(arrow.Table.from_pandas(frame, schema=schema, preserve_index=False))
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError) as error:
        raise DataError(
            f"a typed file cannot hold these cells ({'; '.join(map(str, error.args))}): fix them, or write a .csv"
        ) from None
    finally:
        if writer is not None:
            writer.close()


def _begun(frames: Iterator[DataFrame]) -> tuple[list[DataFrame], Any]:
    """Read frames until each column has a type (or a limit is reached); return them, and a schema of all types."""
    arrow = require_extra("pyarrow", "tables", "Parquet and Arrow files")
    held: list[DataFrame] = []
    types: dict[str, Any] = {}
    for frame in frames:
        held.append(frame)
        schema = arrow.Table.from_pandas(frame, preserve_index=False).schema
        types |= {
            field.name: field.type for field in schema if arrow.types.is_null(types.get(field.name, arrow.null()))
        }
        if not any(map(arrow.types.is_null, types.values())) or sum(map(len, held)) * len(types) >= CELLS:
            break
    if not held:
        raise DataError("there are no rows to write")
    for name, kind in types.items():
        if arrow.types.is_null(kind):  # a column that is empty so far
            types[name] = arrow.string()
        elif arrow.types.is_decimal128(kind):  # its width fits only the cells so far
            types[name] = arrow.decimal128(38, kind.scale)
    whole = arrow.Table.from_pandas(held[0], preserve_index=False).schema
    return held, arrow.schema([field.with_type(types[field.name]) for field in whole], whole.metadata)


def _write_excel(path: Path, frames: Iterator[DataFrame]) -> None:
    whole = pandas().concat(list(frames), ignore_index=True)
    for name in whole.columns:
        if str(whole[name].dtype).startswith("datetime64") and "," in str(whole[name].dtype):
            whole[name] = whole[name].dt.tz_localize(None)  # Excel has no time zones
    illegal = require_extra("openpyxl.utils.exceptions", "tables", "Excel files").IllegalCharacterError
    file = io.BytesIO()  # if the disk is full, zipfile would print its own traceback
    try:
        with pandas().ExcelWriter(file, engine="openpyxl") as writer:
            whole.to_excel(writer, index=False)
            for row in writer.book.active.iter_rows():
                for cell in row:
                    if cell.data_type in ("f", "e"):  # text that begins with =, or such as #N/A
                        cell.data_type = "s"
    except (ValueError, illegal) as error:  # too many rows, control characters
        raise DataError(f"an Excel file cannot hold this table ({error}): write a .csv or .parquet") from None
    path.write_bytes(file.getvalue())


WRITERS: dict[str, Writer] = {
    ".csv": _write_text,
    ".tsv": _write_text,
    ".parquet": lambda path, frames, *_: _write_arrow(path, frames, parquet=True),
    ".arrow": lambda path, frames, *_: _write_arrow(path, frames, parquet=False),
    ".feather": lambda path, frames, *_: _write_arrow(path, frames, parquet=False),
    ".xlsx": lambda path, frames, *_: _write_excel(path, frames),
}
"""Suffix → writer."""
