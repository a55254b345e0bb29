"""Draws of a likelihood from noise that is given, so that a graph holds no source of randomness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mvae.likelihoods import Bernoulli, Categorical, Gaussian, Laplace
from mvae.likelihoods.base import Likelihood
from mvae.likelihoods.columns import Fieldwise
from mvae.likelihoods.ordinal import Ordinal

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


def _fieldwise(own: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    """Each field by its family; classes by the uniform numbers that normal ones are ranks of."""

    def draw(family: Likelihood, group: Any, parameters: Tensor) -> Tensor:
        normal = noise[..., group.first : group.end].reshape(parameters.shape)
        uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
        if isinstance(family, Ordinal):
            below = family.probabilities(parameters).cumsum(-1)[..., :-1]
            return (uniform[..., None] > below).sum(-1).to(params.dtype)
        return _DRAWS[type(family)].of(family, parameters, normal if isinstance(family, Gaussian) else uniform)

    return own.assembled(params, draw)  # pyright: ignore[reportCallIssue]


def draw_of(likelihood: Likelihood) -> Draw | None:
    """How this likelihood is drawn from; None where only its mean is exported.

    Counts and Student's t have no inverse distribution function that a graph could hold.
    """
    if isinstance(likelihood, Fieldwise):
        known = all(isinstance(family, (*_DRAWS, Ordinal)) for family in likelihood.families)
        return Draw("normal", _fieldwise) if known else None
    return _DRAWS.get(type(likelihood))
