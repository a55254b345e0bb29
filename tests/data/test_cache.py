"""Cached arrays are made once, written whole or not at all, tied to their source, and verified before use."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mvae.data.cache import cached_array
from mvae.errors import DataError

SHAPE = (5, 3, 4, 4)
IMAGES = np.random.RandomState(0).randint(0, 256, SHAPE).astype(np.uint8)


class Maker:
    """Yields the images, counts its calls, and may fail midway."""

    def __init__(self, fails_at: int = 99):
        self.calls, self.fails_at = 0, fails_at

    def __call__(self) -> Iterator[np.ndarray]:
        self.calls += 1
        for i, image in enumerate(IMAGES):
            if i == self.fails_at:
                raise DataError("stopped")
            yield image


def opened(directory: Path, make: Maker, fingerprint: str = "a" * 64) -> np.ndarray:
    return cached_array(directory, fingerprint, SHAPE, make, "drawing")


def test_images_are_made_once_and_mapped_read_only(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        found = opened(tmp_path, make)
        assert isinstance(found, np.memmap)
        assert np.array_equal(found, IMAGES)
        assert not found.flags.writeable
    assert make.calls == 1
    (path,) = tmp_path.glob("*.npy")
    assert np.array_equal(np.load(path), IMAGES)  # an ordinary .npy file


def test_another_source_gets_its_own_file(tmp_path: Path) -> None:
    make = Maker()
    opened(tmp_path, make)
    opened(tmp_path, make, "b" * 64)
    assert make.calls == 2


@pytest.mark.parametrize(
    "damage", ["truncated", "longer", "empty", "garbage", "other shape", "other dtype", "a bit", "other rows"]
)
def test_a_damaged_or_foreign_file_is_remade(tmp_path: Path, damage: str) -> None:
    opened(tmp_path, Maker())
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    others = {"other shape": IMAGES[:3], "other dtype": IMAGES.astype(np.float32), "other rows": IMAGES[::-1].copy()}
    if damage in others:
        np.save(path, others[damage])
    else:
        changed = {
            "truncated": whole[:-1],
            "longer": whole + b"x",
            "empty": b"",
            "garbage": b"x" * 99,
            "a bit": flipped,
        }
        path.write_bytes(changed[damage])
    os.utime(path, ns=(1, 1))
    make = Maker()
    assert np.array_equal(opened(tmp_path, make), IMAGES)
    assert make.calls == 1


def test_an_interrupted_run_leaves_no_file_and_the_next_starts_afresh(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stopped"):
        opened(tmp_path, Maker(fails_at=3))
    assert not list(tmp_path.iterdir())  # no .part either
    assert np.array_equal(opened(tmp_path, Maker()), IMAGES)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".npy"]


@pytest.mark.parametrize("record", [None, "", "{}", "[]", '{"sha256": 3, "state": 4}'])
def test_a_file_without_a_valid_record_is_remade(tmp_path: Path, record: str | None) -> None:
    opened(tmp_path, Maker())
    (path,) = tmp_path.glob("*.json")
    path.unlink() if record is None else path.write_text(record)
    make = Maker()
    assert np.array_equal(opened(tmp_path, make), IMAGES)
    assert make.calls == 1


def test_a_copied_cache_is_verified_once_and_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path, Maker())
    (path,) = tmp_path.glob("*.npy")
    os.utime(path, ns=(1, 1))
    make = Maker()
    with caplog.at_level(logging.INFO, "mvae.data"):
        for _ in range(2):
            assert np.array_equal(opened(tmp_path, make), IMAGES)
    assert make.calls == 0
    assert caplog.text.count("with its checksum") == 1


def test_a_directory_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file.*: free some space or make it writable.* MVAE_CACHE"):
        opened(tmp_path / "file" / "celeba", Maker())
