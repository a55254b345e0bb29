"""Pictures of a table: a column of paths, whose files are read as bytes of one shape."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.picture import read_picture, shape_of
from mvae.data.tables.cells import Missing, factorized, missing_cells, row_named
from mvae.data.tables.frames import Frames
from mvae.data.tables.missed import Missed, say_missed
from mvae.errors import DataError

__all__ = ["picture_file", "picture_shape", "read_pictures"]

LARGEST_SIDE = 64  # pixels; a larger picture is scaled down to it
SHOWN = 10  # damaged pictures that are named in a message
LOOKED_AT = 20  # pictures of a column that are checked for colours


def picture_file(folder: Path, cell: Any) -> Path:
    """The file that a cell names, relative to a folder; Windows paths are accepted, too."""
    text = str(cell).strip()
    file = folder / text
    return file if "\\" not in text or file.is_file() else folder / text.replace("\\", "/")


def picture_shape(frames: Frames, column: str) -> tuple[int, int, int]:
    """Choose the channels, height and width of a column's pictures: the first one's size, at most 64 pixels each way.

    They have colours if one of the first 20 has.

    Raises:
        DataError: none of the files exists, or none of the first 20 is a picture.
    """
    shapes: list[tuple[int, int, int]] = []
    damaged: list[DataError] = []
    for file in islice(_files(frames, column), LOOKED_AT):
        try:
            shapes.append(shape_of(file))
        except DataError as error:  # reading the pictures will report all of them
            damaged.append(error)
    if not shapes and damaged:
        raise damaged[0]
    if not shapes:
        folder = "the current folder" if frames.folder is None else frames.folder
        raise DataError(f"column {column!r}: none of its pictures is there; paths are relative to {folder}")
    _, height, width = shapes[0]
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    return max(shape[0] for shape in shapes), max(1, round(height * scale)), max(1, round(width * scale))


def _files(frames: Frames, column: str) -> Iterator[Path]:
    for part in frames.chunks():
        for cell in part[column].dropna():
            if str(cell).strip() and (file := picture_file(frames.folder or Path(), cell)).is_file():
                yield file


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
        if not file.is_file():
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
