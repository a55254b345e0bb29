"""Images decoded (or drawn) once into one memory-mapped file of bytes, which later runs open in an instant."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mvae.data.download import one_process_at_a_time, writing

__all__ = ["Pictures", "cached_images"]


class Pictures(NamedTuple):
    """A dataset's images, ordered by split: train, validation and test end at ``ends``.

    ``attributes`` is boolean ``rows 18``; ``fingerprint`` (hexadecimal) is the same for the same images only.
    """

    images: np.memmap
    attributes: np.ndarray
    ends: tuple[int, int, int]
    fingerprint: str

    def parts(self) -> list[slice]:
        """The rows of train, validation and test."""
        first, second, third = self.ends
        return [slice(first), slice(first, second), slice(second, third)]


def cached_images(
    directory: Path,
    fingerprint: str,
    shape: tuple[int, ...],
    make: Callable[[], Iterable[np.ndarray]],
    doing: str,
) -> np.memmap:
    """The images of ``make()`` as a read-only memory-mapped array ``rows channels height width`` of bytes.

    The file's name holds the fingerprint of what it was made from, so that of another source is never taken. It is
    written row by row beside its place, flushed and renamed: a file of that name is whole, and what a kill leaves
    behind is overwritten. One that is truncated or otherwise damaged all the same is made anew.

    Args:
        directory: where the file is kept; made if absent.
        fingerprint: hexadecimal; the same for the same images only.
        shape: of the whole array.
        make: the images, in order, as arrays of bytes of ``shape[1:]``; called where there is no file yet.
        doing: what is shown while they are made.

    Raises:
        DataError: the disk cannot be written, or whatever ``make`` raises.
    """
    path = directory / f"images-{fingerprint[:16]}.npy"
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(directory):
        found = _whole(path, shape)
        if found is None:
            _write(path, shape, make(), doing)
            found = _whole(path, shape)
    assert found is not None
    return found


def _whole(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The mapped file, if it is there and is what it should be, to the byte."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, truncated, or no array at all
        return None
    exact = isinstance(found, np.memmap) and found.shape == shape and found.dtype == np.uint8
    return found if exact and path.stat().st_size == found.offset + found.nbytes else None


def _write(path: Path, shape: tuple[int, ...], images: Iterable[np.ndarray], doing: str) -> None:
    part = path.with_suffix(".part")
    with writing(path):
        file = part.open("wb")
    with file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for image in _shown(images, shape[0], doing):
            assert image.shape == shape[1:]
            assert image.dtype == np.uint8
            with writing(path):
                file.write(image.tobytes())
        with writing(path):
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a crash could leave an empty file of the final name
    with writing(path):
        os.replace(part, path)


def _shown(images: Iterable[np.ndarray], rows: int, doing: str) -> Iterable[np.ndarray]:
    """With a progress bar on a terminal, else one line."""
    if not sys.stderr.isatty():
        print(f"mvae: {doing}, once", file=sys.stderr)
        return images
    from rich.console import Console
    from rich.progress import track

    return track(images, doing, rows, console=Console(stderr=True))
