"""A DCGAN for 64×64 photographs (App. A, Fig. 8: CelebA).

Batch norm starts at the second convolution. Activations are in channels-last layout, which is faster for convolutions
on a CPU; inputs and outputs are not.
"""

from jaxtyping import Float
from torch import Tensor, nn

from mvae.networks.convolution import ChannelsLast, PictureDecoder, PictureEncoder, Pictures, convolutions

__all__ = ["Conv64", "ImageDecoder", "ImageEncoder"]

CHANNELS = (32, 64, 128, 256)
FLAT = CHANNELS[-1] * 5 * 5


class ImageEncoder(PictureEncoder):
    """64×64 RGB → 4×4 convolutions (3 → 32 → 64 → 128 → 256, no bias) → 6400 → 512 → heads.

    4,070,472 parameters with 2·100 outputs (Table 1). A condition is appended to the 6400 features (9,216 more
    parameters for 18 attributes: the CVAE). Images of Sec. 6 may have one channel instead of three.

    >>> ImageEncoder(2 * 100)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 200])
    """

    def __init__(self, outputs: int, condition: int = 0, hidden: int = 512, channels: int = 3):
        super().__init__(_trunk(channels), FLAT, outputs, condition, hidden)


class ImageDecoder(PictureDecoder):
    """The encoder mirrored: latents (and a condition) → 512 → 6400 → transposed convolutions → 64×64 logits per
    channel.

    >>> ImageDecoder(100)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, latents: int, condition: int = 0, hidden: int = 512, channels: int = 3):
        super().__init__(latents, (CHANNELS[-1], 5, 5), condition, hidden)
        first, second, third, fourth = CHANNELS
        for wide, narrow, stride, padding in ((fourth, third, 1, 0), (third, second, 2, 1), (second, first, 2, 1)):
            convolution = nn.ConvTranspose2d(wide, narrow, 4, stride, padding, bias=False)
            self.layers.extend([convolution, nn.BatchNorm2d(narrow), nn.SiLU()])
        self.layers.append(nn.ConvTranspose2d(first, channels, 4, 2, 1, bias=False))

    def forward(
        self, z: Float[Tensor, "rows latents"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows channels 64 64"]:
        """The logit of each value of the picture."""
        return super().forward(z, condition).contiguous()


def _trunk(channels: int) -> nn.Sequential:
    """64×64 → 32×32 → 16×16 → 8×8 → 5×5 (the last convolution has stride 1 and no padding), flattened."""
    return convolutions((channels, *CHANNELS), [(2, 1), (2, 1), (2, 1), (1, 0)], True, [ChannelsLast()])


class Conv64(Pictures):
    """The network "conv64"; its features for a joint encoder are the trunk, 6400 → ``outputs``."""

    side, flat, networks, trunk = 64, FLAT, (ImageEncoder, ImageDecoder), staticmethod(_trunk)
