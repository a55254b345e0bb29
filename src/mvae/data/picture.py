"""Pictures of any shape as squares, or whatever shape a dataset has: scaled, and the centre cut out."""

from typing import Any

__all__ = ["fitted"]


def fitted(picture: Any, height: int, width: int) -> Any:
    """A Pillow picture of that size: scaled until it just covers it, then its centre cut out (App. A's CelebA).

    >>> from PIL import Image
    >>> fitted(Image.new("RGB", (178, 218)), 64, 64).size
    (64, 64)
    """
    across, down = picture.size
    if across * height > 8 * down * width or down * width > 8 * across * height:  # a thin strip, scaled, could be huge
        across, down = min(across, 8 * max(1, down * width // height)), min(down, 8 * max(1, across * height // width))
        left, top = (picture.size[0] - across) // 2, (picture.size[1] - down) // 2
        picture = picture.crop((left, top, left + across, top + down))
    if across * height <= down * width:
        size = width, max(height, width * down // across)
    else:
        size = max(width, height * across // down), height
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = picture.resize(size, 2)  # bilinear, averaging over what one pixel covers
    return scaled.crop((left, top, left + width, top + height))
