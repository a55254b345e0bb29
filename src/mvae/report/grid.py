"""Images side by side in one PNG."""

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvae.data.picture import MOST_PIXELS, pixels_of, read_picture
from mvae.errors import QueryError
from mvae.files import write_whole

__all__ = ["colour", "grid_picture", "picture_row", "png_uri", "read_image", "save_grid", "save_named_rows"]

GAP = 2  # white pixels between images


def save_grid(images: Float[Tensor, "n channels height width"], path: Path, columns: int | None = None) -> None:
    """Write grey (1 channel) or RGB (3 channels) images with levels in [0, 1] as one PNG grid.

    Small images are enlarged by a whole factor, so that they can be seen.

    Raises:
        QueryError: images with neither 1 nor 3 channels. RunError: the file cannot be written.
    """
    picture = grid_picture(images, columns)
    write_whole(path, lambda file: picture.save(file, "PNG"))


def grid_picture(images: Float[Tensor, "n channels height width"], columns: int | None = None) -> Any:
    """The grid of `save_grid` as a Pillow picture.

    Raises:
        QueryError: images with neither 1 nor 3 channels.
    """
    return _as_picture(_canvas(images, columns or math.ceil(math.sqrt(len(images)))))


def _as_picture(image: Float[Tensor, "channels height width"]) -> Any:
    from PIL import Image  # imported here: only pictures need it

    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)


def png_uri(images: Float[Tensor, "n channels height width"], columns: int, optimize: bool = False) -> str:
    """The grid of `save_grid` as a PNG in a data URI; ``optimize`` makes it smaller, which takes longer."""
    return _uri(grid_picture(images, columns), optimize)


def image_uri(image: Float[Tensor, "channels height width"]) -> str:
    """One image as a PNG in a data URI, in its own size.

    Raises:
        QueryError: an image with neither 1 nor 3 channels.
    """
    _require_channels(image[None])
    return _uri(_as_picture(image.clamp(0, 1).cpu()))


def _uri(picture: Any, optimize: bool = False) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=optimize)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def save_named_rows(
    named: Mapping[str, Float[Tensor, "_ channels height width"]], path: Path, columns: int | None = None
) -> None:
    """Write several groups of images of one size below each other as one PNG, each with its name to the left.

    Args:
        named: name of a group → its images, grey or RGB with levels in [0, 1].
        path: the PNG.
        columns: number of columns of every group; default the number of images of the largest group.

    Raises:
        QueryError: images with neither 1 nor 3 channels. RunError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = columns or max(map(len, named.values()))
    parts = [_canvas(colour(images), columns) for images in named.values()]
    font = ImageFont.load_default()
    margin = 2 * GAP + math.ceil(max(font.getlength(name) for name in named))
    picture = Image.new("RGB", (margin + parts[0].shape[2], sum(part.shape[1] for part in parts)), "white")
    pen, top = ImageDraw.Draw(picture), 0
    for name, part in zip(named, parts, strict=True):
        picture.paste(_as_picture(part), (margin, top))
        pen.text((GAP, top + 2 * GAP), name, fill="black", font=font)
        top += part.shape[1]
    write_whole(path, lambda file: picture.save(file, "PNG"))


def colour(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 3 height width"]:
    """Grey images as RGB, and RGB as they are.

    Raises:
        QueryError: images with neither 1 nor 3 channels.
    """
    _require_channels(images)
    return images.expand(-1, 3, -1, -1)


def _canvas(images: Float[Tensor, "n channels height width"], columns: int) -> Float[Tensor, "channels tall wide"]:
    """The grid, on the CPU, white where there is no image."""
    _require_channels(images)
    n, channels, height, width = images.shape
    rows, scale = math.ceil(n / columns), max(1, 56 // height)
    if rows * (height * scale + GAP) * columns * (width * scale + GAP) > MOST_PIXELS:
        raise QueryError(f"a picture of {n:,} images is too large: ask for fewer")
    enlarged = images.clamp(0, 1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale + GAP, width * scale + GAP
    canvas = torch.ones(channels, rows * height + GAP, columns * width + GAP)
    for i in range(n):
        top, left = i // columns * height + GAP, i % columns * width + GAP
        canvas[:, top : top + height - GAP, left : left + width - GAP] = enlarged[i].cpu()
    return canvas


def _require_channels(images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise QueryError(f"a picture has 1 or 3 channels, not {images.shape[1]}")


def read_image(path: Path, shape: tuple[int, ...]) -> Float[Tensor, "1 channels height width"]:
    """Read a user's picture as one row of this event shape, with levels in [0, 1] (`mvae.data.picture.read_picture`).

    Raises:
        DataError: no such file, or not a picture.
    """
    channels, height, width = shape
    return _row(read_picture(path, channels, height, width))


def picture_row(picture: Any, shape: tuple[int, ...]) -> Float[Tensor, "1 channels height width"]:
    """Convert a Pillow picture to the form that `read_image` returns."""
    channels, height, width = shape
    return _row(pixels_of(picture, channels, height, width))


def _row(pixels: np.ndarray) -> Float[Tensor, "1 channels height width"]:
    return (torch.from_numpy(pixels).float() / 255).permute(2, 0, 1)[None]
