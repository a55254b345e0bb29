"""Private latents: adapt a modality that uses some of a model's latents, so that it takes all of them."""

import copy
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.modality.base import Modality

__all__ = ["owners", "placed"]


def owners(modalities: int, shared: int, private: int) -> Bool[Tensor, "modalities latent"]:
    """Which latents each modality uses: the shared ones, which come first, and its own.

    >>> owners(2, shared=1, private=2).int()
    tensor([[1, 1, 1, 0, 0],
            [1, 0, 0, 1, 1]], dtype=torch.int32)
    """
    own = torch.eye(modalities, dtype=torch.bool).repeat_interleave(private, 1)
    return torch.cat([torch.ones(modalities, shared, dtype=torch.bool), own], 1)


def placed(modality: Modality, own: Bool[Tensor, "latent"]) -> Modality:
    """A copy with the same networks that takes all latents, and says nothing about those that are not its ``own``."""
    result = copy.copy(modality)
    for parts in ("_parameters", "_buffers", "_modules"):  # copy.copy shares these dictionaries
        result.__dict__[parts] = dict(result.__dict__[parts])
    result.__class__ = _private(type(modality))
    result.register_buffer("own_latents", own.nonzero().flatten(), persistent=False)
    result.__dict__["latents"] = len(own)
    return result


@cache
def _private(of: type[Modality]) -> type[Modality]:
    return type(f"Private{of.__name__}", (_Private, of), {"__module__": of.__module__})


def _blank(of: type[Modality]) -> Modality:
    """An empty instance for unpickling: a class made at run time cannot be found by name."""
    made = _private(of)
    return made.__new__(made)


class _Private(Modality):
    """Changes to a modality's class: encoders' outputs are padded, and methods given all latents select its own."""

    own_latents: Tensor
    latents: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__

    def _own(self, z: Float[Tensor, "*lead _"]) -> Float[Tensor, "*lead _"]:
        """Its own latents out of all; own latents alone are returned as they are, since methods call each other."""
        return z.index_select(-1, self.own_latents) if z.shape[-1] == self.latents else z

    def expert_parameters(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The encoder's two outputs, with 0 for the other latents: N(0, 1)."""
        mean, raw = (
            part.new_zeros(len(part), self.latents).index_copy(1, self.own_latents, part)
            for part in super().expert_parameters(x, context)
        )
        return mean, raw

    def decode(self, z: Tensor, *args: Any, **options: Any) -> Tensor:
        return super().decode(self._own(z), *args, **options)

    def log_prob(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> Tensor:
        return super().log_prob(x, self._own(z), *args, **options)

    def assess(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        return super().assess(x, self._own(z), *args, **options)

    def generate(self, z: Tensor, *args: Any, **options: Any) -> Tensor:
        return super().generate(self._own(z), *args, **options)

    def beam(self, z: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:  # of sentences only
        return super().beam(self._own(z), *args, **options)  # pyright: ignore

    def correct(self, x: Tensor, z: Tensor, *args: Any, **options: Any) -> dict[str, tuple[Tensor, Tensor]]:
        return super().correct(x, self._own(z), *args, **options)

    def mode_with_log_prob(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return super().mode_with_log_prob(self._own(z))

    def invalid_values(self, x: Tensor, latent_dim: int, context_dim: int = 0) -> tuple[Tensor, str]:
        return super().invalid_values(x, len(self.own_latents), context_dim)
