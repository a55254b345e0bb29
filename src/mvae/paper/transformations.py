"""The image transformations of Sec. 6, each a pure function of one RGB image, bytes ``height width 3``.

`edges` needs scikit-image, `landmarks` and `mask` need dlib and the file of its 68-point predictor: the extra
``vision``.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mvae.errors import DataError, MissingDependencyError, require_extra

Image = UInt8[np.ndarray, "height width 3"]
Grey = UInt8[np.ndarray, "height width"]
Points = Float[np.ndarray, "_ 2"]  # x y in pixels of the image

# Where dlib's detector sees the face in the centre 64×64 of an aligned CelebA crop: the median over 189 of 200 images;
# left, top, right and bottom as shares of width and height.
ALIGNED = (0.254, 0.363, 0.738, 0.848)
# The predictor always answers. From three rectangles (moved across and down by these shares of their size, and
# enlarged), it gives nearly the same points if there is a face, and different ones if there is none.
ASKED = ((0.0, 0.0, 1.0), (0.0, 0.11, 1.0), (-0.06, -0.02, 1.2))
AGREEMENT = 0.05  # mean distance from the median point, in distances between the eyes; noise has 0.15 and more
PREDICTOR = "shape_predictor_68_face_landmarks.dat"
SHORT_SIDE = 256  # of the enlarged image that the predictor sees

JAW = slice(0, 17)
EYES = slice(36, 42), slice(42, 48)
# Points of the filled regions in the order of their outlines: brows, eyes, nose, lips.
REGIONS = (range(17, 22), range(22, 27), range(36, 42), range(42, 48), (27, 31, 32, 33, 34, 35), range(48, 60))
FINE = 4  # masks are drawn this much larger

EDGE_SIGMA = 1.0  # of Canny's Gaussian, in pixels


def grayscale(image: Image) -> Grey:
    """The image's luma with the weights of ITU-R BT.601, by Pillow.

    Raises:
        DataError: not bytes ``height width 3``.

    >>> import numpy as np
    >>> grayscale(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).tolist()
    [[76, 150, 29]]
    """
    from PIL import Image as Pillow

    _require_image(image)
    return np.asarray(Pillow.fromarray(image).convert("L"))


def edges(image: Image) -> Grey:
    """Canny's edges (scikit-image): 255 on an edge, else 0.

    Raises:
        DataError: not bytes ``height width 3``. MissingDependencyError: scikit-image is absent.
    """
    grey = grayscale(image)
    canny = require_extra("skimage.feature", "vision", "edges").canny
    return canny(grey / 255, sigma=EDGE_SIGMA).astype(np.uint8) * 255


def obscured(image: Image) -> Image:
    """The image with its right half black (including the middle column of an odd width).

    Raises:
        DataError: not bytes ``height width 3``.

    >>> import numpy as np
    >>> obscured(np.full((1, 5, 3), 9, np.uint8))[0, :, 0].tolist()
    [9, 9, 0, 0, 0]
    """
    _require_image(image)
    half = image.copy()
    half[:, image.shape[1] // 2 :] = 0
    return half


def watermarked(image: Image) -> Image:
    """The image under a mark of both diagonals and a ring, which is half white and half transparent.

    Raises:
        DataError: not bytes ``height width 3``.

    >>> import numpy as np
    >>> sorted(set(watermarked(np.zeros((64, 64, 3), np.uint8)).flatten().tolist()))
    [0, 128]
    """
    _require_image(image)
    height, width, _ = image.shape
    # −1 … 1 across the image, at the middle of each pixel
    y, x = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (height, width))
    x, y = np.meshgrid(x, y)
    mark = (np.abs(np.abs(x) - np.abs(y)) < 0.06) | (np.abs(np.hypot(x, y) - 0.7) < 0.05)
    return np.where(mark[..., None], (image.astype(np.uint16) + 256) // 2, image).astype(np.uint8)


def mask(image: Image) -> Grey | None:
    """The facial landscape: brows, eyes, nose and lips filled and the jaw as a line, 255 there and 0 elsewhere.

    Returns:
        The mask; None if no face is found.

    Raises:
        DataError, MissingDependencyError: as `landmarks`.
    """
    points = landmarks(image)
    if points is None:
        return None
    return draw_mask([points[list(region)] for region in REGIONS], [points[JAW]], image.shape[0], image.shape[1])


def landmarks(image: Image) -> Float[np.ndarray, "68 2"] | None:
    """The 68 points of a face by dlib's predictor, ``x y`` in pixels of the image.

    The image is the centre square of an aligned CelebA crop, where the face's place is known: no detector is needed.

    Returns:
        The points; None if they depend on how the rectangle is drawn, because there is no face in it.

    Raises:
        DataError: not bytes ``height width 3``. MissingDependencyError: dlib or its predictor's file is absent.
    """
    grey = grayscale(image)
    predictor, dlib = _predictor()
    from PIL import Image as Pillow

    height, width = grey.shape
    scale = SHORT_SIDE / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    large = np.asarray(Pillow.fromarray(grey).resize(size, Pillow.Resampling.BILINEAR))
    left, top, right, bottom = np.array(ALIGNED) * [*size, *size]
    found = []
    for across, down, larger in ASKED:
        x, y = (left + right) / 2 + across * (right - left), (top + bottom) / 2 + down * (bottom - top)
        half_width, half_height = larger * (right - left) / 2, larger * (bottom - top) / 2
        box = [round(v) for v in (x - half_width, y - half_height, x + half_width, y + half_height)]
        parts = predictor(large, dlib.rectangle(*box)).parts()
        found.append([[point.x + 0.5, point.y + 0.5] for point in parts])
    points = np.median(found, axis=0)
    apart = np.linalg.norm(points[EYES[0]].mean(0) - points[EYES[1]].mean(0))
    spread = np.linalg.norm(np.array(found) - points, axis=-1).mean()
    return points / scale if spread < AGREEMENT * apart else None


@cache
def _predictor() -> tuple[Any, Any]:
    """The predictor and dlib. The file's package is found but not imported, because it imports a module that Python's
    setuptools no longer has."""
    dlib = require_extra("dlib", "vision", "facial landmarks")
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or not found.origin:
        raise MissingDependencyError("facial landmarks need face_recognition_models: pip install 'mvae[vision]'")
    path = Path(found.origin).parent / "models" / PREDICTOR
    try:
        return dlib.shape_predictor(str(path)), dlib
    except RuntimeError as error:
        raise MissingDependencyError(
            f"cannot read dlib's predictor {path} ({error}): pip install --force-reinstall face_recognition_models"
        ) from None


def draw_mask(filled: Sequence[Points], lines: Sequence[Points], height: int, width: int) -> Grey:
    """Filled polygons and lines, white on black; a line is a 64th of the short side wide.

    >>> import numpy as np
    >>> square = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
    >>> (draw_mask([square], [], 4, 4) // 255).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    canvas = Pillow.new("L", (width * FINE, height * FINE))
    pen = ImageDraw.Draw(canvas)
    for polygon in filled:  # Pillow includes a corner's own pixel: half a fine pixel less on every side
        pen.polygon([(float(x) * FINE - 0.5, float(y) * FINE - 0.5) for x, y in polygon], fill=255)
    for line in lines:
        scaled = [(float(x) * FINE - 0.5, float(y) * FINE - 0.5) for x, y in line]
        pen.line(scaled, fill=255, width=max(1, round(FINE * min(height, width) / 64)), joint="curve")
    share = np.asarray(canvas.reduce(FINE))
    return np.where(share >= 128, 255, 0).astype(np.uint8)


def _require_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"an image is bytes of shape height×width×3, not {image.dtype} of shape {'×'.join(map(str, image.shape))}: "
            "convert it, for example np.asarray(picture.convert('RGB'))"
        )
