"""Picture files are opened within memory limits, whatever their header claims."""

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mvae.data.picture import open_bounded
from mvae.errors import DataError


def png(width: int, height: int) -> bytes:
    """A black greyscale PNG of the given size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 13_000, 30_000])
def test_a_small_file_with_too_many_pixels_is_refused_without_using_memory(tmp_path: Path, side: int) -> None:
    content = png(side, 9) if side == 30_000 else png(side, side)
    if side == 30_000:  # only the header claims this size, which is more than Pillow itself opens
        content = content[:16] + struct.pack(">II", side, side) + content[24:29] + struct.pack(
            ">I", zlib.crc32(b"IHDR" + struct.pack(">II", side, side) + content[24:29])
        ) + content[33:]  # fmt: skip
    (tmp_path / "bomb.png").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bomb.png: it has more than 64,000,000 pixels; give a smaller copy"):
            open_bounded(tmp_path / "bomb.png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_large_jpeg_is_read_at_reduced_size(tmp_path: Path) -> None:
    Image.new("RGB", (1_603, 1_201), "red").save(tmp_path / "photo.jpg")
    for most, size in ((10**7, (1_603, 1_201)), (10**6, (802, 601)), (10**5, (201, 151))):
        with open_bounded(tmp_path / "photo.jpg", most) as picture:
            assert picture.convert("RGB").size == size
            assert picture.size[0] * picture.size[1] <= most
    with pytest.raises(DataError, match="more than 100 pixels"):
        open_bounded(tmp_path / "photo.jpg", 100)


def test_non_pictures_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cut.png").write_bytes(png(9, 9)[:20])
    for name, says in (("text", "is not an image"), ("pipe", "not a regular file"), ("absent", "No such file"),
                       ("", "not a regular file"), ("cut.png", "cut.png")):  # fmt: skip
        with pytest.raises(DataError, match=says) as caught:
            open_bounded(tmp_path / name)
        assert "\n" not in str(caught.value)
