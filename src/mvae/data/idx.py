"""The IDX format of MNIST and similar datasets: a short big-endian header, then the values; gzipped or plain."""

import gzip
import math
import os
import struct
import zlib
from io import BufferedIOBase
from os import PathLike

import numpy as np

from mvae.errors import DataError, QueryError

__all__ = ["GZIP_ERRORS", "memory_of_machine", "open_plain_or_gzip", "read_idx", "require_memory"]

GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
"""The errors that reading a truncated or corrupt gzip file raises."""

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 32  # the largest number that every NumPy supports
CHUNK = 1 << 20


def open_plain_or_gzip(path: str | PathLike[str]) -> BufferedIOBase:
    """Open a file for reading its decompressed bytes, whatever its name.

    The content decides, because browsers and servers often decompress a ``.gz`` file and keep its name.
    """
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else open(path, "rb")


def read_idx(
    path: str | PathLike[str], remedy: str = "replace it by an intact copy", most: int | None = None
) -> np.ndarray:
    """Read an IDX file into an array of the shape and dtype (in native byte order) that its header announces.

    Memory is not reserved on the basis of the header: a file never takes more than its own decompressed bytes.

    Args:
        path: the file, gzipped or plain.
        remedy: what error messages tell the user to do about a damaged file.
        most: largest size of the array in bytes; a header that announces more is refused. None: this machine's memory.

    Raises:
        DataError: the file is absent, unreadable, not an IDX file, of an unknown type, truncated, corrupt, empty, or
            longer than its header says.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "labels-idx1-ubyte"
    ...     _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([7, 2, 1]))
    ...     read_idx(file)
    array([7, 2, 1], dtype=uint8)
    """
    try:
        with open_plain_or_gzip(path) as file:
            return _parse(file, path, remedy, memory_of_machine() if most is None else most)
    except GZIP_ERRORS as error:
        raise DataError(f"{path} is a truncated or corrupt gzip file ({error}): {remedy}") from None
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}): {remedy}") from None


def _parse(file: BufferedIOBase, path: str | PathLike[str], remedy: str, most: int) -> np.ndarray:
    def damaged(what: str) -> DataError:
        return DataError(f"{path} {what}: {remedy}")

    magic = file.read(4)
    if len(magic) == 4 and magic[:2] != b"\0\0":
        raise damaged(f"is not an IDX file (it begins with {magic!r}, not with two zero bytes)")
    if len(magic) < 4:
        raise damaged(f"ends within its header, after {len(magic)} bytes")
    code, dimensions = magic[2], magic[3]
    if code not in DTYPES:
        raise damaged(f"has the type code 0x{code:02X}, which the IDX format does not know")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise damaged(f"announces {dimensions} dimensions (1 to {MOST_DIMENSIONS} can be read)")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise damaged(f"ends within its header, after {4 + len(sizes)} bytes")
    shape = struct.unpack(f">{dimensions}I", sizes)
    dtype = np.dtype(DTYPES[code])
    announced = math.prod(shape) * dtype.itemsize  # Python's integers cannot overflow
    what = f"{'×'.join(map(str, shape))} {dtype.name}"
    if announced == 0:
        raise damaged(f"holds no values ({what})")
    if announced > most:
        raise damaged(f"announces {announced:,} bytes ({what}), more than the {most:,} that can be read")

    body = bytearray()
    # Request one byte more than announced, to find trailing bytes, or to reach the end, where gzip checks its CRC.
    while len(body) <= announced and (chunk := file.read(min(CHUNK, announced + 1 - len(body)))):
        body += chunk
    if len(body) < announced:
        raise damaged(f"ends after {len(body)} of the {announced} bytes that its header announces ({what})")
    if len(body) > announced:
        raise damaged(f"goes on after the {announced} bytes that its header announces ({what})")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def require_memory(size: int, what: str) -> None:
    """Raise QueryError if ``size`` bytes are more than this machine's memory."""
    if size > memory_of_machine():
        raise QueryError(f"{what} take {size // 10**9:,} GB, more than this machine has: ask for fewer at once")


def memory_of_machine() -> int:
    """The bytes of memory of this machine; 2⁶³ if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 63
