"""The common parts of convolutional networks for pictures of any size: a trunk, a head, and the decoder."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.networks import Shape

__all__ = ["ChannelsLast", "PictureDecoder", "PictureEncoder", "Pictures", "convolutions"]

LAST = torch.channels_last  # makes convolutions, especially transposed ones, faster on a CPU


class ChannelsLast(nn.Module):
    """A layer that returns the same values in channels-last layout."""

    def forward(self, x: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows channels height width"]:
        """Return x itself, or a copy."""
        return x.contiguous(memory_format=LAST)


def convolutions(
    channels: Sequence[int], steps: Sequence[tuple[int, int]], batch_norm: bool = False, first: Sequence[nn.Module] = ()
) -> nn.Sequential:
    """4×4 convolutions without bias, each with its (stride, padding) and followed by SiLU; then flattened.

    With ``batch_norm``, batch norm starts at the second convolution; ``first`` are layers before the convolutions.

    >>> convolutions((1, 4, 8), [(2, 1), (2, 1)])(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 392])
    """
    layers = nn.Sequential(*first)
    for i, (stride, padding) in enumerate(steps):
        layers.append(nn.Conv2d(channels[i], channels[i + 1], 4, stride, padding, bias=False))
        if batch_norm and i > 0:
            layers.append(nn.BatchNorm2d(channels[i + 1]))
        layers.append(nn.SiLU())
    return layers.append(nn.Flatten())


class PictureEncoder(nn.Module):
    """A trunk to ``flat`` features, to which a condition is appended; then one hidden layer and the heads."""

    def __init__(self, trunk: nn.Module, flat: int, outputs: int, condition: int, hidden: int):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Linear(flat + condition, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(
        self, x: Float[Tensor, "rows channels height width"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows outputs"]:
        """The mean and log-variance."""
        features = self.trunk(x)
        return self.head(features if condition is None else torch.cat([features, condition], dim=1))


class PictureDecoder(nn.Module):
    """Latents (and a condition) → one hidden layer → small pictures of many channels → transposed convolutions.

    ``small`` is the shape of these pictures; subclasses append the ``layers`` that enlarge them.
    """

    def __init__(self, latents: int, small: tuple[int, int, int], condition: int, hidden: int):
        super().__init__()
        channels, height, width = small
        self.head = nn.Sequential(
            nn.Linear(latents + condition, hidden),
            nn.SiLU(),
            nn.Linear(hidden, channels * height * width),
            nn.SiLU(),
            nn.Unflatten(1, small),
        )
        self.layers = nn.Sequential()

    def forward(
        self, z: Float[Tensor, "rows latents"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows channels height width"]:
        """The logit of each value of the picture."""
        features = self.head(z if condition is None else torch.cat([z, condition], dim=1))
        return self.layers(features.contiguous(memory_format=LAST))


class Pictures:
    """The networks for square pictures of one size, for `mvae.networks.build`."""

    side: ClassVar[int]
    flat: ClassVar[int]  #: number of features of the trunk
    networks: ClassVar[tuple[type[nn.Module], type[nn.Module]]]  #: encoder and decoder

    @staticmethod
    def trunk(channels: int) -> nn.Module:
        """The network that reads a picture for a joint encoder, ``rows channels side side`` → ``rows flat``."""
        raise NotImplementedError

    @classmethod
    def channels(cls, shape: Shape) -> int:
        """The number of channels of pictures of this shape.

        Raises:
            SettingsError: the shape has another size.
        """
        if len(shape) != 3 or shape[1:] != (cls.side, cls.side):
            raise SettingsError(
                f"the network 'conv{cls.side}' is for pictures of shape (channels, {cls.side}, {cls.side}), not {shape}"
            )
        return shape[0]

    @classmethod
    def encoder(cls, inputs: Shape, outputs: int, condition: int = 0, hidden: int = 512) -> nn.Module:
        """Picture → heads."""
        return cls.networks[0](outputs, condition, hidden, channels=cls.channels(inputs))

    @classmethod
    def decoder(cls, inputs: int, outputs: Shape, condition: int = 0, hidden: int = 512) -> nn.Module:
        """Latents → logits of a picture."""
        return cls.networks[1](inputs, condition, hidden, channels=cls.channels(outputs))

    @classmethod
    def features(cls, inputs: Shape, outputs: int) -> nn.Module:
        """Picture → features."""
        return nn.Sequential(cls.trunk(cls.channels(inputs)), nn.Linear(cls.flat, outputs), nn.SiLU())
