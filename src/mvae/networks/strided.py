"""3×3 convolutions of stride 2 for pictures of any size, with few weights, as in benchmarks of multimodal VAEs."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.networks import Shape

__all__ = ["Strided", "StridedDecoder"]

WIDTHS = (32, 64, 128)


class StridedDecoder(nn.Module):
    """Latents → the smallest picture → transposed convolutions, each to the encoder's size at that layer.

    >>> StridedDecoder(512, (3, 28, 28))(torch.zeros(2, 512)).shape
    torch.Size([2, 3, 28, 28])
    """

    def __init__(self, latents: int, outputs: Shape, widths: Sequence[int] = WIDTHS):
        super().__init__()
        sizes = _sizes(outputs, len(widths))
        self.small = (widths[-1], *sizes[-1])
        self.head = nn.Linear(latents, self.small[0] * self.small[1] * self.small[2])
        self.layers = nn.Sequential(nn.ReLU())
        channels = (outputs[0], *widths)
        for i in reversed(range(len(widths))):
            odd = 1 - sizes[i][0] % 2, 1 - sizes[i][1] % 2
            self.layers.append(nn.ConvTranspose2d(channels[i + 1], channels[i], 3, 2, 1, output_padding=odd))
            if i > 0:
                self.layers.append(nn.ReLU())

    def forward(self, z: Float[Tensor, "rows latents"]) -> Float[Tensor, "rows channels height width"]:
        """One parameter for each value of the picture."""
        small = self.head(z).unflatten(1, self.small)
        return self.layers(small.contiguous(memory_format=torch.channels_last))


class Strided:
    """The network "strided"; ``widths`` are the channels after each convolution, which halves height and width."""

    @staticmethod
    def encoder(inputs: Shape, outputs: int, widths: Sequence[int] = WIDTHS) -> nn.Module:
        """Picture → heads.

        Raises:
            SettingsError: inputs that are not a picture, or no widths.

        >>> Strided.encoder((3, 28, 28), 1024)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 1024])
        """
        height, width = _sizes(inputs, len(widths))[-1]
        layers = nn.Sequential()
        for before, after in zip((inputs[0], *widths[:-1]), widths, strict=True):
            layers.extend([nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()])
        return layers.extend([nn.Flatten(), nn.Linear(widths[-1] * height * width, outputs)])

    @staticmethod
    def decoder(inputs: int, outputs: Shape, widths: Sequence[int] = WIDTHS) -> nn.Module:
        """Latents → parameters of a picture."""
        return StridedDecoder(inputs, outputs, widths)

    @staticmethod
    def features(inputs: Shape, outputs: int, widths: Sequence[int] = WIDTHS) -> nn.Module:
        """Picture → features, for a joint encoder."""
        return nn.Sequential(Strided.encoder(inputs, outputs, widths), nn.ReLU())


def _sizes(shape: Shape, convolutions: int) -> list[tuple[int, int]]:
    """The height and width before the first convolution and after each."""
    if len(shape) != 3:
        raise SettingsError(f"the network 'strided' is for pictures of shape (channels, height, width), not {shape}")
    if convolutions < 1:
        raise SettingsError("the network 'strided' needs at least one width")
    sizes = [(shape[1], shape[2])]
    for _ in range(convolutions):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
