"""Small convolutional networks in the manner of DCGAN, as the paper uses for FashionMNIST (App. A, Fig. 6)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.networks.fold import FoldedTranspose2d
from mvae.networks.joint import JointEncoder
from mvae.networks.mlp import LabelFeatures

__all__ = ["ConvDecoder", "ConvEncoder", "joint_encoder"]

CHANNELS = (64, 128)
LAST = torch.channels_last  # which transposed convolutions on a CPU are faster on


class ConvEncoder(nn.Module):
    """28×28 grey image → 4×4 convolutions of stride 2 (1 → 64 → 128, no bias), 6272 → 512, heads.

    3,409,536 parameters with 2·64 outputs (Table 1; Fig. 6 prints 6152 for 6272). With a condition, that is appended to
    the 6272 (5,120 more for ten classes: the CVAE).

    >>> ConvEncoder(2 * 64)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 128])
    """

    def __init__(self, outputs: int, condition: int = 0, hidden: int = 512):
        super().__init__()
        self.trunk = _trunk()
        self.head = nn.Sequential(
            nn.Linear(CHANNELS[1] * 49 + condition, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(
        self, x: Float[Tensor, "rows 1 28 28"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance."""
        features = self.trunk(x)
        return self.head(features if condition is None else torch.cat([features, condition], dim=1))


class ConvDecoder(nn.Module):
    """The encoder backwards: latents (and a condition) → 512 → 6272 → transposed convolutions → 28×28 logits.

    >>> ConvDecoder(64)(torch.zeros(3, 64)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(self, latents: int, condition: int = 0, hidden: int = 512):
        super().__init__()
        first, second = CHANNELS
        self.head = nn.Sequential(
            nn.Linear(latents + condition, hidden),
            nn.SiLU(),
            nn.Linear(hidden, second * 49),
            nn.SiLU(),
            nn.Unflatten(1, (second, 7, 7)),
        )
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(second, first, 4, 2, 1, bias=False),
            nn.SiLU(),
            FoldedTranspose2d(first, 1),
        )

    def forward(
        self, z: Float[Tensor, "rows latents"], condition: Float[Tensor, "rows features"] | None = None
    ) -> Float[Tensor, "rows 1 28 28"]:
        """Logits of each pixel."""
        features = self.head(z if condition is None else torch.cat([z, condition], dim=1))
        return self.layers(features.contiguous(memory_format=LAST))


def joint_encoder(classes: int, outputs: int, hidden: int = 512) -> JointEncoder:
    """JMVAE's q(z | image, label): convolutions, 6272 → 512, label → 512, together → 512, heads (3,939,456 parameters).

    >>> joint_encoder(10, 128)({"image": torch.zeros(2, 1, 28, 28), "label": torch.tensor([0, 1])}).shape
    torch.Size([2, 128])
    """
    image = nn.Sequential(_trunk(), nn.Linear(CHANNELS[1] * 49, hidden), nn.SiLU())
    return JointEncoder({"image": image, "label": LabelFeatures(classes, hidden)}, 2 * hidden, outputs, hidden)


def _trunk() -> nn.Sequential:
    """28×28 → 14×14 → 7×7, flattened."""
    first, second = CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, first, 4, 2, 1, bias=False),
        nn.SiLU(),
        nn.Conv2d(first, second, 4, 2, 1, bias=False),
        nn.SiLU(),
        nn.Flatten(),
    )
