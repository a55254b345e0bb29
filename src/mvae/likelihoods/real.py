"""Families of real values with one shared scale or one scale per value: Gaussian, Laplace and Student's t."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.likelihoods.base import Likelihood

__all__ = ["Gaussian", "Laplace", "StudentT"]


class _AtLeast(torch.autograd.Function):
    """max(x, least), whose gradient at the bound is zero only where gradient descent would go further down."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.least = least
        return x.clamp(min=least)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,), (grad,) = ctx.saved_tensors, grad_outputs
        return torch.where((x > ctx.least) | (grad < 0), grad, 0.0), None


class _Scaled(Likelihood):
    """A location from the decoder and a scale, which is fixed or learned (as its logarithm).

    Args:
        scale: the scale, or its initial value if it is learned.
        learned: learn the scale as a parameter.
        least: lower bound of a learned scale. Without it, the log-likelihood of a constant column would be unbounded.
        values: the length of the event's last axis; each of its values then has its own scale. None: one scale for all.

    ``scale`` and ``least`` are in standard deviations of the data, unless the modality has ``standardise=False``.

    Raises:
        SettingsError: a scale that is not positive and finite, or a learned one that starts below ``least``.
    """

    real = True

    @checked_arguments()
    def __init__(self, scale: float = 1.0, learned: bool = False, least: float = 1e-3, values: int | None = None):
        super().__init__()
        if not 0 < scale < math.inf:
            raise SettingsError(f"the scale of {type(self).__name__} must be positive and finite, not {scale}")
        if learned and not 0 < least <= scale:
            raise SettingsError(
                f"a learned scale of {type(self).__name__} starts at {scale}: least must be above 0 and at most that, "
                f"not {least}"
            )
        self.least = math.log(least) if learned else -math.inf
        log_scale = torch.full(() if values is None else (values,), math.log(scale))
        self.log_scale = nn.Parameter(log_scale) if learned else nn.Buffer(log_scale)

    @property
    def log_s(self) -> Tensor:
        """The logarithm of the scale in use."""
        return cast("Tensor", _AtLeast.apply(self.log_scale, self.least)) if self.least > -math.inf else self.log_scale

    def mean(self, params: Tensor) -> Tensor:
        """The location."""
        return params


class Gaussian(_Scaled):
    """N(decoder's output, scale²), with one scale for the modality or one per value, fixed or learned.

    >>> Gaussian().log_prob(torch.zeros(1, 2), torch.zeros(1, 2))  # −log 2π
    tensor([-1.8379])
    """

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """−½((x − μ)/s)² − log s − ½ log 2π."""
        log_s = self.log_s
        standard = (x - params) * torch.exp(-log_s)
        return -0.5 * standard.square() - log_s - 0.5 * math.log(2 * math.pi)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw μ + s·ε."""
        noise = torch.randn(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        return params + self.log_s.exp() * noise


class Laplace(_Scaled):
    """Laplace(decoder's output, scale): absolute error, robust to outliers.

    >>> Laplace().log_prob(torch.zeros(1, 1), torch.ones(1, 1))  # −1 − log 2
    tensor([-1.6931])
    """

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """−|x − μ|/s − log 2s."""
        log_s = self.log_s
        return -(x - params).abs() * torch.exp(-log_s) - log_s - math.log(2)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw by inverting the distribution function."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype) - 0.5
        tail = (1 - 2 * u.abs()).clamp(min=torch.finfo(u.dtype).eps / 2)  # rand() may be 0, whose inverse is −∞
        return params - self.log_s.exp() * u.sign() * tail.log()


class StudentT(_Scaled):
    """Student's t around the decoder's output: a Gaussian with heavier tails, whose weight is learned.

    The degrees of freedom are learned, one number for each scale; they start at 10, and stay above 2, where the
    variance exists.

    >>> StudentT().log_prob(torch.zeros(1, 1), torch.full((1, 1), 3.0))
    tensor([-4.4741], grad_fn=<SumBackward1>)
    """

    @checked_arguments()
    def __init__(self, scale: float = 1.0, learned: bool = False, least: float = 1e-3, values: int | None = None):
        super().__init__(scale, learned, least, values)
        self.log_freedom = nn.Parameter(torch.full_like(self.log_scale, math.log(8.0)))  # above 2

    @property
    def freedom(self) -> Tensor:
        """The degrees of freedom ν."""
        return 2 + self.log_freedom.clamp(-6.0, 8.0).exp()

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log Γ(½(ν+1)) − log Γ(½ν) − ½ log πν − log s − ½(ν+1) log(1 + ((x − μ)/s)²/ν)."""
        log_s, n = self.log_s, self.freedom
        standard = (x - params) * torch.exp(-log_s)
        half = n.double() / 2  # in float32 the difference would be off by up to 1e-3 nats
        gammas = (torch.lgamma(half + 0.5) - torch.lgamma(half)).to(n.dtype)
        constant = gammas - 0.5 * torch.log(math.pi * n) - log_s
        return constant - (n + 1) / 2 * torch.log1p(standard.square() / n)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw a Gaussian divided by the root of a gamma variable."""
        noise = torch.randn(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        n = self.freedom.to(params.dtype).expand_as(params)
        chi = 2 * torch._standard_gamma((n / 2).contiguous(), generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        return params + self.log_s.exp() * noise * (n / chi.clamp(min=torch.finfo(chi.dtype).tiny)).sqrt()
