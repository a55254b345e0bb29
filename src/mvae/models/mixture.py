"""Mixtures of diagonal Gaussians, for models whose posterior is a mixture (MMVAE, MoPoE)."""

import math
from dataclasses import dataclass
from typing import NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.errors import QueryError
from mvae.gaussian import Gaussian

__all__ = ["Mixture"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """q(z) = Σ_k w_k N(z; μ_k, V_k) of each row, with the interface of a `Gaussian`.

    Args:
        components: ``components rows latent``, all of them proper.
        weight: w, ``components rows``; each row's add up to 1, and some may be 0.

    >>> apart = Gaussian.from_mean_log_var(torch.tensor([[[-3.0]], [[3.0]]]), torch.zeros(2, 1, 1))
    >>> q = Mixture(apart, torch.tensor([[0.5], [0.5]]))
    >>> q.mean, q.variance
    (tensor([[0.]]), tensor([[10.]]))
    >>> (q.sample(100, torch.Generator().manual_seed(0)) > 0).sum()  # in strata: as many of each as there should be
    tensor(50)
    """

    components: Gaussian
    weight: Float[Tensor, "components rows"]

    @classmethod
    def even(cls, components: Gaussian, has: Bool[Tensor, "components #rows"]) -> "Mixture":
        """Equal weights of the components that a row has; of all components if it has none."""
        has = has | ~has.any(0)
        weight = has.to(components.precision.dtype) / has.sum(0)
        return cls(components, weight.to(components.precision.device).expand(-1, components.precision.shape[1]))

    @property
    def mean(self) -> Float[Tensor, "rows latent"]:
        """Σ_k w_k μ_k."""
        return (self.weight[..., None] * self.components.mean).sum(0)

    @property
    def variance(self) -> Float[Tensor, "rows latent"]:
        """Σ_k w_k (V_k + (μ_k − μ)²), of each latent."""
        away = (self.components.mean - self.mean).square()
        return (self.weight[..., None] * (self.components.variance + away)).sum(0)

    @property
    def stddev(self) -> Float[Tensor, "rows latent"]:
        """The variance's square root."""
        return self.variance.sqrt()

    def __getitem__(self, index: object) -> "Mixture":
        """Some rows."""
        return Mixture(self.components[:, index], self.weight[:, index])  # pyright: ignore[reportArgumentType]

    def rsample(
        self,
        noise: Float[Tensor, "*samples rows latent"],
        generator: torch.Generator | None = None,
        *,
        alike: bool = False,
    ) -> Float[Tensor, "*samples rows latent"]:
        """μ_k + σ_k·noise, with components k drawn in strata along the samples (the gradient is of μ and σ alone).

        Each sample on its own is a sample of the mixture. Together, n samples of a row contain component k n·w_k times,
        up to rounding: they are spaced evenly on [0, 1), from a start that ``generator`` draws for each row, and each
        takes the component in whose interval it lies. ``alike``: all rows share the start, so that a row's samples
        depend on its own noise alone.
        """
        flat = noise.reshape(-1, *noise.shape[-2:])
        count, rows, latent = flat.shape
        start = torch.rand(1 if alike else rows, generator=generator, device=flat.device, dtype=torch.float64)
        place = (torch.arange(count, device=flat.device, dtype=torch.float64)[:, None] / count + start) % 1
        ends = self.weight.double().cumsum(0)
        last = (torch.arange(1, len(ends) + 1, device=flat.device)[:, None] * (self.weight > 0)).amax(0) - 1
        component = (place[None] >= ends[:, None]).sum(0).clamp(max=last)  # samples rows; none of weight 0
        index = component[..., None].expand(-1, -1, latent)
        mean, stddev = self.components.mean.gather(0, index), self.components.stddev.gather(0, index)
        return torch.addcmul(mean, stddev, flat).reshape(noise.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n rows latent"]:
        """n samples of each row, in strata, without a gradient."""
        with torch.no_grad():
            like = self.components.mean
            shape = n, *like.shape[1:]
            noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
            return self.rsample(noise, generator)

    def log_prob(self, z: Float[Tensor, "*samples rows latent"]) -> Float[Tensor, "*samples rows"]:
        """log q(z) in nats, computed one component at a time to bound memory."""
        total = torch.full(z.shape[:-1], -math.inf, device=z.device, dtype=z.dtype)
        for component, weight in zip(self.components.unbind(), self.weight.unbind(), strict=True):
            total = torch.logaddexp(total, component.log_prob(z) + weight.log())
        return total

    def kl_to_prior(self) -> NoReturn:
        """Raises QueryError: there is no closed form."""
        raise QueryError(
            "the KL of a mixture has no closed form: estimate it from samples, z = q.sample(1000), as the mean of "
            "q.log_prob(z) - Gaussian.standard(latent_dim).log_prob(z)"
        )
