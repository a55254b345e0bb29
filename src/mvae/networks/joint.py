"""The encoder of all modalities together, q(z | X) of the JMVAE (Suzuki et al. 2016; Table 1)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.networks import build

__all__ = ["Joint", "JointEncoder", "fresh"]


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
        self.features = nn.ModuleDict()
        self.names = {self._key(name): name for name in features}  # a modality may be called `type`, or have a dot
        for key, name in self.names.items():
            self.features[key] = features[name]
        self.together = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def _key(self, name: str) -> str:
        fits = name and "." not in name and not hasattr(self.features, name)
        return name if fits else "_" + "".join(f"{ord(letter):x}_" for letter in name)

    def forward(self, x: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance of each row."""
        parts = [self.features[key](x[name]) for key, name in self.names.items()]
        return self.together(torch.cat(parts, dim=1))


def fresh(network: nn.Module) -> nn.Module:
    """A network of the same architecture, with initial weights of its own where its layers can draw them."""
    twin = copy.deepcopy(network)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]
    return twin


class Joint:
    """The network "joint": as wide features of every modality, one layer for them together."""

    @staticmethod
    def joint(
        inputs: Mapping[str, tuple[int, ...]],
        outputs: int,
        features: Mapping[str, Any] | None = None,
        hidden: int = 512,
        together: int | None = None,
    ) -> JointEncoder:
        """``features``: the network that reads each modality; ``together``: width of their shared layer [hidden].

        Raises:
            SettingsError: no network for a modality, or one that makes no features.

        >>> shapes, features = {"image": (784,), "label": (10,)}, {"image": "mlp", "label": "label"}
        >>> encoder = Joint.joint(shapes, 2 * 64, features)  # 997,504 parameters (Table 1)
        >>> encoder({"image": torch.zeros(3, 784), "label": torch.tensor([0, 1, 2])}).shape
        torch.Size([3, 128])
        """
        features = features or {}
        if lacking := [name for name in inputs if name not in features]:
            raise SettingsError(f"a joint encoder needs features.{lacking[0]}, the network that reads {lacking[0]!r}")
        read = {n: build(features[n], inputs=shape, outputs=hidden, role="features") for n, shape in inputs.items()}
        return JointEncoder(read, hidden * len(inputs), outputs, hidden if together is None else together)
