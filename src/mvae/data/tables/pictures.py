"""Pictures of a table: a column of paths, whose files are read as bytes of one shape."""

import statistics
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.picture import read_picture, shape_of
from mvae.data.tables.cells import Missing, factorized, missing_cells, row_named
from mvae.data.tables.frames import Frames
from mvae.data.tables.missed import Missed, say_missed
from mvae.errors import DataError

__all__ = ["described", "is_there", "picture_file", "picture_shape", "read_pictures"]

LARGEST_SIDE = 64  # pixels; a larger picture is scaled down to it
SHOWN = 10  # damaged pictures that are named in a message
MOST_FILES = 10_000  # pictures of a column that are looked for to describe it
LOOKED_AT = 200  # pictures of a column whose headers are read, to choose a shape for all


def picture_file(folder: Path, cell: Any) -> Path:
    """The file that a cell names, relative to a folder; Windows paths are accepted, too."""
    text = str(cell).strip()
    file = folder / text
    return file if "\\" not in text or is_there(file) else folder / text.replace("\\", "/")


def is_there(file: Path) -> bool:
    """Whether there is such a file; a text that is too long for a name is none."""
    try:
        return file.is_file()
    except OSError:
        return False


def picture_shape(frames: Frames, column: str) -> tuple[int, int, int]:
    """Choose one shape (channels, height, width) for a column's pictures: that of 200 of them, from the whole table.

    It has their median ratio of height to width, and their median longer side, at most 64 pixels; colours if one has.

    Raises:
        DataError: none of the files exists, or none of the 200 is a picture.
    """
    shapes, damaged = _looked_at(_files(frames, column))
    if not shapes and damaged:
        raise damaged[0]  # reading the pictures will report all of them
    if not shapes:
        folder = "the current folder" if frames.folder is None else frames.folder
        raise DataError(f"column {column!r}: none of its pictures is there; paths are relative to {folder}")
    return _common(shapes)


def described(frames: Frames, column: str, missing: Missing = ()) -> tuple[str, list[str]]:
    """The sizes of a column's pictures in words, and notes on files that are absent or cannot be read."""
    files = _files(frames, column, missing)
    absent = [file for file in files if not is_there(file)]
    looked_for = f"{len(files):,} files" + (" looked for" if len(files) == MOST_FILES else "")
    shapes, damaged = _looked_at(files)
    notes = [f"{column}: {len(absent)} of {looked_for} are not there, and so missing: {absent[0]}"] if absent else []
    notes += [f"{column}: {error}, or delete it" for error in damaged[:SHOWN]]
    if not shapes:
        return "", notes
    (fewest, most), (colours, height, width) = _extremes(shapes), _common(shapes)
    sizes = fewest if fewest == most else f"{fewest} to {most}"
    return f"{sizes} pixels, read as {width} × {height} in {'colour' if colours == 3 else 'grey'}", notes


def _files(frames: Frames, column: str, missing: Missing = ()) -> list[Path]:
    """The files that a column names, at most 10,000 of them, in a random order: a table may be sorted."""
    found: set[str] = set()
    for part in frames.chunks():
        _, cells = factorized(part[column])
        found |= {str(cell).strip() for cell in cells[~missing_cells(cells, missing)]} - {""}
        found = set(sorted(found, key=_mixed)[:MOST_FILES])
    return [picture_file(frames.folder or Path(), name) for name in sorted(found, key=_mixed)]


def _mixed(name: str) -> tuple[int, str]:
    """A key that sorts names in an order that looks random, but is always the same."""
    return zlib.crc32(name.encode(errors="surrogatepass")), name


def _looked_at(files: Sequence[Path]) -> tuple[list[tuple[int, int, int]], list[DataError]]:
    """The shapes of the first 200 files that exist, and the errors of those that cannot be read."""
    shapes: list[tuple[int, int, int]] = []
    damaged: list[DataError] = []
    for file in islice((file for file in files if is_there(file)), LOOKED_AT):
        try:
            shapes.append(shape_of(file))
        except DataError as error:
            damaged.append(error)
    return shapes, damaged


def _common(shapes: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The median ratio of height to width and the median longer side; in colour if one of them is."""
    ratio = statistics.median_low(height / width for _, height, width in shapes)
    side = statistics.median_low(min(LARGEST_SIDE, max(shape[1:])) for shape in shapes)
    height, width = (side * ratio, side) if ratio < 1 else (side, side / ratio)
    return max(shape[0] for shape in shapes), max(1, round(height)), max(1, round(width))


def _extremes(shapes: Sequence[tuple[int, int, int]]) -> tuple[str, str]:
    """The sizes of the smallest and of the largest picture."""
    by_area = sorted(((height, width) for _, height, width in shapes), key=lambda size: (size[0] * size[1], size))
    fewest, most = (f"{width} × {height}" for height, width in (by_area[0], by_area[-1]))
    return fewest, most


def read_pictures(
    paths: Any,
    shape: tuple[int, ...],
    folder: Path,
    missing: Missing = (),
    missed: Missed | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the pictures of a column of paths as bytes, with the mask of rows that have one.

    A file that does not exist counts as missing, which is logged.

    Raises:
        DataError: files that are not pictures; the message names the first one's row, and the paths.
    """
    values, here = np.zeros((len(paths), *shape), np.uint8), np.zeros(len(paths), bool)
    codes, uniques = factorized(paths)
    gone, absent, damaged = missing_cells(uniques, missing), list[Path](), dict[Path, str]()
    for row, code in enumerate(codes.tolist()):
        if code < 0 or gone[code]:
            continue
        file = picture_file(folder, uniques[code])
        if not is_there(file):
            absent.append(file)
            continue
        try:
            values[row], here[row] = read_picture(file, *shape).transpose(2, 0, 1), True
        except DataError as error:
            damaged.setdefault(file, f"row {row_named(paths.index, row)}: {error}")
    if damaged:
        others = [str(file) for file in damaged][1:]
        more = f" (and {len(others)} more: {', '.join(others[:SHOWN])}{', …' if len(others) > SHOWN else ''})"
        raise DataError(
            f"column {paths.name!r}, {next(iter(damaged.values()))}, or delete the file: an absent picture is missing"
            + (more if others else "")
        )
    if absent:
        say = say_missed if missed is None else missed.add
        say(str(paths.name), len(absent), f"{absent[0]} is not there")
    return values, here
