"""Download of one published file from one of several mirrors: resumed, verified, and put in place atomically."""

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

__all__ = ["cache_directory", "data_directory", "decompressed_sha256", "fetch", "one_process_at_a_time", "writing"]

CHUNK = 1 << 18
MOST_BYTES = 1 << 30  # largest size of a download, and of its decompressed contents
log = logging.getLogger("mvae.data")


class _MirrorFailed(Exception):
    """The reason why one mirror did not provide the file; the next one is tried."""


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The user's directory of datasets: ``data_dir``, else ``$MVAE_DATA``; None if neither is given."""
    given = data_dir or os.environ.get("MVAE_DATA")
    return Path(given).expanduser() if given else None


def cache_directory() -> Path:
    """The directory of downloads and decoded images: ``$MVAE_CACHE``, ``$XDG_CACHE_HOME/mvae``, or ``~/.cache/mvae``.

    Raises:
        DataError: no home directory is known, and neither variable is set.
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
    """The SHA-256 (in hexadecimal) of a file's bytes after decompression, which re-packing does not change.

    Returns:
        The digest, or None if there are more than ``most`` bytes.

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

    The bytes are collected in ``name.part``, which an interrupted download leaves behind and the next one continues.
    The file gets its final name only when the SHA-256 of its decompressed bytes is the published one, so a file of that
    name is always complete; an existing file is not downloaded again.

    Args:
        name: file name, on the mirrors and in the directory.
        mirrors: addresses of the folders that contain the file, tried in this order.
        sha256_of_decompressed: published SHA-256 of the decompressed file, in hexadecimal.
        directory: where the file is kept; created if absent.
        needed: all files of the dataset, listed in the error message that explains how to place them by hand.
        timeout: seconds without an answer after which a mirror is given up.
        most: bytes, downloaded or decompressed, after which a mirror is given up.

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
        f"them in {directory}, or in a directory of your own, named by --data-dir or MVAE_DATA"
    )


def _download_verified(url: str, part: Path, sha256: str, timeout: float, most: int) -> None:
    resumed = _download(url, part, timeout, most)
    problem = _problem(part, sha256, most)
    if problem and resumed:
        # The first half may be another mirror's, or damaged: only a complete download tests this mirror.
        with writing(part):
            part.unlink()
        _download(url, part, timeout, most)
        problem = _problem(part, sha256, most)
    if problem:
        with writing(part):
            part.unlink()
        raise _MirrorFailed(problem)


def _download(url: str, part: Path, timeout: float, most: int) -> bool:
    """Download ``part`` to its full length; return True if bytes of an earlier download were kept."""
    with writing(part):
        have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mvae"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # no bytes after ours: it is complete or too long; the check will find out
            return True
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _MirrorFailed(_reason(error)) from None
    with response:
        resumed = bool(have) and response.status == 206  # a server that ignores Range sends 200 and the whole file
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            with writing(part):
                part.unlink()  # otherwise every later attempt would request the same range
            raise _MirrorFailed("it sent another range than the requested one")
        length = response.headers.get("Content-Length", "")
        kept = have if resumed else 0
        received = 0
        with writing(part), open(part, "ab" if resumed else "wb", opener=_no_link) as file:
            while kept + received <= most and (chunk := _read(response)):
                file.write(chunk)
                received += len(chunk)
            file.flush()
            os.fsync(file.fileno())  # before the rename: a crash could leave an empty file of the final name
    if kept + received > most:
        with writing(part):
            part.unlink()
        raise _MirrorFailed(f"it sends more than {most:,} bytes")
    if length.isdigit() and received < int(length):  # urllib takes a closed connection for the end of the file
        raise _MirrorFailed(f"the connection closed after {received} of {length} bytes")
    return resumed


def _no_link(path: str, flags: int) -> int:
    """An opener that never writes through a link that somebody else has put there."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:  # unlike the disk's OSErrors, which end the download
        raise _MirrorFailed(_reason(error)) from None


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _problem(part: Path, sha256: str, most: int) -> str | None:
    """Describe what is wrong with a finished download, if anything."""
    with writing(part):
        try:
            found = decompressed_sha256(part, most)
        except GZIP_ERRORS:
            return "it sent a truncated or corrupt gzip file"
    return None if found == sha256 else "it sent a file other than the published one (SHA-256 differs)"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's errors (full, read-only, no directory) into one line that says what to do.

    Raises:
        DataError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror or error}): free some space or make it writable, or set MVAE_CACHE "
            "to another directory for downloads and decoded data"
        ) from None


@contextmanager
def one_process_at_a_time(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: runs started in parallel would corrupt each other's ``.part`` files.

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
            pass  # some network file systems have no locks; the SHA-256 still detects damage
        yield
    finally:
        os.close(handle)
