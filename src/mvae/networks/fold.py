"""Transposed convolution as a matrix product and a fold: faster on a CPU for few channels or pixels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FoldedTranspose2d"]


class FoldedTranspose2d(nn.Module):
    """`torch.nn.ConvTranspose2d` of 4×4 and stride 2, without bias; padding 1 doubles height and width.

    It has the same weights and, up to rounding, the same values and gradients. Each pixel gives a patch of 4×4
    contributions, which a matrix product computes and `fold` adds up where they overlap. PyTorch's own layer takes two
    to four times as long to make an image of one channel (a quarter to a third of a decoder's time, for a twentieth of
    its products), and one and a half times as long from four pixels; otherwise, and on a GPU, it is faster. The input
    is best in channels-last layout; the output always is on a CPU.

    >>> FoldedTranspose2d(8, 1)(torch.zeros(2, 8, 7, 7)).shape
    torch.Size([2, 1, 14, 14])
    """

    def __init__(self, channels: int, outputs: int, padding: int = 1):
        super().__init__()
        self.plain, self.padding = nn.ConvTranspose2d(channels, outputs, 4, 2, padding, bias=False), padding

    def forward(self, x: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows outputs height2 width2"]:
        """The larger image."""
        if x.is_cuda:
            return self.plain(x)
        rows, channels, height, width = x.shape
        grown = 2 * height + 2 - 2 * self.padding, 2 * width + 2 - 2 * self.padding
        pixels = x.permute(0, 2, 3, 1).reshape(rows, height * width, channels)
        patches = torch.matmul(pixels, self.plain.weight.reshape(channels, -1))  # rows pixels outputs·4·4
        image = F.fold(patches.transpose(1, 2), grown, 4, padding=self.padding, stride=2)
        return image.contiguous(memory_format=torch.channels_last)
