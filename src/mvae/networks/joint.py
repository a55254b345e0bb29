"""The joint encoder of all modalities, q(z | X) of the JMVAE (Suzuki et al. 2016; Table 1)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.networks import Shape, build

__all__ = ["Joint", "JointEncoder", "fresh"]


class JointEncoder(nn.Module):
    """Concatenated features of every modality → one shared layer → heads.

    Args:
        features: modality → network, ``rows event…`` → ``rows …``.
        width: total number of features.
        outputs: 2·latent.
        hidden: width of the shared layer.

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
        """The mean and log-variance of each row."""
        parts = [self.features[key](x[name]) for key, name in self.names.items()]
        return self.together(torch.cat(parts, dim=1))


def fresh(network: nn.Module) -> nn.Module:
    """A copy of a network with new initial weights in all layers that can be reset."""
    twin = copy.deepcopy(network)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]
    return twin


class Joint:
    """The network "joint": features of the same width for every modality, and one shared layer."""

    @staticmethod
    def joint(
        inputs: Mapping[str, Shape],
        outputs: int,
        features: Mapping[str, Any] | None = None,
        hidden: int = 512,
        together: int | None = None,
    ) -> JointEncoder:
        """Build a joint encoder of ``hidden`` features per modality.

        ``features``: modality → the network that reads it; ``together``: width of the shared layer [hidden].

        Raises:
            SettingsError: no network for a modality, or one without features.

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
