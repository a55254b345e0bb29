"""NumPy's ``.npz`` files: one array per column, and a mask for each column with missing values."""

import math
import os
import struct
import zipfile
import zlib
from io import BufferedIOBase
from os import PathLike
from typing import Any, Literal, cast

import numpy as np

from mvae.data.idx import memory_of_machine
from mvae.errors import DataError, no_file

__all__ = ["PRESENT", "read_npz"]

PRESENT = "__present"
"""The suffix of a column's name that gives the name of its mask."""

DAMAGED = (EOFError, zipfile.BadZipFile, zlib.error, ValueError, KeyError, NotImplementedError, RuntimeError)
LONGEST_HEADER = 1 << 16
MOST_RATIO = 1033  # largest possible compression ratio of deflate
CHUNK = 1 << 20
LARGE = 1 << 28  # bytes from which on an array is mapped instead of read


def read_npz(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read the columns and masks of a ``.npz`` file, as written by ``numpy.savez`` or ``savez_compressed``.

    Each array of numbers, booleans or text is a column of its name, ``rows event…``. A boolean array ``NAME__present``
    of shape ``rows`` says in which rows the column ``NAME`` is present. Pickled objects are never read. Before memory
    is reserved, the sizes that the headers announce are checked against the file and the machine's memory. A large
    array that is not compressed (``numpy.savez``) stays in the file and is memory-mapped.

    Returns:
        Columns by name and masks by name, as `mvae.Table` takes them (after text is encoded, see `mvae.data.schema`).

    Raises:
        DataError: the file is absent, unreadable, empty, truncated or damaged; an array contains objects; a mask has no
            column, has another length or is not boolean. The message names the file and the array.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "patients.npz"
    ...     np.savez(file, age=np.array([41.0, 73.0]), sex=np.array(["f", "m"]), sex__present=np.array([True, False]))
    ...     read_npz(file)
    ({'age': array([41., 73.]), 'sex': array(['f', 'm'], dtype='<U1')}, {'sex': array([ True, False])})
    """
    try:
        if not os.path.isfile(path):
            raise DataError(f"cannot read {path} ({no_file(path)}): correct the path")
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if {"indptr.npy", "indices.npy", "format.npy"} <= set(archive.namelist()):
                raise DataError(
                    f"{path} is a sparse matrix of SciPy: in Python give mvae.Table what scipy.sparse.load_npz reads; "
                    "for the command line save dense arrays, numpy.savez(FILE, NAME=matrix.toarray())"
                )
            _check_sizes(members, size, path)
            arrays = {member.filename.removesuffix(".npy"): _read(archive, member, path) for member in members}
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}): correct the path") from None
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:  # the last: in file names
        raise _damaged(path, f"is not an intact .npz file ({error})") from None
    return _parted(arrays, path)


def _check_sizes(members: list[zipfile.ZipInfo], size: int, path: str | PathLike[str]) -> None:
    """Check that a file of this size can contain what it announces, and that it fits into this machine's memory."""
    if not members:
        raise DataError(f"{path} holds no array: replace it by a file with an array for each modality")
    for member in members:
        most = member.compress_size * (MOST_RATIO if member.compress_type == zipfile.ZIP_DEFLATED else 1)
        if member.compress_size > size or member.file_size > most:
            raise _damaged(path, f"array {member.filename!r}: {member.file_size:,} bytes are announced and not there")
    total = sum(member.file_size for member in members if not _stays(member))
    _require_room(total, path)


def _require_room(size: int, path: str | PathLike[str]) -> None:
    if size > memory_of_machine():
        raise DataError(f"{path} unpacks to {size:,} bytes, more than this machine's memory: give fewer rows")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str | PathLike[str]) -> np.ndarray:
    what = f"array {member.filename.removesuffix('.npy')!r}"
    try:
        with cast("BufferedIOBase", archive.open(member)) as file:
            shape, fortran, dtype = _header(file)
            if dtype.kind not in "biufU":
                raise DataError(f"{path}, {what}: its dtype is {dtype}; save numbers, booleans or text, not objects")
            announced = math.prod(shape) * dtype.itemsize  # Python's integers cannot overflow
            have = member.file_size - file.tell()
            if announced != have:
                raise _damaged(path, f"{what}: its header announces {announced:,} bytes where there are {have:,}")
            if _stays(member) and dtype.kind in "biuf":
                start = file.tell()
                while file.read(CHUNK):  # at its end, the archive checks the CRC
                    pass
                order: Literal["F", "C"] = "F" if fortran else "C"
                return np.memmap(path, dtype, "r", _place(path, member) + start, shape, order)
            _require_room(announced, path)
            values, got = np.empty(announced, np.uint8), 0
            while got < announced and (count := file.readinto(values[got : got + CHUNK].data)):
                got += count
            if got < announced or file.read(1):  # at its end, the archive checks the CRC
                raise _damaged(path, f"{what}: it ends after {got:,} of {announced:,} bytes")
    except DataError:
        raise
    except DAMAGED as error:
        raise _damaged(path, f"{what}: it cannot be unpacked ({' '.join(str(error).split())})") from None
    return values.view(dtype).reshape(shape, order="F" if fortran else "C")


def _stays(member: zipfile.ZipInfo) -> bool:
    """Is the array large and uncompressed, so that it stays in the file?"""
    return member.compress_type == zipfile.ZIP_STORED and member.file_size >= LARGE


def _place(path: str | PathLike[str], member: zipfile.ZipInfo) -> int:
    """The position of the array's first byte, after a header of 30 bytes, its name and an extra field."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        lengths = struct.unpack("<HH", file.read(30)[26:])
    return member.header_offset + 30 + sum(lengths)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format")
    return read(file, max_header_size=LONGEST_HEADER)


def _parted(
    arrays: dict[str, np.ndarray], path: str | PathLike[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Separate the arrays into columns and masks."""
    masks = {name.removesuffix(PRESENT): name for name in arrays if name.endswith(PRESENT) and name != PRESENT}
    columns = {name: values for name, values in arrays.items() if name not in masks.values()}
    for name, mask in masks.items():
        if name not in columns:
            raise DataError(f"{path}: {mask} is a mask, but there is no array {name}")
        if arrays[mask].dtype != bool or arrays[mask].shape != columns[name].shape[:1]:
            raise DataError(f"{path}: {mask} must be boolean, one for each of the {len(columns[name])} rows of {name}")
    for name, values in columns.items():
        if values.ndim == 0:
            raise DataError(f"{path}, array {name!r}: it is a single value; a column has one entry for each row")
    return columns, {name: arrays[mask] for name, mask in masks.items()}


def _damaged(path: str | PathLike[str], what: str) -> DataError:
    return DataError(f"{path} {what}: replace it by an intact copy")
