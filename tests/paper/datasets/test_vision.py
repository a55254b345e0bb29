"""Six aligned modalities: transformations of one image, masks that may be missing, and the cache."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvae.data.table import Table
from mvae.errors import DataError
from mvae.paper.datasets import celeba, faces, vision, vision_faces
from mvae.paper.transformations import edges, grayscale, obscured, watermarked

pytest.importorskip("skimage")


@pytest.fixture(autouse=True)
def few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVAE_CACHE", str(tmp_path / "cache"))
    for split, rows in {"train": 6, "validation": 3, "test": 4}.items():
        monkeypatch.setitem(faces.ROWS, split, rows)


def column(table: Table, name: str) -> np.ndarray:
    return np.asarray(table.columns[name])


def test_row_is_one_face_and_its_transformations() -> None:
    splits, plain = vision_faces.load(), faces.load()
    for part in ("train", "validation", "test"):
        table, images = getattr(splits, part), column(getattr(plain, part), "image")
        assert table.names == vision.MODALITIES
        assert np.array_equal(column(table, "image"), images)
        for row, image in enumerate(images.transpose(0, 2, 3, 1)):
            for name, transform in (("gray", grayscale), ("edges", edges)):
                assert np.array_equal(column(table, name)[row, 0], transform(image)), (part, row, name)
            for name, transform in (("obscured", obscured), ("watermarked", watermarked)):
                assert np.array_equal(column(table, name)[row], transform(image).transpose(2, 0, 1)), (part, row, name)


def test_columns_are_memory_mapped_bytes() -> None:
    table = vision_faces.load().train
    for name in vision.MODALITIES:
        assert isinstance(table.columns[name], np.memmap)
        assert table.columns[name].dtype == np.uint8
    assert table.complete  # every drawn face has a mask


def test_masks_cover_drawn_parts() -> None:
    """The centres of eyes, nose and mouth are in the mask (the eyes' white lies under it); the forehead is not."""
    masks = column(vision_faces.load().train, "mask")
    for row in range(6):
        parts, face = faces.landmarks(row), faces.face(row)
        for name in ("left eye", "right eye", "mouth", "nose"):
            x, y = parts[name].mean(0)
            assert masks[row, 0, int(y), int(x)] == 255, (row, name)
        assert masks[row, 0, int(face.y - 0.6 * face.height), int(face.x)] == 0
        chin = masks[row, 0, int(face.y + face.height) - 2 : int(face.y + face.height) + 2, int(face.x)]
        assert chin.any()


def caches(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "vision-faces").glob("*.npy"))


def test_cache_is_reused_and_rebuilt_if_damaged(tmp_path: Path) -> None:
    first = np.array(column(vision_faces.load().test, "edges"))
    stamps = [path.stat().st_mtime_ns for path in caches(tmp_path)]
    assert len(stamps) == 2
    vision_faces.load()
    assert [path.stat().st_mtime_ns for path in caches(tmp_path)] == stamps
    for path in caches(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    again = vision_faces.load().test
    assert np.array_equal(column(again, "edges"), first)
    assert again.complete


def test_interruption_leaves_no_partial_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.array(column(vision_faces.load().test, "mask"))
    monkeypatch.setenv("MVAE_CACHE", str(tmp_path / "other"))

    def stopped(row: int, image: np.ndarray) -> None:
        if row == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vision.transformed("vision-faces", faces.pictures(), stopped)
    assert not list((tmp_path / "other" / "vision-faces").glob("*.npy"))
    assert np.array_equal(column(vision_faces.load().test, "mask"), whole)


def test_row_without_face_misses_only_its_mask() -> None:
    splits = vision.transformed(
        "vision-faces", faces.pictures(), lambda row, _: None if row in (1, 7, 9) else vision_faces.drawn_mask(row)
    )
    missing = [(~getattr(splits, part).present).nonzero().tolist() for part in ("train", "validation", "test")]
    at = vision.MODALITIES.index("mask")
    assert missing == [[[1, at]], [[1, at]], [[0, at]]]


def photographs(folder: Path, pictures: list[np.ndarray]) -> None:
    """A CelebA of these images, the last two for validation and test."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{row + 1:06d}.jpg" for row in range(len(pictures))]
    for name, pixels in zip(names, pictures, strict=True):
        memory = io.BytesIO()
        Image.fromarray(pixels).save(memory, "JPEG", quality=95)
        (folder / "img_align_celeba" / name).write_bytes(memory.getvalue())
    rows = [f"{name} {' '.join(['-1'] * len(celeba.ATTRIBUTES))}" for name in names]
    header = [str(len(names)), " ".join(celeba.ATTRIBUTES)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*header, *rows]) + "\n")
    split = [0] * (len(names) - 2) + [1, 2]
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{name} {s}\n" for name, s in zip(names, split, strict=True))
    )


def test_photographs_without_a_face_have_no_mask(tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    random = np.random.RandomState(0)
    photographs(tmp_path / "data", [random.randint(0, 256, (109, 89, 3)).astype(np.uint8) for _ in range(4)])
    splits = vision.load(tmp_path / "data")
    assert [len(t) for t in (splits.train, splits.validation, splits.test)] == [2, 1, 1]
    assert splits.train.present[:, vision.MODALITIES.index("mask")].tolist() == [False, False]
    assert splits.train.present.sum(1).tolist() == [5, 5]
    assert column(splits.test, "edges").any()


def test_error_names_source_of_missing_celeba(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"celeba not found: .* get img_align_celeba.zip"):
        vision.load(tmp_path)


@pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs CelebA in $MVAE_DATA")
def test_splits_of_photographs_match_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dlib")
    folder, read, _ = celeba._images(celeba._folder(Path(os.environ["MVAE_DATA"])))
    photographs(tmp_path / "data", [np.asarray(Image.open(io.BytesIO(read(name)))) for name in folder[:5]])
    mine, plain = vision.load(tmp_path / "data"), celeba.load(tmp_path / "data")
    for one, other in ((mine.train, plain.train), (mine.test, plain.test)):
        assert np.array_equal(column(one, "image"), column(other, "image"))
    assert mine.train.present[:, vision.MODALITIES.index("mask")].any()
