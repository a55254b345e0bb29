"""Decoded images on disk: made once, whole or not at all, and never those of another source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mvae.data.cache import cached_images
from mvae.errors import DataError

SHAPE = (5, 3, 4, 4)
IMAGES = np.random.RandomState(0).randint(0, 256, SHAPE).astype(np.uint8)


class Maker:
    """Gives the images, counts how often it was asked, and may fail on the way."""

    def __init__(self, fails_at: int = 99):
        self.calls, self.fails_at = 0, fails_at

    def __call__(self) -> Iterator[np.ndarray]:
        self.calls += 1
        for i, image in enumerate(IMAGES):
            if i == self.fails_at:
                raise DataError("stopped")
            yield image


def opened(directory: Path, make: Maker, fingerprint: str = "a" * 64) -> np.ndarray:
    return cached_images(directory, fingerprint, SHAPE, make, "drawing")


def test_images_are_made_once_and_mapped_read_only(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        found = opened(tmp_path, make)
        assert isinstance(found, np.memmap)
        assert np.array_equal(found, IMAGES)
        assert not found.flags.writeable
    assert make.calls == 1
    (path,) = tmp_path.iterdir()
    assert np.array_equal(np.load(path), IMAGES)  # an ordinary .npy file


def test_another_source_has_a_file_of_its_own(tmp_path: Path) -> None:
    make = Maker()
    opened(tmp_path, make)
    opened(tmp_path, make, "b" * 64)
    assert make.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "longer", "empty", "garbage", "other shape", "other dtype"])
def test_a_damaged_or_foreign_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    opened(tmp_path, Maker())
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage.startswith("other"):
        np.save(path, IMAGES[:3] if damage == "other shape" else IMAGES.astype(np.float32))
    else:
        path.write_bytes({"truncated": whole[:-1], "longer": whole + b"x", "empty": b"", "garbage": b"x" * 99}[damage])
    make = Maker()
    assert np.array_equal(opened(tmp_path, make), IMAGES)
    assert make.calls == 1


def test_stopped_in_the_middle_nothing_takes_the_final_name_and_the_next_run_begins_afresh(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stopped"):
        opened(tmp_path, Maker(fails_at=3))
    assert not list(tmp_path.glob("*.npy"))
    assert np.array_equal(opened(tmp_path, Maker()), IMAGES)
    assert [p.suffix for p in tmp_path.iterdir()] == [".npy"]


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file.*: make room or make it writable.* MVAE_CACHE"):
        opened(tmp_path / "file" / "celeba", Maker())
