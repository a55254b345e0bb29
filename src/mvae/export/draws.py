"""Draws from a likelihood by noise that is given, so that a graph needs no source of randomness."""

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

__all__ = ["Draw", "draw_of", "undrawn"]


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
    """The class with the largest logit plus Gumbel noise (Gumbel 1954)."""
    return (params - (-noise.log()).log()).argmax(-1)


def _gaussian(own: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    return params + own.log_s.exp() * noise  # pyright: ignore[reportCallIssue, reportOperatorIssue]


def _laplace(own: Likelihood, params: Tensor, noise: Tensor) -> Tensor:
    """Inverts the distribution function."""
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
    """Each field by its family, from normal noise or its uniform ranks; fields without draws are their mean."""

    def draw(family: Likelihood, group: Any, parameters: Tensor) -> Tensor:
        normal = noise[..., group.first : group.end].reshape(parameters.shape)
        uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
        if isinstance(family, Ordinal):
            below = family.probabilities(parameters).cumsum(-1)[..., :-1]
            return (uniform[..., None] > below).sum(-1).to(params.dtype)
        if type(family) not in _DRAWS:
            return family.mean(parameters)
        return _DRAWS[type(family)].of(family, parameters, normal if isinstance(family, Gaussian) else uniform)

    return own.assembled(params, draw)  # pyright: ignore[reportCallIssue]


def draw_of(likelihood: Likelihood) -> Draw | None:
    """How this likelihood is drawn from; None where only its mean is exported.

    Counts and Student's t have no inverse distribution function that a graph could hold: next to other columns, which
    are drawn, they are replaced by their mean (`undrawn`).
    """
    if isinstance(likelihood, Fieldwise):
        return Draw("normal", _fieldwise) if len(undrawn(likelihood)) < len(likelihood.fields) else None
    return _DRAWS.get(type(likelihood))


def undrawn(likelihood: Fieldwise) -> list[str]:
    """The names of the columns whose mean stands in for draws.

    >>> from mvae.data.fields import Field
    >>> undrawn(Fieldwise([Field("hb"), Field("visits", "count")]))
    ['visits']
    """
    pairs = zip(likelihood.families, likelihood.groups, strict=True)
    places = [i for family, group in pairs if not isinstance(family, (*_DRAWS, Ordinal)) for i in group.fields]
    return [likelihood.fields[i].name for i in sorted(places)]
