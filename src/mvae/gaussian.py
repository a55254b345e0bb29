"""Diagonal Gaussians, and their products and quotients as in the paper (Eq. 3, 4; App. B, C).

A Gaussian is stored as its natural parameters, the precision T = 1/V and the shift Tμ. Then a product of experts is a
sum (App. B) and a quotient is a difference (App. C). Nothing has to be inverted until a mean or a standard deviation is
needed, and an uninformative expert is T = 0, a finite number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Gaussian", "kl_divergence", "log_prior", "map_parameters", "product", "quotient", "select_expert"]

# Precisions of experts stay within e^±20, so that an encoder with extreme outputs gives a confident or an uninformative
# expert, never 0/0: an unbounded log-variance overflows float32 at 88.
MAX_LOG_VARIANCE = 20.0


class _Bounded(torch.autograd.Function):
    """Clamp log-variances to ±20; outside, keep only gradients that lead back inside, so that the encoder recovers."""

    @staticmethod
    def forward(ctx: Any, log_var: Tensor) -> Tensor:
        ctx.save_for_backward(log_var)
        return log_var.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (log_var,), (grad,) = ctx.saved_tensors, grad_outputs
        beyond = ((log_var > MAX_LOG_VARIANCE) & (grad < 0)) | ((log_var < -MAX_LOG_VARIANCE) & (grad > 0))
        return grad.masked_fill(beyond, 0.0)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Diagonal Gaussians N(mean, 1/precision) over the last axis, stored as precision and precision × mean.

    An expert need not be proper (MVAE-Q divides by the prior, App. C); a posterior has precision > 0.

    >>> q = Gaussian.from_mean_log_var(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    >>> q.kl_to_prior()
    tensor([2.5000])
    """

    precision: Float[Tensor, "*batch latent"]
    shift: Float[Tensor, "*batch latent"]

    @classmethod
    def from_mean_log_var(
        cls, mean: Float[Tensor, "*batch latent"], log_var: Float[Tensor, "*batch latent"]
    ) -> "Gaussian":
        """Build it from an encoder's two outputs, in float32 at least; the log-variance is clamped to ±20."""
        dtype = torch.promote_types(torch.promote_types(mean.dtype, log_var.dtype), torch.float32)
        mean, log_var = mean.to(dtype), log_var.to(dtype)
        precision = torch.exp(-cast("Tensor", _Bounded.apply(log_var)))
        return cls(precision, precision * mean)

    @classmethod
    def standard(
        cls, *shape: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Gaussian":
        """The prior N(0, I) in the given shape (… latent)."""
        return cls(torch.ones(*shape, device=device, dtype=dtype), torch.zeros(*shape, device=device, dtype=dtype))

    @property
    def mean(self) -> Float[Tensor, "*batch latent"]:
        """μ = Tμ / T."""
        return self.shift / self.precision

    @property
    def variance(self) -> Float[Tensor, "*batch latent"]:
        """V = 1 / T."""
        return self.precision.reciprocal()

    @property
    def stddev(self) -> Float[Tensor, "*batch latent"]:
        """σ = T^(−1/2)."""
        return self.precision.rsqrt()

    def __getitem__(self, index: object) -> "Gaussian":
        """Index both parameters."""
        return map_parameters(lambda part: part[index], self)  # pyright: ignore[reportArgumentType]

    def unbind(self) -> "tuple[Gaussian, ...]":
        """Split along the first axis; unlike with indexing, the gradients of the parts are assembled only once."""
        return tuple(Gaussian(*parts) for parts in zip(self.precision.unbind(), self.shift.unbind(), strict=True))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *batch latent"]:
        """Draw n samples, without a gradient.

        >>> Gaussian.standard(3, 2).sample(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 3, 2])
        """
        with torch.no_grad():
            like = self.mean
            return self.rsample(torch.randn(n, *like.shape, generator=generator, device=like.device, dtype=like.dtype))

    def rsample(
        self, noise: Float[Tensor, "*samples latent"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*samples latent"]:
        """Reparameterised sample μ + σ·noise; noise ~ N(0, I) comes from the caller's generator.

        The noise may have additional leading axes: noise ``samples rows latent`` for a ``rows latent`` Gaussian.
        ``generator`` is for posteriors that draw more than noise (a mixture draws its component); it is not used here.
        """
        return torch.addcmul(self.mean, self.stddev, noise)

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """log N(z; μ, V) in nats, summed over the latent axis."""
        square = self.precision * (z - self.mean).square()
        return 0.5 * (self.precision.log().sum(-1) - square.sum(-1) - z.shape[-1] * math.log(2 * math.pi))

    def kl_to_prior(self) -> Float[Tensor, "*batch"]:
        """KL[q, N(0, I)] in nats: ½ Σ (V + μ² − 1 − log V) (the last term of Eq. 1)."""
        variance = self.variance
        mean = self.shift * variance
        return 0.5 * (variance + mean.square() - 1 + self.precision.log()).sum(-1)


def log_prior(z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
    """log N(z; 0, I) in nats, summed over the latent axis.

    >>> log_prior(torch.ones(1, 2))  # −1 − log 2π
    tensor([-2.8379])
    """
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


def map_parameters(operation: Callable[..., Tensor], *gaussians: Gaussian) -> Gaussian:
    """Apply an operation to the precisions of some Gaussians, and to their shifts.

    >>> map_parameters(lambda *parts: torch.cat(parts), Gaussian.standard(2, 3), Gaussian.standard(4, 3)).mean.shape
    torch.Size([6, 3])
    """
    return Gaussian(operation(*(q.precision for q in gaussians)), operation(*(q.shift for q in gaussians)))


def product(experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"], prior_expert: bool = True) -> Gaussian:
    """q(z | X) ∝ p(z) Π_{i in X} q̃(z | x_i) for every term's subset X (Eq. 4, App. B).

    Args:
        experts: one expert for each modality and row, ``modalities rows latent``; rows in which the modality is missing
            must contain zeros (precision 0: no information), so that missing values have no influence.
        given: which experts each term multiplies; a rows axis of 1 means "the same for every row".
        prior_expert: include N(0, I) exactly once in each product (Eq. 4). Without it (other models) the product has
            the experts alone, and is N(0, I) only where no expert is given.

    Returns:
        The posteriors, ``terms rows latent``.

    >>> one = Gaussian.from_mean_log_var(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))  # N(1, 1)
    >>> q = product(one, torch.tensor([[[True]], [[False]]]))
    >>> q.mean.flatten(), q.variance.flatten()  # N(1, 1)·N(0, 1), and the prior alone
    (tensor([0.5000, 0.0000]), tensor([0.5000, 1.0000]))
    """
    chosen = given.to(experts.precision.dtype)
    with torch.autocast(chosen.device.type, enabled=False):  # autocast would sum in 8 bits of precision
        if chosen.shape[1] == 1:  # the same for all rows: one matrix product instead of one per row
            shape, chosen = (len(given), *experts.precision.shape[1:]), chosen[:, 0]
            precision = (chosen @ experts.precision.flatten(1)).view(shape)
            shift = (chosen @ experts.shift.flatten(1)).view(shape)
        else:
            precision = torch.einsum("tbm,mbd->tbd", chosen, experts.precision)
            shift = torch.einsum("tbm,mbd->tbd", chosen, experts.shift)
    prior = 1.0 if prior_expert else 1 - given.any(-1, keepdim=True).to(precision.dtype)
    return Gaussian(prior + precision, shift)


def select_expert(experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
    """Use the given expert itself as the posterior, or the prior if none is given: for models without a product.

    Shapes are as in `product`. `mvae.models.plan` (`at_most_one`) makes sure that at most one expert is given.
    """
    return product(experts, given, prior_expert=False)


def quotient(numerator: Gaussian, denominator: Gaussian) -> Gaussian:
    """The Gaussian proportional to numerator / denominator: natural parameters subtract (App. C).

    It is proper only where the numerator has the larger precision (App. C prints the resulting condition on V the
    wrong way round: the condition is V < N/(N−1), not V > N/(N−1)). An improper expert is allowed here,
    because it can become proper again inside a product; the caller must make sure that it does.
    """
    return map_parameters(torch.sub, numerator, denominator)


def kl_divergence(q: Gaussian, p: Gaussian) -> Float[Tensor, "*batch"]:
    """KL[q, p] in nats between diagonal Gaussians, summed over the latent axis.

    >>> q = Gaussian.standard(3, 2)
    >>> kl_divergence(q, q)
    tensor([0., 0., 0.])
    """
    ratio = p.precision / q.precision
    distance = p.precision * (q.mean - p.mean).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)
