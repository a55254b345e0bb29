"""A DCGAN for 50×50 pictures (App. A, Fig. 7: MultiMNIST)."""

from torch import nn

from mvae.networks.convolution import PictureDecoder, PictureEncoder, Pictures, convolutions
from mvae.networks.fold import FoldedTranspose2d

__all__ = ["CanvasDecoder", "CanvasEncoder", "Conv50"]

CHANNELS = (32, 64, 128, 256)
PADDINGS = (1, 1, 1, 0)  # 50 → 25 → 12 → 6 → 2
LEFT_OVER = (0, 1, 0, 0)  # 25 is halved to 12, and the transposed convolution must restore the lost row
FLAT = CHANNELS[-1] * 2 * 2


class CanvasEncoder(PictureEncoder):
    """50×50 picture → four 4×4 convolutions of stride 2 (1 → 32 → 64 → 128 → 256, no bias), 1024 → 512, heads.

    Batch norm starts at the second convolution. 1,316,936 parameters with 2·100 outputs (Table 1).

    >>> CanvasEncoder(2 * 100)(torch.zeros(3, 1, 50, 50)).shape
    torch.Size([3, 200])
    """

    def __init__(self, outputs: int, condition: int = 0, hidden: int = 512, channels: int = 1):
        super().__init__(_trunk(channels, batch_norm=True), FLAT, outputs, condition, hidden)


class CanvasDecoder(PictureDecoder):
    """The encoder mirrored: latents → 512 → 1024 → transposed convolutions → 50×50 logits.

    Batch norm follows every transposed convolution but the last, whose outputs are the logits.

    >>> CanvasDecoder(100)(torch.zeros(3, 100)).shape
    torch.Size([3, 1, 50, 50])
    """

    def __init__(self, latents: int, condition: int = 0, hidden: int = 512, channels: int = 1):
        super().__init__(latents, (CHANNELS[-1], 2, 2), condition, hidden)
        widths = (channels, *CHANNELS)
        for i in reversed(range(len(PADDINGS))):
            wide, narrow = widths[i + 1], widths[i]
            if i in (0, len(PADDINGS) - 1):
                convolution = FoldedTranspose2d(wide, narrow, PADDINGS[i])
            else:
                convolution = nn.ConvTranspose2d(wide, narrow, 4, 2, PADDINGS[i], LEFT_OVER[i], bias=False)
            self.layers.extend([convolution] if i == 0 else [convolution, nn.BatchNorm2d(narrow), nn.SiLU()])


def _trunk(channels: int, batch_norm: bool = False) -> nn.Sequential:
    """50×50 → 2×2, flattened."""
    return convolutions((channels, *CHANNELS), [(2, padding) for padding in PADDINGS], batch_norm)


class Conv50(Pictures):
    """The network "conv50"; its features for a joint encoder are the trunk without batch norm, 1024 → ``outputs``.

    The paper gives only the size of JMVAE's joint encoder. This arrangement, with a bidirectional GRU of 2·256 for the
    string and one shared layer of 256, has exactly the 2,233,128 parameters that Table 1 leaves for it (4,075,064 less
    the unimodal encoders' 1,841,936).
    """

    side, flat, networks, trunk = 50, FLAT, (CanvasEncoder, CanvasDecoder), staticmethod(_trunk)
