"""Private latents: a modality of some of a model's latents, as one of all of them."""

import copy
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.modality.base import Modality

__all__ = ["owners", "placed"]


def owners(modalities: int, shared: int, private: int) -> Bool[Tensor, "modalities latent"]:
    """Which latents each modality has to do with: the shared ones, which come first, and its own.

    >>> owners(2, shared=1, private=2).int()
    tensor([[1, 1, 1, 0, 0],
            [1, 0, 0, 1, 1]], dtype=torch.int32)
    """
    own = torch.eye(modalities, dtype=torch.bool).repeat_interleave(private, 1)
    return torch.cat([torch.ones(modalities, shared, dtype=torch.bool), own], 1)


def placed(modality: Modality, own: Bool[Tensor, "latent"]) -> Modality:
    """A modality of its class with the same networks, for all latents; it knows nothing of those not its ``own``."""
    result = copy.copy(modality)
    for parts in ("_parameters", "_buffers", "_modules"):  # a module's copy shares them
        result.__dict__[parts] = dict(result.__dict__[parts])
    result.__class__ = _private(type(modality))
    result.register_buffer("own_latents", own.nonzero().flatten(), persistent=False)
    result.__dict__["latents"] = len(own)
    return result


@cache
def _private(of: type[Modality]) -> type[Modality]:
    return type(f"Private{of.__name__}", (_Private, of), {"__module__": of.__module__})


def _blank(of: type[Modality]) -> Modality:
    """To be filled with the state of another one: a class that is made here has no name by which it could be found."""
    made = _private(of)
    return made.__new__(made)


class _Private(Modality):
    """What changes in a modality's class: encoders are filled up, and whoever is given all latents takes its own."""

    own_latents: Tensor
    latents: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__

    def _own(self, z: Float[Tensor, "*lead _"]) -> Float[Tensor, "*lead _"]:
        """The own ones of all latents; own ones as they are, since methods call each other."""
        return z.index_select(-1, self.own_latents) if z.shape[-1] == self.latents else z

    def expert_parameters(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The encoder's two outputs, and 0 at the other latents: N(0, 1)."""
        mean, raw = (
            part.new_zeros(len(part), self.latents).index_copy(1, self.own_latents, part)
            for part in super().expert_parameters(x, context)
        )
        return mean, raw

    def decode(self, z: Tensor, *args: Any, **options: Any) -> Tensor:
        """The decoder on its own latents."""
        return super().decode(self._own(z), *args, **options)

    def log_prob(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> Tensor:
        """log p(x | z) of its own latents."""
        return super().log_prob(x, self._own(z), *args, **options)

    def assess(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """The same, with the likelihood's parameters."""
        return super().assess(x, self._own(z), *args, **options)

    def generate(self, z: Tensor, *args: Any, **options: Any) -> Tensor:
        """x ~ p(x | z) of its own latents."""
        return super().generate(self._own(z), *args, **options)

    def correct(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """What is predicted right from its own latents."""
        return super().correct(x, self._own(z), *args, **options)

    def mode_with_log_prob(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable x given its own latents."""
        return super().mode_with_log_prob(self._own(z))

    def invalid_values(self, x: Tensor, latent_dim: int, context_dim: int = 0) -> tuple[Tensor, str]:
        """Which values cannot be its own."""
        return super().invalid_values(x, len(self.own_latents), context_dim)
