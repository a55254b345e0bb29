"""Pictures beside a table: a column of paths, read as bytes of one shape."""

from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.picture import fitted, open_bounded
from mvae.data.tables.column import Missing, factorized, missing_cells
from mvae.data.tables.frames import Frames
from mvae.errors import DataError

__all__ = ["picture_shape", "read_pictures"]

LARGEST_SIDE = 64  # pixels; a larger picture is scaled down to it


def picture_shape(frames: Frames, column: str) -> tuple[int, int, int]:
    """Channels, height and width that a column's pictures get: those of the first, at most 64 pixels wide and high.

    Raises:
        DataError: not one of the files is there.
    """
    for part in frames.chunks():
        for cell in part[column].dropna():
            if str(cell).strip() and (frames.folder / str(cell).strip()).is_file():
                with open_bounded(frames.folder / str(cell).strip()) as picture:
                    width, height = picture.size
                    scale = min(1.0, LARGEST_SIDE / max(width, height))
                    channels = 1 if picture.mode in ("1", "L", "I;16", "LA") else 3
                    return channels, max(1, round(height * scale)), max(1, round(width * scale))
    raise DataError(f"column {column!r}: none of its pictures is there; paths are relative to {frames.folder}")


def read_pictures(
    paths: Any, rows: int, shape: tuple[int, ...], folder: Path, missing: Missing = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a column of paths as bytes, and which are there; a file that is absent is missing.

    Raises:
        DataError: a file that is no picture, by its path.
    """
    values, here = np.zeros((rows, *shape), np.uint8), np.zeros(rows, bool)
    if paths is None:
        return values, here
    codes, uniques = factorized(paths)
    gone = missing_cells(uniques, missing)
    for row, code in enumerate(codes.tolist()):
        if code < 0 or gone[code]:
            continue
        file = folder / str(uniques[code]).strip()
        if file.is_file():
            with open_bounded(file) as picture:
                scaled = fitted(picture.convert("L" if shape[0] == 1 else "RGB"), shape[1], shape[2])
            pixels = np.asarray(scaled, np.uint8)
            values[row], here[row] = (pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), True
    return values, here
