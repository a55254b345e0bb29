"""Arrays that are computed once and kept in a memory-mapped file, which later runs open instantly."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.download import one_process_at_a_time, writing
from mvae.errors import RunError
from mvae.files import write_json

__all__ = ["cached_array"]

CHUNK = 1 << 20
log = logging.getLogger("mvae.data")


def cached_array(
    directory: Path,
    fingerprint: str,
    shape: tuple[int, ...],
    make: Callable[[], Iterable[np.ndarray]],
    doing: str,
) -> np.memmap:
    """Return the rows of ``make()`` as a read-only memory-mapped array of bytes (uint8).

    The file name contains the fingerprint of the source, so that the file of another source is never used. The file is
    written row by row under a temporary name, flushed and renamed: a file of the final name is complete, and nothing
    else is left behind. A second file contains its SHA-256. The contents are compared with it whenever the size or time
    of the file differ from those at the last comparison; a file that is damaged or has no such record is made again.

    Args:
        directory: where the file is kept; created if absent.
        fingerprint: hexadecimal; equal only for equal contents.
        shape: shape of the whole array.
        make: gives the rows, in order, as arrays of ``shape[1:]``; called if there is no file yet.
        doing: text that is shown while the rows are made.

    Raises:
        DataError, RunError: the disk cannot be written; and whatever ``make`` raises.
    """
    path = directory / f"array-{fingerprint[:16]}.npy"
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(directory):
        found = _intact(path, shape)
        if found is None:
            _write(path, shape, make(), doing)
            found = _mapped(path, shape)
    assert found is not None
    return found


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The mapped file, if it exists and has the right header and size."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, truncated, or not an array
        return None
    exact = isinstance(found, np.memmap) and found.shape == shape and found.dtype == np.uint8
    return found if exact and path.stat().st_size == found.offset + found.nbytes else None


def _intact(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The mapped file, if its contents are as they were written."""
    found, record = _mapped(path, shape), path.with_suffix(".json")
    try:
        stored: Any = json.loads(record.read_text())
        sha256, state = stored["sha256"], stored["state"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if found is None or state == _state(path):
        return found
    log.info("comparing %s with its checksum", path)
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        log.warning("%s is damaged and is made anew", path)
        return None
    try:
        _record(path, sha256)
    except RunError:  # a read-only cache is compared each time
        log.debug("cannot write %s", record)
    return found


def _state(path: Path) -> list[int]:
    """The size and time of the file, which change when it is written."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _record(path: Path, sha256: str) -> None:
    write_json(path.with_suffix(".json"), {"sha256": sha256, "state": _state(path)})


def _write(path: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray], doing: str) -> None:
    part, digest = path.with_suffix(".part"), hashlib.sha256()
    try:
        with writing(path):
            part.unlink(missing_ok=True)
            file = part.open("xb+")  # never write through a link that somebody else has put there
        with file:
            with writing(path):
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                file.seek(0)
                digest.update(file.read())
            for row in _shown(rows, shape[0], doing):
                assert row.shape == shape[1:]
                assert row.dtype == np.uint8
                content = row.tobytes()
                digest.update(content)
                with writing(path):
                    file.write(content)
            with writing(path):
                file.flush()
                os.fsync(file.fileno())  # before the rename: a crash could leave an empty file of the final name
        with writing(path):
            os.replace(part, path)
            _record(path, digest.hexdigest())
    finally:
        part.unlink(missing_ok=True)


def _shown(rows: Iterable[np.ndarray], count: int, doing: str) -> Iterable[np.ndarray]:
    """The same rows, with a progress bar if on a terminal."""
    log.info("%s, once", doing)
    if not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, doing, count, console=Console(stderr=True))
