"""A small DCGAN for 28×28 pictures (App. A, Fig. 6: FashionMNIST)."""

from torch import nn

from mvae.networks.convolution import PictureDecoder, PictureEncoder, Pictures, convolutions
from mvae.networks.fold import FoldedTranspose2d

__all__ = ["Conv28", "ConvDecoder", "ConvEncoder"]

CHANNELS = (64, 128)
FLAT = CHANNELS[-1] * 7 * 7


class ConvEncoder(PictureEncoder):
    """28×28 picture → 4×4 convolutions of stride 2 (1 → 64 → 128, no bias), 6272 → 512, heads.

    3,409,536 parameters with 2·64 outputs (Table 1; Fig. 6 prints 6152 for 6272). A condition is appended to the 6272
    features (5,120 more parameters for ten classes: the CVAE).

    >>> ConvEncoder(2 * 64)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 128])
    """

    def __init__(self, outputs: int, condition: int = 0, hidden: int = 512, channels: int = 1):
        super().__init__(_trunk(channels), FLAT, outputs, condition, hidden)


class ConvDecoder(PictureDecoder):
    """The encoder mirrored: latents (and a condition) → 512 → 6272 → transposed convolutions → 28×28 logits.

    >>> ConvDecoder(64)(torch.zeros(3, 64)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(self, latents: int, condition: int = 0, hidden: int = 512, channels: int = 1):
        super().__init__(latents, (CHANNELS[-1], 7, 7), condition, hidden)
        first, second = CHANNELS
        self.layers.extend(
            [nn.ConvTranspose2d(second, first, 4, 2, 1, bias=False), nn.SiLU(), FoldedTranspose2d(first, channels)]
        )


def _trunk(channels: int) -> nn.Sequential:
    """28×28 → 14×14 → 7×7, flattened."""
    return convolutions((channels, *CHANNELS), [(2, 1), (2, 1)])


class Conv28(Pictures):
    """The network "conv28"; its features for a joint encoder are the trunk, 6272 → ``outputs``."""

    side, flat, networks, trunk = 28, FLAT, (ConvEncoder, ConvDecoder), staticmethod(_trunk)
