"""The paper's networks for CelebA: a DCGAN for 64×64 photographs, perceptrons with batch norm for attributes (Fig. 8).

The DCGAN's batch norms begin at the second convolution. Its activations are laid out channels last, which the
convolutions of a CPU are faster on; what goes in and comes out is not.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.networks.joint import JointEncoder

__all__ = ["ChannelsLast", "ImageDecoder", "ImageEncoder", "joint_encoder", "perceptron"]

CHANNELS = (32, 64, 128, 256)
FLAT = CHANNELS[-1] * 5 * 5
LAST = torch.channels_last


class ImageEncoder(nn.Module):
    """64×64 RGB → 4×4 convolutions (3 → 32 → 64 → 128 → 256, no bias) → 6400 → 512 → heads.

    4,070,472 parameters with 2·100 outputs (Table 1). With a condition, that is appended to the 6400 (9,216 more for
    18 attributes: the CVAE). Images of Sec. 6 may have one channel instead of three.

    >>> ImageEncoder(2 * 100)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 200])
    """

    def __init__(self, outputs: int, condition: int = 0, hidden: int = 512, channels: int = 3):
        super().__init__()
        self.trunk = _trunk(channels)
        self.head = nn.Sequential(nn.Linear(FLAT + condition, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(
        self, x: Float[Tensor, "rows channels 64 64"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance."""
        features = self.trunk(x)
        return self.head(features if condition is None else torch.cat([features, condition], dim=1))


class ImageDecoder(nn.Module):
    """The encoder backwards: latents (and a condition) → 512 → 6400 → transposed convolutions → 64×64 logits, of RGB or
    of as many channels as asked for.

    >>> ImageDecoder(100)(torch.zeros(2, 100)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, latents: int, condition: int = 0, hidden: int = 512, channels: int = 3):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(latents + condition, hidden), nn.SiLU(), nn.Linear(hidden, FLAT), nn.SiLU())
        first, second, third, fourth = CHANNELS
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(fourth, third, 4, 1, 0, bias=False),
            nn.BatchNorm2d(third),
            nn.SiLU(),
            nn.ConvTranspose2d(third, second, 4, 2, 1, bias=False),
            nn.BatchNorm2d(second),
            nn.SiLU(),
            nn.ConvTranspose2d(second, first, 4, 2, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.SiLU(),
            nn.ConvTranspose2d(first, channels, 4, 2, 1, bias=False),
        )

    def forward(
        self, z: Float[Tensor, "rows latents"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows channels 64 64"]:
        """Logits of each level."""
        features = self.head(z if condition is None else torch.cat([z, condition], dim=1)).unflatten(1, (-1, 5, 5))
        return self.layers(features.contiguous(memory_format=LAST)).contiguous()


def joint_encoder(features: int, outputs: int, hidden: int = 512) -> JointEncoder:
    """JMVAE's q(z | image, attributes): convolutions, 6400 → 512, attributes → 512 without batch norm, together → 512,
    heads (4,605,000 parameters).

    >>> joint_encoder(18, 200)({"image": torch.zeros(2, 3, 64, 64), "attributes": torch.zeros(2, 18)}).shape
    torch.Size([2, 200])
    """
    image = nn.Sequential(_trunk(3), nn.Linear(FLAT, hidden), nn.SiLU())
    attributes = nn.Sequential(nn.Linear(features, hidden), nn.SiLU())
    return JointEncoder({"image": image, "attributes": attributes}, 2 * hidden, outputs, hidden)


def perceptron(inputs: int, outputs: int, hidden: int = 512) -> nn.Sequential:
    """Two hidden layers with batch norm and swish (Fig. 8c, 8d); ``rows inputs`` → ``rows outputs``.

    377,032 parameters from 18 attributes to 2·100 heads (Table 1).

    >>> perceptron(18, 200)(torch.zeros(2, 18)).shape
    torch.Size([2, 200])
    """
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )


class ChannelsLast(nn.Module):
    """The same values, laid out channels last."""

    def forward(self, x: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows channels height width"]:
        """x itself, or a copy."""
        return x.contiguous(memory_format=LAST)


def _trunk(channels: int) -> nn.Sequential:
    """64×64 → 32×32 → 16×16 → 8×8 → 5×5 (the last convolution has stride 1 and no padding), flattened."""
    first, second, third, fourth = CHANNELS
    return nn.Sequential(
        ChannelsLast(),
        nn.Conv2d(channels, first, 4, 2, 1, bias=False),
        nn.SiLU(),
        nn.Conv2d(first, second, 4, 2, 1, bias=False),
        nn.BatchNorm2d(second),
        nn.SiLU(),
        nn.Conv2d(second, third, 4, 2, 1, bias=False),
        nn.BatchNorm2d(third),
        nn.SiLU(),
        nn.Conv2d(third, fourth, 4, 1, 0, bias=False),
        nn.BatchNorm2d(fourth),
        nn.SiLU(),
        nn.Flatten(),
    )
