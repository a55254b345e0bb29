"""Pseudo-labels: a missing value that the model predicts confidently is treated as data (Lee 2013; Sohn et al. 2020).

If few rows are complete, most of what can be learned about x_j from x_i is in the rows where x_j is missing: a class
boundary that stays away from these rows is better than one that does not. Pseudo-labels are kept as frequent as the
known labels (distribution alignment, Berthelot et al. 2020); otherwise a poorly predicted class would be forgotten.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from mvae.modality.base import Modality
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.named_modules import NamedModules
from mvae.models.recipe import Recipe
from mvae.models.terms import Terms, full, single

__all__ = ["SURE", "Balance", "with_pseudo_labels"]

SURE = 0.95  # the least probability at which a pseudo-label counts (Sohn et al. 2020)
STEP = 0.02  # rate of the running means, which thus average over some fifty steps
LEAST = 1e-6  # bound that keeps the mean probabilities away from 0 and 1


def with_pseudo_labels(
    model: MultimodalVAE,
    names: Sequence[str],
    balances: NamedModules,
    recipe: Recipe,
    x: Mapping[str, Tensor],
    terms: Terms,
    beta: float | Tensor,
) -> tuple[dict[str, Tensor], Terms]:
    """Columns with pseudo-labels in place of missing values, and the plan that scores the confident ones.

    A pseudo-label is the mode of p(x_j | z), balanced, at the mean of q(z | the row's observed modalities). It is
    computed without augmentation, batch statistics or gradients. In the term of x_i it has the weight that an observed
    x_j has in the cross term from x_i.

    Args:
        model: the model that predicts them.
        names: the modalities that get pseudo-labels.
        balances: a `Balance` for each modality whose pseudo-labels are kept as frequent as the known labels.
        recipe: the modalities in whose terms pseudo-labels are scored, and the weights there.
        x: prepared columns, ``rows event…`` each.
        terms: the step's plan, with likelihood weights.
        beta: weight of the KL; pseudo-labels count once it is 1.
    """
    assert terms.likelihood_weight is not None  # there is a cross_from
    present = terms.of.any(0)
    x, of, weights = dict(x), terms.of.clone(), terms.likelihood_weight.to(model.device, model.dtype, copy=True)
    own = torch.stack([weights.new_full((), weight) for weight in model.weights])  # a recorded step copies nothing
    begun = torch.as_tensor(beta, device=model.device) >= 1
    with torch.no_grad(), evaluating(model):
        z = model.posteriors(x, full(present)).mean[0]
        for name in names:
            if name not in x:
                continue
            j = model.names.index(name)
            modality, lacks = model.modalities[name], ~present[:, j]
            missing = lacks.to(model.device)
            if name in balances:
                label, log_p = balances[name](modality, z, x[name], missing, begun)
            else:
                label, log_p = modality.mode_with_log_prob(z)
            sure = (log_p >= math.log(SURE)) & begun
            x[name] = torch.where(missing.view(-1, *[1] * (label.dim() - 1)), label, x[name])
            for source in recipe.cross_from:
                i = model.names.index(source)
                t = terms.find(single(i))
                if t is None or i == j:
                    continue
                rows = lacks & present[:, i]
                of[t, :, j] |= rows & sure.to(of.device)
                weights[t, j] = recipe.crossed(own, rows.to(weights))[j]
    return x, replace(terms, of=of, likelihood_weight=weights)


class Balance(nn.Module):
    """Keeps pseudo-labels as frequent as the known labels: logits move by the difference of both frequencies' logits.

    Both frequencies are running means: of x where it is known, and of the decoder's probabilities where it is missing.
    They start uniform, and are buffers, so that a resumed run continues from them.

    >>> label = Modality(nn.Identity(), nn.Linear(2, 3, bias=False), mvae.likelihoods.Categorical())
    >>> balance = Balance(label, latent_dim=2)
    >>> x, lacks = torch.tensor([2, 2, 0]), torch.tensor([False, False, True])
    >>> found, log_p = balance(label, torch.zeros(3, 2), x, lacks, begun=torch.tensor(True))
    >>> found
    tensor([2, 2, 2])
    """

    def __init__(self, modality: Modality, latent_dim: int):
        super().__init__()
        with torch.no_grad(), evaluating(modality):
            params = modality.decode(torch.zeros(1, latent_dim, device=next(modality.parameters()).device))
            even = modality.likelihood.mean(torch.zeros_like(params)).flatten()
        self.known, self.guessed = nn.Buffer(even), nn.Buffer(even.clone())  # probabilities

    def forward(
        self,
        modality: Modality,
        z: Float[Tensor, "rows latent"],
        x: Shaped[Tensor, "rows *event"],
        lacks: Bool[Tensor, "rows"],
        begun: Bool[Tensor, ""],
    ) -> tuple[Shaped[Tensor, "rows *event"], Float[Tensor, "rows"]]:
        """The most probable x of each row after balancing, and its log p; the means are updated if ``begun``."""
        likelihood = modality.likelihood
        params = likelihood.arrange(modality.decode(z), z.shape[:1], x.shape[1:])
        x = x.masked_fill(lacks.view(-1, *[1] * (x.dim() - 1)), 0)  # missing cells hold arbitrary values
        self._follow(self.known, likelihood.certain(x, params), ~lacks & begun)
        self._follow(self.guessed, likelihood.mean(params), lacks & begun)
        means = (mean.clamp(LEAST, 1 - LEAST).reshape(params.shape[1:]) for mean in (self.known, self.guessed))
        known, guessed = (likelihood.logits(mean) for mean in means)
        return likelihood.mode_with_log_prob(params + known - guessed)

    def _follow(self, mean: Tensor, values: Tensor, rows: Bool[Tensor, "rows"]) -> None:
        """Move a running mean towards the mean of these rows, in proportion to their share of the batch."""
        away = torch.where(rows[:, None], values.flatten(1) - mean, 0.0)
        mean.add_(STEP * away.mean(0))
