"""Private latents: a modality of some of a model's latents, as one of all of them."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.errors import SettingsError
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


def placed(name: str, modality: Modality, own: Bool[Tensor, "latent"]) -> Modality:
    """The modality with the same networks, for all latents: it knows nothing of those that are not its ``own``.

    Raises:
        SettingsError: a modality of another class, such as one of strings.
    """
    if type(modality) is not Modality:
        raise SettingsError(
            f"{name} is a {type(modality).__name__}, whose decoder cannot be given a part of the latents: private "
            "latents are for pictures, vectors and classes"
        )
    encoder, decoder = _Padded(modality.encoder, own), _Selected(modality.decoder, own)
    result = Modality(encoder, decoder, modality.likelihood, modality.weight, view=modality.view)
    result.augment, result.scaling = modality.augment, modality.scaling
    return result


class _Padded(nn.Module):
    """An encoder whose two outputs are 0 at latents that are not its own: N(0, 1)."""

    index: Tensor

    def __init__(self, inner: nn.Module, own: Bool[Tensor, "latent"]):
        super().__init__()
        self.inner, self.latents = inner, len(own)
        self.register_buffer("index", own.nonzero().flatten(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Float[Tensor, "rows latent"], Float[Tensor, "rows latent"]]:
        output = self.inner(x)
        parts = cast("list[Tensor]", output.chunk(2, dim=-1) if isinstance(output, Tensor) else output)
        mean, raw = (part.new_zeros(len(part), self.latents).index_copy(1, self.index, part) for part in parts)
        return mean, raw


class _Selected(nn.Module):
    """A decoder that is given its own latents."""

    index: Tensor

    def __init__(self, inner: nn.Module, own: Bool[Tensor, "latent"]):
        super().__init__()
        self.inner = inner
        self.register_buffer("index", own.nonzero().flatten(), persistent=False)

    def forward(self, z: Float[Tensor, "rows latent"]) -> Tensor:
        return self.inner(z.index_select(1, self.index))
