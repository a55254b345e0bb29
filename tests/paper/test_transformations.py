"""Each transformation compared with its definition, and images that all of them refuse."""

import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvae.errors import DataError, MissingDependencyError
from mvae.evaluation.images import require_skimage
from mvae.paper import transformations
from mvae.paper.datasets import celeba
from mvae.paper.transformations import draw_mask, edges, grayscale, landmarks, mask, obscured, watermarked

IMAGE = np.random.RandomState(0).randint(0, 256, (48, 66, 3)).astype(np.uint8)
LIGHT = pytest.mark.parametrize("transform", [grayscale, obscured, watermarked])


def test_grayscale_matches_bt601() -> None:
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    luma = IMAGE @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grayscale(IMAGE) - luma).max() <= 0.51
    assert np.array_equal(grayscale(IMAGE), (IMAGE.astype(np.uint32) @ [19595, 38470, 7471] + 32768) >> 16)
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(grayscale(np.stack([levels] * 3, -1)[None])[0], levels)


@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_obscured_keeps_left_half_and_blackens_right(width: int) -> None:
    image = np.full((3, width, 3), 200, np.uint8)
    half = obscured(image)
    assert (half[:, : width // 2] == 200).all()
    assert (half[:, width // 2 :] == 0).all()
    assert np.array_equal(obscured(half), half)


def test_watermark_blends_white_only_on_its_pixels() -> None:
    marked = np.asarray(watermarked(np.zeros((64, 64, 3), np.uint8)))[..., 0] > 0
    assert 0.1 < marked.mean() < 0.35
    assert np.array_equal(marked, marked[::-1])
    assert np.array_equal(marked, marked[:, ::-1])
    assert np.diag(marked).all()  # the diagonal is a part of it
    assert marked[32, 32 + round(0.7 * 32)]  # and so is the ring
    assert not marked[0, 32]
    image = np.random.RandomState(1).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    found = watermarked(image).astype(int)
    assert np.array_equal(found[~marked], image[~marked])
    assert (np.abs(found[marked] - (0.5 * image[marked] + 127.5)) <= 0.5).all()


@pytest.mark.parametrize("transform", [grayscale, obscured, watermarked, edges])
def test_transformation_is_deterministic_and_keeps_input(transform: Callable) -> None:
    if transform is edges:
        pytest.importorskip("skimage")
    before = IMAGE.copy()
    one, other = transform(IMAGE), transform(IMAGE)
    assert np.array_equal(one, other)
    assert np.array_equal(IMAGE, before)
    assert one.dtype == np.uint8
    assert one.shape[:2] == IMAGE.shape[:2]


def test_edges_lie_only_on_contrast() -> None:
    pytest.importorskip("skimage")
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    found = edges(image)
    assert set(np.unique(found)) == {0, 255}
    columns = np.flatnonzero((found > 0).any(0))
    assert set(columns) <= {19, 20}
    assert (found[2:-2].max(1) == 255).all()
    assert not edges(np.full((40, 40, 3), 99, np.uint8)).any()


def test_mask_filling_matches_even_odd_rule() -> None:
    """Compared with a ray to the left from each pixel's centre; pixels on the outline are left out."""
    angle = np.linspace(0, 2 * np.pi, 7, endpoint=False) + 0.2
    polygon = np.stack([20 + 12 * np.cos(angle), 16 + 9 * np.sin(angle)], 1)
    found = draw_mask([polygon], [], 32, 40) > 0
    inside, near = np.zeros((32, 40), bool), np.zeros((32, 40), bool)
    for row in range(32):
        for column in range(40):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
                if (y0 > y) != (y1 > y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x:
                    inside[row, column] ^= True
                share = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
                near[row, column] |= np.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)) < 0.75
    assert inside.sum() > 200
    assert np.array_equal(found[~near], inside[~near])


def test_line_width_is_a_64th_of_the_side() -> None:
    line = np.array([[10.0, 32.5], [50.0, 32.5]])
    found = draw_mask([], [line], 64, 64) > 0
    assert np.array_equal(np.flatnonzero(found.any(1)), [32])
    assert abs(int(found.sum()) - 40) <= 1


@LIGHT
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_invalid_image_is_refused(transform: Callable, wrong: np.ndarray) -> None:
    plain = getattr(transform, "__wrapped__", transform)  # without the tests' own checks of shapes
    with pytest.raises(DataError, match=r"an image is bytes of shape height×width×3, not .*: convert it"):
        plain(wrong)


def test_error_names_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("skimage.feature", "skimage.metrics", "skimage", "dlib"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    transformations._predictor.cache_clear()
    for transform in (edges, landmarks, mask):
        with pytest.raises(MissingDependencyError, match=re.escape("pip install 'mvae[vision]'")):
            transform(IMAGE)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'mvae[vision]'")):
        require_skimage()


@pytest.mark.parametrize("kind", ["noise", "plane", "blobs", "ramp"])
def test_image_without_face_has_no_mask(kind: str) -> None:
    _require_predictor()
    random = np.random.RandomState(3)
    image = {
        "noise": random.randint(0, 256, (64, 64, 3)).astype(np.uint8),
        "plane": np.full((64, 64, 3), 128, np.uint8),
        "blobs": np.asarray(Image.fromarray(random.randint(0, 256, (5, 5, 3)).astype(np.uint8)).resize((64, 64), 2)),
        "ramp": np.tile((4 * np.arange(64)).astype(np.uint8)[:, None, None], (1, 64, 3)),
    }[kind]
    assert landmarks(image) is None
    assert mask(image) is None


@pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs CelebA in $MVAE_DATA")
def test_masks_lie_on_most_photographed_faces() -> None:
    """CelebA's faces are aligned, so the positions of eyes, nose and mouth are known."""
    _require_predictor()
    folder, read, _ = celeba._images(celeba._folder(Path(os.environ["MVAE_DATA"])))
    names = folder[::450]
    found = 0
    for name in names:
        image = celeba._decode(read, name).transpose(1, 2, 0)
        points = landmarks(image)
        if points is None:
            continue
        found += 1
        for part, place in ((slice(36, 42), (25, 33)), (slice(42, 48), (39, 33)), (slice(48, 68), (32, 48.5))):
            assert np.hypot(*(points[part].mean(0) - place)) < 6, name
        drawn = mask(image)
        assert drawn is not None
        assert 0.02 < (drawn > 0).mean() < 0.2
        larger = np.asarray(Image.fromarray(image).resize((128, 128), 2))
        again = landmarks(larger)  # the same positions at any size
        assert again is None or np.abs(again / 2 - points).mean() < 1
    assert len(names) == 20
    assert found >= 0.8 * len(names)


def _require_predictor() -> None:
    pytest.importorskip("dlib")
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("needs face_recognition_models")
