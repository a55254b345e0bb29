"""Images side by side in one PNG."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.checkpoint import write_whole
from mvae.errors import QueryError

__all__ = ["read_image", "save_grid"]


def save_grid(images: Float[Tensor, "n channels height width"], path: Path, columns: int | None = None) -> None:
    """Write grey (1 channel) or RGB (3 channels) images with levels in [0, 1] as one PNG grid.

    Small images are enlarged by a whole factor, so that a person can see them.

    Raises:
        QueryError: images of another number of channels. RunError: the file cannot be written.
    """
    from PIL import Image  # imported here: only pictures need it

    n, channels, height, width = images.shape
    if channels not in (1, 3):
        raise QueryError(f"a picture has 1 or 3 channels, not {channels}")
    columns = columns or math.ceil(math.sqrt(n))
    rows, scale, gap = math.ceil(n / columns), max(1, 56 // height), 2
    enlarged = images.clamp(0, 1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale + gap, width * scale + gap
    canvas = torch.ones(channels, rows * height + gap, columns * width + gap)
    for i in range(n):
        top, left = i // columns * height + gap, i % columns * width + gap
        canvas[:, top : top + height - gap, left : left + width - gap] = enlarged[i].cpu()
    pixels = (canvas * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    write_whole(path, lambda file: picture.save(file, "PNG"))


def read_image(path: Path, shape: tuple[int, ...]) -> Float[Tensor, "1 channels height width"]:
    """A user's picture of any size or mode, as one row of the given event shape, levels in [0, 1].

    Raises:
        QueryError: no such file, or not a picture.
    """
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I"):  # 16 bits a level, which convert() would clip at 255
                picture = picture.convert("I").point(lambda level: level / 257).convert("L")
            if picture.mode == "F":
                raise QueryError(f"cannot read the picture {path}: its levels are real numbers; save it with 8 bits")
            picture = picture.convert("L" if channels == 1 else "RGB").resize((width, height))
            flat = torch.tensor(list(picture.tobytes()), dtype=torch.float32) / 255
    except UnidentifiedImageError:
        raise QueryError(f"cannot read the picture {path}: it is no image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QueryError(f"cannot read the picture {path}: {reason}") from None
    return flat.reshape(1, height, width, channels).permute(0, 3, 1, 2)
