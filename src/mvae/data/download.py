"""Fetching one published file: from one of several mirrors, resumed, verified, and put in place atomically."""

import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from os import PathLike
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mvae.data.idx import GZIP_ERRORS, open_plain_or_gzip
from mvae.errors import DataError

if sys.platform != "win32":
    import fcntl

__all__ = ["cache_directory", "decompressed_sha256", "fetch", "one_process_at_a_time", "writing"]

CHUNK = 1 << 18
MOST_BYTES = 1 << 30  # of a download, and of what it unpacks to
log = logging.getLogger("mvae.data")


class _MirrorFailed(Exception):
    """Why one mirror did not give the file; the next one is tried."""


def cache_directory() -> Path:
    """Where downloads and decoded images are kept: ``$MVAE_CACHE``, ``$XDG_CACHE_HOME/mvae``, or ``~/.cache/mvae``.

    Raises:
        DataError: no home directory is known, and neither variable says where else.
    """
    if own := os.environ.get("MVAE_CACHE"):
        return Path(own).expanduser()
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the XDG specification: relative paths are to be ignored
        return Path(named) / "mvae"
    try:
        return Path.home() / ".cache" / "mvae"
    except RuntimeError:
        raise DataError("no home directory to keep downloads in: set MVAE_CACHE to a directory") from None


def decompressed_sha256(path: str | PathLike[str], most: int = MOST_BYTES) -> str | None:
    """SHA-256 (in hexadecimal) of a file's bytes after decompression, which re-packing does not change.

    Returns:
        None where there are more than ``most`` bytes.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read or decompressed.
    """
    digest = hashlib.sha256()
    with open_plain_or_gzip(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            most -= len(chunk)
            if most < 0:
                return None
    return digest.hexdigest()


def fetch(
    name: str,
    mirrors: Sequence[str],
    sha256_of_decompressed: str,
    directory: str | PathLike[str],
    *,
    needed: Sequence[str] = (),
    timeout: float = 30.0,
    most: int = MOST_BYTES,
) -> Path:
    """Download ``directory/name`` from the first mirror that has it, and return its path.

    The bytes are gathered in ``name.part``, which an interrupted download leaves behind and the next one goes on
    with. It takes its final name only once the SHA-256 of its decompressed bytes is the published one, so a file
    of that name is always complete; one that is already there is not downloaded again.

    Args:
        name: the file, on the mirrors and in the directory.
        mirrors: addresses of the folders that hold it, tried in this order.
        sha256_of_decompressed: in hexadecimal.
        directory: made if absent.
        needed: all files of the dataset, named by the error that tells how to place them by hand.
        timeout: seconds without an answer after which a mirror is given up.
        most: bytes that are downloaded, and unpacked, before a mirror is given up.

    Raises:
        DataError: every mirror failed (the message says how, and what to do), or the disk cannot be written.
    """
    directory = Path(directory)
    target, part = directory / name, directory / f"{name}.part"
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    reasons = []
    with one_process_at_a_time(directory):
        if target.exists():
            return target
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            log.info("downloading %s", url)
            try:
                _download_verified(url, part, sha256_of_decompressed, timeout, most)
            except _MirrorFailed as failure:
                reasons.append(f"{url}: {failure}")
            else:
                with writing(target):
                    os.replace(part, target)
                return target
    files = ", ".join(needed or [name])
    raise DataError(
        f"could not download {name} ({'; '.join(reasons)}): try again later, or get {files} elsewhere and put "
        f"them in {directory}, or in a directory of yours that --data-dir or MVAE_DATA names"
    )


def _download_verified(url: str, part: Path, sha256: str, timeout: float, most: int) -> None:
    resumed = _download(url, part, timeout, most)
    problem = _problem(part, sha256, most)
    if problem and resumed:
        # The first half may be another mirror's, or damaged: only a download of the whole judges this mirror.
        with writing(part):
            part.unlink()
        _download(url, part, timeout, most)
        problem = _problem(part, sha256, most)
    if problem:
        with writing(part):
            part.unlink()
        raise _MirrorFailed(problem)


def _download(url: str, part: Path, timeout: float, most: int) -> bool:
    """Bring ``part`` to its full length; True if that kept bytes of an earlier download."""
    with writing(part):
        have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mvae"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing after what we have: complete, or too long; the check will tell
            return True
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _MirrorFailed(_reason(error)) from None
    with response:
        resumed = bool(have) and response.status == 206  # a server that ignores Range sends 200 and the whole
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            with writing(part):
                part.unlink()  # or every later attempt would ask for the same range
            raise _MirrorFailed("it sent another range than the one asked for")
        length = response.headers.get("Content-Length", "")
        kept = have if resumed else 0
        received = 0
        with writing(part), open(part, "ab" if resumed else "wb", opener=_no_link) as file:
            while kept + received <= most and (chunk := _read(response)):
                file.write(chunk)
                received += len(chunk)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a crash could leave an empty file of the final name
    if kept + received > most:
        with writing(part):
            part.unlink()
        raise _MirrorFailed(f"it sends more than {most:,} bytes")
    if length.isdigit() and received < int(length):  # urllib takes a closed connection for the end
        raise _MirrorFailed(f"the connection closed after {received} of {length} bytes")
    return resumed


def _no_link(path: str, flags: int) -> int:
    """An opener that never writes through a link that somebody else has put there."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:  # told apart from the disk's OSErrors, which end everything
        raise _MirrorFailed(_reason(error)) from None


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _problem(part: Path, sha256: str, most: int) -> str | None:
    """What is wrong with a finished download, if anything."""
    with writing(part):
        try:
            found = decompressed_sha256(part, most)
        except GZIP_ERRORS:
            return "it sent a truncated or corrupt gzip file"
    return None if found == sha256 else "it sent something else than the published file (SHA-256 differs)"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's errors (full, read-only, no directory) into one line that says what to do.

    Raises:
        DataError: in the place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror or error}): make room or make it writable, or name another "
            "directory for downloads and decoded data in MVAE_CACHE"
        ) from None


@contextmanager
def one_process_at_a_time(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: runs started side by side would spoil each other's ``.part``.

    Raises:
        DataError: the directory cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    with writing(directory):
        handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process that writes to %s", directory)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # some network file systems have no locks; the SHA-256 still stands guard
        yield
    finally:
        os.close(handle)
