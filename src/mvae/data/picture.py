"""Pictures: files opened within size limits, scaled to a shape, and cropped to the centre."""

import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from os import PathLike
from typing import Any, cast

import numpy as np

from mvae.errors import DataError

__all__ = ["MOST_PIXELS", "fitted", "is_picture", "open_bounded", "pixels_of", "read_picture", "shape_of"]

REMEDY = "give a picture file that opens in a viewer, for example a JPEG or PNG"
ORIENTATION = 0x0112  # the EXIF tag
TAGS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where a PNG may have it
MOST_PIXELS = 64_000_000  # decoded and converted, these take less than 1 GB


def open_bounded(source: str | PathLike[str] | BufferedIOBase, max_pixels: int = MOST_PIXELS) -> Any:
    """Open a picture file as a Pillow image of at most ``max_pixels`` pixels; nothing is decoded yet.

    The header gives the number of pixels. A larger JPEG is read at a half, a quarter or an eighth of its size; any
    other larger picture is refused before memory is reserved.

    Raises:
        DataError: no such file, not a regular file, not a picture, or too many pixels.

    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (400, 300)).save(file, "JPEG")
    >>> open_bounded(file).size, open_bounded(file, max_pixels=40_000).size
    ((400, 300), (200, 150))
    """
    from PIL import Image  # imported here because it takes a tenth of a second

    name = str(os.fspath(source)) if isinstance(source, str | PathLike) else "that was given"
    with _explained(name, max_pixels):
        if isinstance(source, str | PathLike) and not stat.S_ISREG(os.stat(source).st_mode):
            raise DataError(f"cannot read the picture {name}: it is not a regular file; {REMEDY}")
        picture = Image.open(cast("Any", source))
    width, height = picture.size
    if picture.format == "JPEG" and width * height > max_pixels:
        scale = next((scale for scale in (2, 4) if width * height <= max_pixels * scale**2), 8)
        picture.draft(cast("Any", None), (width // scale, height // scale))
    if picture.width * picture.height > max_pixels:
        picture.close()
        raise _too_large(name, max_pixels)
    return picture


def read_picture(path: str | PathLike[str], colours: int, height: int, width: int) -> np.ndarray:
    """Read a picture of any size or mode as bytes ``height width colours``.

    It is rotated according to its EXIF data, put on a white background if it is transparent, scaled until it covers the
    size, and cropped to the centre (like CelebA's images); with ``colours`` 1 it is converted to grey.

    Raises:
        DataError: no such file, not a picture, too many pixels, or pixel values that are real numbers.
    """
    name = str(path)
    with open_bounded(path) as picture, _explained(name, MOST_PIXELS):
        return pixels_of(picture, colours, height, width, name)


def shape_of(path: str | PathLike[str]) -> tuple[int, int, int]:
    """The number of colours (1 or 3), the height and the width of a picture file, after its EXIF rotation.

    Raises:
        DataError: no such file, not a picture, or too many pixels.
    """
    with open_bounded(path) as picture, _explained(str(path), MOST_PIXELS):
        grey = picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I")
        tagged = picture.format != "PNG" or not TAGS.isdisjoint(picture.info)  # getexif decodes a PNG without any
        turned = tagged and picture.getexif().get(ORIENTATION) in (5, 6, 7, 8)  # by a quarter
        height, width = picture.size if turned else picture.size[::-1]
        return 1 if grey else 3, height, width


def pixels_of(picture: Any, colours: int, height: int, width: int, name: str = "that was given") -> np.ndarray:
    """Convert a Pillow picture to the array that `read_picture` gives.

    Raises:
        DataError: its pixel values are real numbers.
    """
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(_eight_bits(picture, name))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = fitted(picture.convert("L" if colours == 1 else "RGB"), height, width)
    return np.array(picture).reshape(height, width, colours)


@contextmanager
def _explained(name: str, max_pixels: int) -> Iterator[None]:
    """Turn what Pillow raises inside the block into a one-line DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of 100 million pixels and of unusual metadata
            yield
    except UnidentifiedImageError:
        raise DataError(f"cannot read the picture {name}: it is not an image; {REMEDY}") from None
    except Image.DecompressionBombError:
        raise _too_large(name, max_pixels) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, NotImplementedError, struct.error) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read the picture {name}: {reason}; {REMEDY}") from None


def _eight_bits(picture: Any, name: str) -> Any:
    if picture.mode.startswith("I"):  # 16 bits per value, which convert() would clip at 255
        return picture.convert("I").point(lambda level: level / 257).convert("L")
    if picture.mode == "F":
        raise DataError(f"cannot read the picture {name}: its levels are real numbers; save it with 8 bits")
    return picture


def _too_large(name: str, max_pixels: int) -> DataError:
    return DataError(f"cannot read the picture {name}: it has more than {max_pixels:,} pixels; give a smaller copy")


def is_picture(column: Any) -> bool:
    """Is this array or tensor a column of pictures, ``rows channels height width``?"""
    return column.ndim == 4


def fitted(picture: Any, height: int, width: int) -> Any:
    """Scale a Pillow picture until it just covers this size, and crop it to the centre (as App. A does for CelebA).

    >>> from PIL import Image
    >>> fitted(Image.new("RGB", (178, 218)), 64, 64).size
    (64, 64)
    """
    across, down = picture.size
    if across * height > 8 * down * width or down * width > 8 * across * height:  # a thin strip could become huge
        across, down = min(across, 8 * max(1, down * width // height)), min(down, 8 * max(1, across * height // width))
        left, top = (picture.size[0] - across) // 2, (picture.size[1] - down) // 2
        picture = picture.crop((left, top, left + across, top + down))
    if across * height <= down * width:
        size = width, max(height, width * down // across)
    else:
        size = max(width, height * across // down), height
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = picture.resize(size, 2)  # bilinear, averaging over the area of a pixel
    return scaled.crop((left, top, left + width, top + height))
