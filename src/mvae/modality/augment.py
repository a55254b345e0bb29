"""Changes to the encoder's input: random augmentations in training, and fixed views.

An augmentation is any callable ``(x, generator) → x``. It is applied to the encoder's input in training only; the
likelihood is of x itself (the denoising criterion, which is still a bound: Im et al. 2017). A view is any callable
``x → x``; it is always applied. Those defined here leave integers (classes, tokens) as they are. Pass your own directly
to `mvae.Modality`; a line in `AUGMENTATIONS` gives it a name for declarations.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.errors import DataError, SettingsError
from mvae.specs import from_spec

__all__ = ["AUGMENTATIONS", "Affine", "Hide", "Noise", "Power", "Shift", "listed", "named", "shifted"]

Values = Shaped[Tensor, "rows *event"]


@checked_arguments()
@dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise of this standard deviation to every value, in the units that the encoder sees.

    Raises:
        SettingsError: a standard deviation that is negative or not finite.

    >>> Noise(0.5)(torch.zeros(2), torch.Generator().manual_seed(0))
    tensor([ 0.7705, -0.1467])
    """

    std: float

    def __post_init__(self) -> None:
        if not 0 <= self.std < 1e30:  # beyond that x + std · ε is infinite in float32
            raise SettingsError(f"the std of noise must be a finite number ≥ 0, below 1e30, not {self.std}")

    def __call__(self, x: Values, generator: torch.Generator | None = None) -> Values:
        """x + std · ε."""
        return x + self.std * torch.empty_like(x).normal_(generator=generator) if x.is_floating_point() else x


@checked_arguments()
@dataclass(frozen=True)
class Shift:
    """Moves each picture at random by up to this number of pixels each way; zeros come in from the edge.

    Raises:
        SettingsError: a number of pixels < 0.
    """

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise SettingsError(f"the pixels of a shift must be a whole number ≥ 0, not {self.pixels}")

    def __call__(self, x: Values, generator: torch.Generator | None = None) -> Values:
        """The shifted pictures (`shifted`).

        Raises:
            DataError: rows without height and width.
        """
        return shifted(x, self.pixels, generator) if x.is_floating_point() else x


@checked_arguments()
@dataclass(frozen=True)
class Affine:
    """Rotates, stretches, shears and moves each picture at random about its centre; zeros come in from the edge.

    Each amount is drawn uniformly, for each picture by itself, between its limit and minus its limit. Values between
    pixels are interpolated linearly. With few labelled pictures this is stronger than `Shift` (docs/research).

    Args:
        degrees: limit of the angle.
        stretch: limit of the logarithm of the factors of height and width: 0.1 is 10 % larger or smaller.
        shear: limit of the shear, in pixels sideways per pixel of height.
        pixels: limit of the move, each way.

    Raises:
        SettingsError: a limit that is negative or not finite.

    >>> Affine(degrees=15.0, pixels=2.0)(torch.rand(5, 3, 8, 8)).shape
    torch.Size([5, 3, 8, 8])
    """

    degrees: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    pixels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("degrees", "stretch", "shear", "pixels"):
            if not 0 <= (limit := getattr(self, name)) < math.inf:
                raise SettingsError(f"the {name} of an affine augmentation must be a finite number ≥ 0, not {limit}")

    def __call__(self, x: Values, generator: torch.Generator | None = None) -> Values:
        """The changed pictures; nothing is read back from the device.

        Raises:
            DataError: rows without height and width.
        """
        if not x.is_floating_point():
            return x
        _require_pictures(x)
        height, width = x.shape[-2:]
        drawn = torch.rand(6, len(x), generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
        angle, shear = drawn[0] * math.radians(self.degrees), drawn[1] * self.shear
        wide, high = (drawn[2:4] * self.stretch).exp()
        right, down = drawn[4:] * self.pixels
        # Where each pixel of the result comes from: x = A · (column, row), in units of half the width and height.
        cos, sin, aspect = angle.cos(), angle.sin(), height / width
        columns = torch.stack([wide * cos, (shear * wide * cos - high * sin) * aspect, 2 * right / width], 1)
        rows = torch.stack([wide * sin / aspect, shear * wide * sin + high * cos, 2 * down / height], 1)
        pictures = x.reshape(len(x), -1, height, width)
        places = F.affine_grid(torch.stack([columns, rows], 1), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, places, align_corners=False).reshape(x.shape)


@checked_arguments()
@dataclass(frozen=True)
class Power:
    """A power of x's absolute value, with its sign: ½ makes dark and bright pictures of the same thing more similar.

    It is a view: it is not random.

    Raises:
        SettingsError: an exponent that is not above 0 and finite.

    >>> Power(0.5)(torch.tensor([4.0, -9.0]))
    tensor([ 2., -3.])
    """

    exponent: float

    def __post_init__(self) -> None:
        if not 0 < self.exponent < math.inf:
            raise SettingsError(f"the exponent of a power must be above 0 and finite, not {self.exponent}")

    def __call__(self, x: Values, generator: torch.Generator | None = None) -> Values:
        """sign(x) · |x|^exponent."""
        return x.abs().pow(self.exponent).copysign(x) if x.is_floating_point() else x


@checked_arguments()
@dataclass(frozen=True)
class Hide:
    """Hides values from the encoder: they become NaN, which a modality of columns treats as missing.

    Hidden values are still scored, so that the model learns to infer them from the others.

    Raises:
        SettingsError: a share that is not at least 0 and below 1.

    >>> Hide(0.5)(torch.tensor([1.0, 2.0, 3.0]), torch.Generator().manual_seed(0))
    tensor([nan, 2., nan])
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise SettingsError(f"the share that is hidden must be at least 0 and below 1, not {self.share}")

    def __call__(self, x: Values, generator: torch.Generator | None = None) -> Values:
        """x with NaN in independently drawn places."""
        hidden = torch.rand(x.shape, generator=generator, device=x.device) < self.share
        return x.masked_fill(hidden, torch.nan) if x.is_floating_point() else x


#: What a declaration may name: ``augment = [{name = "noise", std = 0.3}]``.
AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "affine": Affine,
    "hide": Hide,
    "noise": Noise,
    "shift": Shift,
    "power": Power,
}


def named(spec: object) -> Callable[..., Tensor]:
    """An augmentation or view by name and arguments; a callable is returned as it is.

    Raises:
        SettingsError: an unknown name or argument, or something that is neither a name nor a callable.

    >>> named({"name": "noise", "std": 0.3})
    Noise(std=0.3)
    """
    return cast("Callable[..., Tensor]", spec) if callable(spec) else from_spec(spec, AUGMENTATIONS, "augmentation")


def listed(specs: object) -> tuple[Callable[..., Tensor], ...]:
    """None, one or several augmentations as a tuple, in the order in which they are applied; each as for `named`.

    Raises:
        SettingsError: see `named`.
    """
    if isinstance(specs, Sequence) and not isinstance(specs, str):
        return tuple(named(spec) for spec in specs)
    return () if specs is None else (named(specs),)


def shifted(
    x: Float[Tensor, "rows *event"], pixels: int, generator: torch.Generator | None = None
) -> Float[Tensor, "rows *event"]:
    """Move each picture at random by up to this number of pixels each way; zeros come in from the edge.

    Nothing is read back from the device, so that a recorded step draws new shifts each time it is replayed.

    Raises:
        DataError: rows without height and width. SettingsError: more pixels than the longer side has.

    >>> moved = shifted(torch.eye(3)[None], 1, torch.Generator().manual_seed(1))
    >>> moved.int().tolist()  # one down
    [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    """
    _require_pictures(x)
    rows, *_, height, width = x.shape
    if pixels > max(height, width):
        raise SettingsError(f"pictures of {height}×{width} pixels cannot be moved by {pixels}: give fewer pixels")
    start = torch.randint(0, 2 * pixels + 1, (2, rows, *[1] * (x.dim() - 1)), generator=generator, device=x.device)
    down = start[0] + torch.arange(height, device=x.device)[:, None]
    right = start[1] + torch.arange(width, device=x.device)
    return F.pad(x, (pixels,) * 4).take_along_dim(down, -2).take_along_dim(right, -1)


def _require_pictures(x: Tensor) -> None:
    if x.dim() < 3:
        raise DataError(f"only pictures can be moved: rows of shape {tuple(x.shape[1:])} have no height and width")
