"""Parquet and Arrow files, which are read in parts; integers with missing values stay integers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mvae.data.tables.frames import Frames, checked_names, of_arrow
from mvae.errors import DataError, listed, no_file, require_extra

__all__ = ["read_arrow", "read_parquet"]

OF_PANDAS = json.JSONDecodeError, TypeError  # what pandas raises about its own metadata and its own types
BUFFER = 1 << 20  # bytes of a column of a Parquet file that are read at once
MAGIC = b"ARROW1"  # an Arrow file begins with it; a stream does not


def read_parquet(path: Path) -> Frames:
    """Open a Parquet file.

    Raises:
        DataError: the file is absent, damaged or without rows, or two columns have the same name.
            MissingDependencyError: PyArrow is not installed.
    """
    parquet = require_extra("pyarrow.parquet", "tables", "Parquet files")

    def batches(rows: int) -> Iterator[Any]:
        # PyArrow's default, pre_buffer, keeps all that was read; without a buffer_size it reads a whole row group
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            yield from file.iter_batches(batch_size=rows)

    def schema() -> Any:
        with parquet.ParquetFile(path) as file:
            return file.schema_arrow

    return _frames(path, schema, batches)


def read_arrow(path: Path) -> Frames:
    """Open an Arrow file or stream (``.arrow``, ``.feather``), mapped into memory.

    Raises:
        DataError: as `read_parquet`. MissingDependencyError: PyArrow is not installed.
    """
    ipc = require_extra("pyarrow.ipc", "tables", "Arrow files")
    arrow = require_extra("pyarrow", "tables", "Arrow files")

    def opened(source: Any) -> tuple[Any, Iterator[Any]]:
        """The schema and the batches of rows."""
        is_file = source.read(len(MAGIC)) == MAGIC
        source.seek(0)
        if not is_file:
            stream = ipc.open_stream(source)
            return stream.schema, iter(stream)
        file = ipc.open_file(source)
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))

    def batches(rows: int) -> Iterator[Any]:
        with arrow.memory_map(str(path)) as source:
            for batch in opened(source)[1]:
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def schema() -> Any:
        with arrow.memory_map(str(path)) as source:
            return opened(source)[0]

    return _frames(path, schema, batches)


def _frames(path: Path, schema: Callable[[], Any], batches: Callable[[int], Iterator[Any]]) -> Frames:
    arrow = require_extra("pyarrow", "tables", "Parquet files")
    if not path.is_file():
        raise DataError(f"cannot read {path} ({no_file(path)}): correct the path")

    def read(rows: int) -> Iterator[Any]:
        try:
            for batch in batches(rows):
                yield of_arrow(arrow.Table.from_batches([batch]), ignore_metadata=True)
        except (arrow.ArrowException, OSError, *OF_PANDAS) as error:
            raise DataError(f"{path} is damaged ({' '.join(str(error).split())}): give an intact copy") from None

    try:
        names = checked_names(schema().names, str(path))
    except (arrow.ArrowException, OSError, *OF_PANDAS) as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split())}): give an intact file") from None
    if not any(len(part) for part in read(1_000)):
        raise DataError(f"{path} has no rows (columns: {listed(names)})")
    return Frames(str(path), names, read, folder=path.parent)
