"""Pareto k̂: can the largest importance weights be trusted? (Vehtari et al. 2024, JMLR 25:72)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["pareto_k"]

EQUAL = 16 * torch.finfo(torch.float32).eps  # log weights that differ by less, relative to their size, are equal


def pareto_k(largest: Float[Tensor, "tail rows"]) -> Float[Tensor, "rows"]:
    """Shape k̂ of a generalised Pareto distribution fitted to the tail of each row's weights.

    Args:
        largest: the largest log weights of each row, in any order; the smallest of them is the threshold and the
            rest exceed it.

    Returns:
        k̂ by Zhang & Stephens (2009), shrunk a little towards ½ as in the paper above. Moments of the weights above
        1/k̂ do not exist: above 0.7 an estimate from these weights is unreliable. NaN with fewer than 5 exceedances,
        and −∞ if all weights are equal to the precision of float32, in which log weights are computed: the
        remaining differences are rounding errors, which have a tail of their own.
    """
    ordered = largest.double().sort(0).values
    rounding = EQUAL * ordered[-1].abs().clamp(min=1)
    constant = ordered[-1] - ordered[0] <= rounding
    ordered = (ordered - ordered[-1:]).exp()  # k̂ does not depend on the scale
    x = (ordered[1:] - ordered[:1]).clamp(min=0)  # exceedances, ascending
    n = len(x)
    if n < 5:
        return torch.full((largest.shape[1],), math.nan, dtype=torch.float64)
    x = torch.where(constant, torch.linspace(0.5, 1, n, dtype=x.dtype)[:, None], x)  # any valid tail; replaced below
    x = x.clamp(min=1e-300)
    candidates = 30 + int(math.sqrt(n))
    j = torch.arange(1, candidates + 1, dtype=x.dtype)[:, None]
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - torch.sqrt(candidates / (j - 0.5))) / (3 * quartile)  # candidates rows
    shape = torch.log1p(-theta[:, None] * x[None]).mean(1)
    profile = n * (torch.log(-theta / shape) - shape - 1)
    weight = torch.softmax(profile, 0)
    best = (weight * theta).sum(0)
    k = torch.log1p(-best * x).mean(0)
    k = (k * n + 5) / (n + 10)  # a weak prior, worth ten observations at ½
    return torch.where(constant, -math.inf, k)
