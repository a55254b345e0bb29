"""Pseudo-labels: a missing value that the model is sure of is explained like data (Lee 2013; Sohn et al. 2020).

Where few rows are complete, most that can be learned about x_j from x_i is in the rows that lack x_j: a boundary
between classes that keeps away from them is better than one that does not.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mvae.modality import evaluating
from mvae.subsets import Terms, cross_weight, full

if TYPE_CHECKING:
    from mvae.models.mvae import MVAE

__all__ = ["SURE", "with_pseudo_labels"]

SURE = 0.95  # probability from which a guess counts as a label (Sohn et al. 2020)


def with_pseudo_labels(
    model: "MVAE", x: Mapping[str, Tensor], terms: Terms, beta: float | Tensor
) -> tuple[dict[str, Tensor], Terms]:
    """Missing values guessed from all that their row has; the sure ones are scored in the terms of ``cross_from``.

    A guess is the mode of p(x_j | z) at the mean of q(z | all the row has), without noise on the inputs, batch
    statistics or a gradient. In the terms of x_i it weighs what x_j of a pair weighs in the cross term from x_i.

    Args:
        model: names what it guesses (``pseudo_labels``) and what explains it (``cross_from``).
        x: prepared columns, ``rows event…`` each.
        terms: the step's plan, with likelihood weights.
        beta: weight of the KL; guesses count once it is 1.
    """
    assert terms.likelihood_weight is not None  # there is a cross_from
    present = terms.of.any(0)
    x, of, weights = dict(x), terms.of.clone(), terms.likelihood_weight.to(model.device, model.dtype, copy=True)
    with torch.no_grad(), evaluating(model):
        z = model.posteriors(x, full(present)).mean[0]
        for name in model.pseudo_labels:
            if name not in x:
                continue
            j = model.names.index(name)
            guess, log_p = model.modalities[name].guess(z)
            lacks = ~present[:, j]
            sure = (log_p >= math.log(SURE)) & (torch.as_tensor(beta, device=model.device) >= 1)
            x[name] = torch.where(lacks.to(model.device).view(-1, *[1] * (guess.dim() - 1)), guess, x[name])
            for source in model.cross_from:
                if source not in terms.names or source == name:
                    continue
                t, asked = terms.names.index(source), lacks & present[:, model.names.index(source)]
                of[t, :, j] |= asked & sure.to(of.device)
                weights[t, j] = cross_weight(model.weights[j], asked.to(weights))
    return x, replace(terms, of=of, likelihood_weight=weights)
