"""Draws of a likelihood from noise that is given, so that a graph holds no source of randomness."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mvae.likelihoods import Bernoulli, Categorical, Gaussian, Laplace
from mvae.likelihoods.base import Likelihood

__all__ = ["Draw", "draw_of"]


@dataclass(frozen=True)
class Draw:
    """How x is drawn from its parameters and noise.

    Args:
        noise: "uniform" on (0, 1), or "normal": standard normal. It has the shape of the parameters.
        of: (likelihood, parameters, noise) → x.
    """

    noise: str
    of: Callable[[Likelihood, Tensor, Tensor], Tensor]


def _bernoulli(_: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    return (noise < params.sigmoid()).to(params.dtype)


def _categorical(_: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    """The largest logit plus Gumbel noise (Gumbel 1954)."""
    return (params - (-noise.log()).log()).argmax(-1)


def _gaussian(own: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    return params + own.log_s.exp() * noise  # pyright: ignore[reportCallIssue, reportOperatorIssue]


def _laplace(own: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    """By the inverse of the distribution function."""
    centred = noise - 0.5
    tail = (1 - 2 * centred.abs()).clamp(min=torch.finfo(noise.dtype).eps / 2)
    return params - own.log_s.exp() * centred.sign() * tail.log()  # pyright: ignore[reportCallIssue, reportOperatorIssue]


_DRAWS: dict[type[Likelihood], Draw] = {
    Bernoulli: Draw("uniform", _bernoulli),
    Categorical: Draw("uniform", _categorical),
    Gaussian: Draw("normal", _gaussian),
    Laplace: Draw("uniform", _laplace),
}


def draw_of(likelihood: Likelihood) -> Draw | None:
    """How this likelihood is drawn from; None where only its mean is exported."""
    return _DRAWS.get(type(likelihood))
