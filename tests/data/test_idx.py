import gzip
import math
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mvae.data.idx import open_plain_or_gzip, read_idx
from mvae.errors import DataError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


SMALL = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


def refusal(path: Path, remedy: str = "replace it by an intact copy") -> str:
    with pytest.raises(DataError) as caught:
        read_idx(path, remedy)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_are_read_back_as_written(tmp_path: Path, dtype: str, compress: bool, data: st.DataObject):
    values = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=5)))
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(idx(values)) if compress else idx(values))
    read = read_idx(path)
    assert read.dtype == values.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_compression_is_detected_from_the_content(tmp_path: Path, name: str):
    path = tmp_path / name
    for content in (SMALL, gzip.compress(SMALL)):
        path.write_bytes(content)
        assert read_idx(path).shape == (2, 3, 4)
        with open_plain_or_gzip(path) as file:
            assert file.read() == SMALL


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header, after 0 bytes"),
        (SMALL[:3], "header, after 3 bytes"),
        (SMALL[:11], "header, after 11 bytes"),
        (b"<html>Please log in</html>", "not an IDX file"),
        (b"\0\0\x0a\x01" + SMALL[4:], "type code 0x0A"),
        (b"\0\0\x08\x00" + SMALL[4:], "0 dimensions"),
        (b"\0\0\x08\xff" + bytes(2000), "255 dimensions"),
        (idx(np.zeros((0, 28, 28), np.uint8)), "no values (0×28×28 uint8)"),
        (SMALL[:-1], "ends after 23 of the 24 bytes that its header announces (2×3×4 uint8)"),
        (SMALL[:16], "ends after 0 of the 24 bytes"),
        (SMALL + b"\0", "goes on after the 24 bytes"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damage_is_described(tmp_path: Path, content: bytes, says: str, compress: bool):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(content) if compress else content)
    assert says in refusal(path)


def test_a_gzip_file_cut_anywhere_is_refused(tmp_path: Path):
    whole = gzip.compress(SMALL)
    path = tmp_path / "images.gz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


def test_a_gzip_file_with_a_flipped_bit_is_refused_or_read_correctly(tmp_path: Path):
    whole = gzip.compress(SMALL)
    path = tmp_path / "images.gz"
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            read = read_idx(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:  # a bit of gzip's own header, such as its time stamp
            assert read.tobytes() == SMALL[16:]


def test_bytes_after_the_compressed_data_are_refused(tmp_path: Path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(SMALL) + b"more")
    assert "corrupt gzip" in refusal(path)


def test_the_error_ends_with_the_given_remedy(tmp_path: Path):
    path = tmp_path / "images"
    path.write_bytes(SMALL[:-1])
    assert refusal(path).endswith(": replace it by an intact copy")
    assert refusal(path, remedy="delete it").endswith(": delete it")


def test_an_absent_file_or_a_directory_is_refused(tmp_path: Path):
    assert "No such file" in refusal(tmp_path / "absent")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("shape", [(2**30,), (60_000, 28, 28)])
@pytest.mark.parametrize("compress", [False, True])
def test_a_corrupt_header_reserves_no_memory(tmp_path: Path, shape: tuple[int, ...], compress: bool):
    path = tmp_path / "images"
    content = bytes([0, 0, 0x08, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(100)
    path.write_bytes(gzip.compress(content) if compress else content)
    tracemalloc.start()
    try:
        message = refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"100 of the {math.prod(shape)} bytes" in message
    assert peak < 8 << 20


def test_a_decompression_bomb_uses_no_more_memory_than_its_header_claims(tmp_path: Path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(SMALL + bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    try:
        assert "goes on after the 24 bytes" in refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("compress", [False, True])
def test_a_header_above_the_limit_is_refused_without_reading(tmp_path: Path, compress: bool):
    path = tmp_path / "images"
    content = bytes([0, 0, 0x08, 1]) + struct.pack(">I", 64 << 20) + bytes(64 << 20)
    path.write_bytes(gzip.compress(content, 1) if compress else content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"announces 67,108,864 bytes \(67108864 uint8\), more than the 1,048,576"):
            read_idx(path, most=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
