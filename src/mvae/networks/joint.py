"""The encoder of all modalities together, q(z | X) of the JMVAE (Suzuki et al. 2016; Table 1)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["JointEncoder"]


class JointEncoder(nn.Module):
    """Features of every modality side by side, one layer for them together, heads.

    Args:
        features: name → network, ``rows event…`` → ``rows …``, a modality each.
        width: of all their features together.
        outputs: 2·latent.
        hidden: width of the layer that they share.

    >>> from mvae.networks.mlp import mlp
    >>> encoder = JointEncoder({"x": mlp(3, 8), "y": mlp(1, 4)}, width=12, outputs=2 * 5)
    >>> encoder({"x": torch.zeros(7, 3), "y": torch.zeros(7, 1)}).shape
    torch.Size([7, 10])
    """

    def __init__(self, features: Mapping[str, nn.Module], width: int, outputs: int, hidden: int = 512):
        super().__init__()
        self.features = nn.ModuleDict(features)
        self.together = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(self, x: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance of each row."""
        return self.together(torch.cat([network(x[name]) for name, network in self.features.items()], dim=1))
