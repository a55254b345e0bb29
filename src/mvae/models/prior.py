"""Priors over the latents that are fitted after training, for sampling and for log p.

The training objective only pulls the posteriors towards N(0, I). Taken together over the rows (the *aggregate
posterior*), they usually fill a small part of it, so that samples decoded from N(0, I) resemble no real row. A density
fitted to the aggregate posterior is a better p(z) for the same decoders: set as ``model.prior``, it is what
``generate(None)`` draws from and what log p refers to. The decoders and all posteriors stay as they are.
"""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MixturePrior", "Prior"]


@runtime_checkable
class Prior(Protocol):
    """A distribution of one row's latents."""

    @property
    def mean(self) -> Float[Tensor, "1 latent"]:
        """Its mean, or a central value."""
        ...

    def rsample(self, noise: Float[Tensor, "*lead latent"], generator: torch.Generator | None = None) -> Tensor:
        """Samples made from noise ~ N(0, I); any other random numbers come from the generator."""
        ...

    def log_prob(self, z: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        """log p(z) in nats."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its tensors, and the other values needed to rebuild it: its ``kind`` and sizes."""
        ...


class MixturePrior:
    """Σ_k w_k N(z; μ_k, Σ_k), with full covariances.

    Args:
        weight: w, positive; they add up to 1.
        centre: μ.
        covariance: Σ, positive definite.

    >>> prior = MixturePrior(torch.tensor([0.5, 0.5]), torch.tensor([[-3.0], [3.0]]), torch.ones(2, 1, 1))
    >>> prior
    MixturePrior(2 components, 1 latents)
    >>> prior.mean
    tensor([[0.]])
    >>> bool((prior.rsample(torch.zeros(100, 1), torch.Generator().manual_seed(0)).abs() == 3).all())
    True
    """

    def __init__(
        self,
        weight: Float[Tensor, "components"],
        centre: Float[Tensor, "components latent"],
        covariance: Float[Tensor, "components latent latent"],
    ):
        self.weight, self.centre, self.covariance = weight, centre, covariance
        self._factor = torch.linalg.cholesky(covariance.double()).to(covariance)

    def __repr__(self) -> str:
        return f"MixturePrior({len(self.weight)} components, {self.centre.shape[1]} latents)"

    @property
    def mean(self) -> Float[Tensor, "1 latent"]:
        """Σ_k w_k μ_k."""
        return (self.weight[:, None] * self.centre).sum(0, keepdim=True)

    def rsample(
        self, noise: Float[Tensor, "*lead latent"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*lead latent"]:
        """μ_k + L_k·noise, with a component k drawn for each sample."""
        self._to(noise)
        flat, result = noise.reshape(-1, noise.shape[-1]), torch.empty_like(noise).reshape(-1, noise.shape[-1])
        component = torch.multinomial(self.weight, len(flat), replacement=True, generator=generator)
        for k in component.unique().tolist():
            rows = component == k
            result[rows] = self.centre[k] + flat[rows] @ self._factor[k].T
        return result.reshape(noise.shape)

    def log_prob(self, z: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        """log p(z) in nats, computed one component at a time to bound memory."""
        self._to(z)
        flat = z.reshape(-1, z.shape[-1])
        total = torch.full(flat.shape[:1], -math.inf, device=z.device, dtype=z.dtype)
        for weight, centre, factor in zip(self.weight, self.centre, self._factor, strict=True):
            standard = torch.linalg.solve_triangular(factor, (flat - centre).T, upper=False)
            log_p = -0.5 * standard.square().sum(0) - factor.diagonal().log().sum()
            total = torch.logaddexp(total, weight.log() + log_p)
        return total.reshape(z.shape[:-1]) - 0.5 * z.shape[-1] * math.log(2 * math.pi)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its three tensors."""
        tensors = {"weight": self.weight, "centre": self.centre, "covariance": self.covariance}
        return {name: value.cpu() for name, value in tensors.items()}, {"kind": "mixture"}

    def _to(self, like: Tensor) -> None:
        """Move to the device and the precision of these values."""
        if (self.weight.device, self.weight.dtype) != (like.device, like.dtype):
            for name in ("weight", "centre", "covariance", "_factor"):
                setattr(self, name, getattr(self, name).to(like))
