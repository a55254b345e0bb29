"""Opening a table from its source: a file (by its suffix), several files joined by a key, or a data frame."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvae.data.npz import read_npz
from mvae.data.tables.arrow import read_arrow, read_parquet
from mvae.data.tables.delimited import read_delimited
from mvae.data.tables.frames import Frames, checked_names, of_frame, pandas
from mvae.data.tables.joined import joined
from mvae.errors import DataError, no_file, require_extra

__all__ = ["FORMATS", "is_table_file", "open_table", "refuse_cells"]


def _read_excel(path: Path) -> Frames:
    """Open the first sheet of an Excel file."""
    require_extra("openpyxl", "tables", "Excel files")
    try:
        with pandas().ExcelFile(path, engine="openpyxl") as sheets:
            own = {"keep_default_na": False, "na_values": [""]}  # "None" and "NA" are words
            frame = pandas().read_excel(sheets, sheet_name=0, header=None, dtype=object, **own)
            more = len(sheets.sheet_names) - 1
    except MemoryError:
        raise
    except Exception as error:  # a damaged file gives errors of zipfile, zlib, XML or openpyxl, of any type
        raise DataError(f"cannot read {path} ({' '.join(str(error).split())}): give an Excel file (.xlsx)") from None
    if not len(frame):
        raise DataError(f"{path} is empty: give a sheet with a header and rows")
    header = ["" if name is None or name != name else str(name) for name in frame.iloc[0]]
    names = checked_names(header, str(path))  # checked before pandas renames duplicates
    body = frame.iloc[1:].set_axis(list(names), axis=1).reset_index(drop=True)
    whole = [name for name in names if _holds_integers(body[name].dropna().tolist())]
    found = of_frame(body.astype(dict.fromkeys(whole, "Int64")).infer_objects(), str(path))
    notes = (f"{path.name}: its first sheet is read, and {more} more are not",) if more else ()
    return replace(found, folder=path.parent, notes=notes)


def _holds_integers(cells: list[Any]) -> bool:
    return set(map(type, cells)) == {int} and max(map(abs, cells)) < 2**63


def _read_arrays(path: Path) -> Frames:
    """Open the arrays of an ``.npz`` file; a matrix gives one column for each of its own columns."""
    pd = pandas()
    arrays, masks = read_npz(path)
    columns: dict[str, Any] = {}
    notes = []
    for name, array in arrays.items():
        if array.ndim > 2:
            notes.append(f"{path.name}: {name} has rows of shape {array.shape[1:]} and is left out of the table")
            continue
        parts = {name: array} if array.ndim == 1 else {f"{name}.{i}": array[:, i] for i in range(array.shape[1])}
        for part, values in parts.items():
            series = pd.Series(values.astype(object) if values.dtype.kind == "U" else values)
            columns[part] = series if name not in masks else series.convert_dtypes().where(masks[name])
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise DataError(f"{path}: its arrays differ in their number of rows ({', '.join(map(str, sorted(lengths)))})")
    if not columns:
        raise DataError(f"{path} has no array with one number or text per row")
    return replace(of_frame(pd.DataFrame(columns), str(path)), folder=path.parent, notes=tuple(notes))


FORMATS: dict[str, Callable[[Path], Frames]] = {
    ".csv": read_delimited, ".tsv": read_delimited, ".txt": read_delimited, ".parquet": read_parquet,
    ".pq": read_parquet, ".arrow": read_arrow, ".feather": read_arrow, ".xlsx": _read_excel, ".npz": _read_arrays,
}  # fmt: skip
"""Suffix → reader."""


def is_table_file(source: Any) -> bool:
    """Does this name a file that `open_table` reads?

    >>> is_table_file("patients.csv"), is_table_file("digits"), is_table_file("data.csv.gz")
    (True, False, True)
    """
    return isinstance(source, str | Path) and _suffix(Path(source)) in FORMATS


def open_table(source: Any, key: str | None = None) -> Frames:
    """Open a table from a file, from several files joined by a key, or from a data frame.

    Args:
        source: a path (.csv, .tsv, .parquet, .arrow, .feather, .xlsx, .npz; ``.csv.gz`` too), a list of paths, a data
            frame of pandas, polars or another library, or columns by name.
        key: the column that names a row; needed for several files, which are joined by it. If a file does not have a
            row, that file's columns are missing in it.

    Raises:
        DataError: a file is absent, damaged, empty, named twice or of another format; several files without a key, or
            with a key that names two rows of a file. MissingDependencyError: the format's library is not installed.
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | Path):
        return _of_file(Path(source)).keyed(key)
    if isinstance(source, list | tuple) and all(isinstance(part, str | Path) for part in source):
        if not source:
            raise DataError("no file is named")
        if twice := [part for part, n in Counter(map(os.path.realpath, source)).items() if n > 1]:
            raise DataError(f"{twice[0]} is named twice: name each file once")
        parts = [_of_file(Path(part)) for part in source]
        return parts[0].keyed(key) if len(parts) == 1 else joined(_by_stem(source, parts), key)
    return of_frame(source).keyed(key)


def refuse_cells(source: Any) -> None:
    """Raise DataError for a file of cells (AnnData or MuData), which is not a table."""
    if isinstance(source, str | Path) and _suffix(Path(source)) in (".h5ad", ".h5mu"):
        raise DataError(
            f"{source} holds cells: read them in Python with mvae.data.annotated.read_anndata, then train with "
            "mvae.fit (docs/how-to/cells.md); for the command line save arrays (.npz)"
        )


def _of_file(path: Path) -> Frames:
    refuse_cells(path)
    if _suffix(path) not in FORMATS:
        raise DataError(f"{path} is none of {', '.join(FORMATS)}: save it as CSV or Parquet")
    if not path.is_file():
        raise DataError(f"cannot read {path} ({no_file(path)}): correct the path")
    return FORMATS[_suffix(path)](path)


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def _by_stem(source: Sequence[Any], parts: Sequence[Frames]) -> dict[str, Frames]:
    stems = [Path(part).name.partition(".")[0] for part in source]
    return {
        stem if stems.count(stem) == 1 else str(path): part
        for stem, path, part in zip(stems, source, parts, strict=True)
    }
