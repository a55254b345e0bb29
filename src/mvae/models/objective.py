"""The objective: a sum over terms of weighted evidence lower bounds (Eq. 1, 2, 5).

For row b and term t, with X the modalities the posterior is given and Y those that are scored,

    ELBO[t, b] = E_{q(z | X)} [ Σ_{i in Y} λ_i log p(x_i | z) ] − β KL[ q(z | X), p(z) ]

with one reparameterised sample of z. A row's terms are summed, and the loss is minus the mean over rows. Each
modality is encoded once for each row that has it; each decoder runs only on the (term, row) pairs scored on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.modality import bank
from mvae.modality.base import Modality
from mvae.models.terms import Terms

if TYPE_CHECKING:
    from mvae.models.base import MultimodalVAE

__all__ = ["Objective", "objective", "score", "scores"]


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss (nats a row) and what it is made of; entries of terms a row does not have are meaningless.

    ``log_prob`` holds log p(x_i | z) by modality, zero where the term does not score it.
    """

    loss: Float[Tensor, ""]
    log_prob: Float[Tensor, "modalities terms rows"]
    kl: Float[Tensor, "terms rows"]
    terms: Terms
    modalities: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of `sums`: ``loss``, ``reconstruction/MODALITY``, ``kl/TERM``."""
        return (
            "loss",
            *(f"reconstruction/{name}" for name in self.modalities),
            *(f"kl/{name}" for name in self.terms.names),
        )

    def sums(self) -> Float[Tensor, "parts"]:
        """Sums in nats over rows (the loss) or over the (term, row) pairs scored (−log p, KL)."""
        weight = self.terms.placed(self.kl.device).weight > 0
        scored = (self.log_prob.detach() * weight).sum((1, 2))
        kl = (self.kl.detach() * weight).sum(1)
        return torch.cat([self.loss.detach()[None] * self.kl.shape[1], -scored, kl])

    def counts(self) -> Float[Tensor, "parts"]:
        """The numbers of rows or of pairs that `sums` add up."""
        terms, rows = self.terms.placed(self.kl.device), self.kl.shape[1]
        weight = (terms.weight > 0).expand(-1, rows)
        scored = (terms.of & weight[..., None]).sum((0, 1))
        total = torch.full((1,), rows, device=self.kl.device)
        return torch.cat([total, scored, weight.sum(1)]).to(self.kl.dtype)


def objective(
    model: "MultimodalVAE",
    x: dict[str, Tensor],
    terms: Terms,
    noise: Float[Tensor, "terms rows latent"],
    beta: float | Float[Tensor, ""] = 1.0,
) -> Objective:
    """The loss of a batch under a plan of terms.

    Args:
        model: gives the posterior of any subset, and the modalities.
        x: prepared columns, ``rows event…`` each; one that no term needs may be absent.
        terms: what is given, what is scored, and how much each counts.
        noise: ε ~ N(0, I) of the reparameterised samples.
        beta: weight of the KL, annealed from 0 to 1 (Eq. 1).
    """
    context = model.context(x)
    posterior = model.posteriors(x, terms)
    z = posterior.rsample(noise)
    kl = posterior.kl_to_prior()
    log_prob = scores(model.modalities, x, z, terms, context)
    placed = terms.placed(noise.device)
    own = placed.likelihood_weight  # λ of each term and modality, where it is not the modality's own
    bound = -beta * kl
    for i, weight in enumerate(model.weights):
        bound = bound + (weight if own is None else own[:, i, None]) * log_prob[i]
    loss = -(placed.weight * bound).sum() / noise.shape[1]
    penalty = model.penalty(posterior, placed, beta)
    if penalty is not None:
        loss = loss + penalty.mean()
    return Objective(loss, log_prob, kl, terms, model.names)


def scores(
    modalities: Mapping[str, Modality],
    x: Mapping[str, Tensor],
    z: Float[Tensor, "terms rows latent"],
    terms: Terms,
    context: Float[Tensor, "rows features"] | None = None,
) -> Float[Tensor, "modalities terms rows"]:
    """log p(x_i | z) of every modality where a term scores it, zero elsewhere; decoders of one shape as one call."""
    place = {name: i for i, name in enumerate(modalities)}
    found: dict[str, Tensor] = {}
    if context is None and not terms.masked:
        for names in bank.banks_of_decoders(modalities, x):
            members, columns = [modalities[name] for name in names], [x[name] for name in names]
            own = bank.log_prob(members, columns, z, terms.of[:, :, [place[name] for name in names]])
            found |= zip(names, own, strict=True)
    for name, i in place.items():
        if name not in found:
            found[name] = score(modalities[name], x.get(name), z, terms, i, context)
    return torch.stack([found[name] for name in modalities])


def score(
    modality: Modality,
    x: Tensor | None,
    z: Float[Tensor, "terms rows latent"],
    terms: Terms,
    i: int,
    context: Float[Tensor, "rows features"] | None = None,
) -> Float[Tensor, "terms rows"]:
    """log p(x | z) of modality ``i`` where the terms ask for it, zero elsewhere.

    The decoder runs on nothing else, unless the plan is to be applied as a mask (see `Terms`).
    """
    count, rows = z.shape[:2]
    if x is None:
        return z.new_zeros(count, rows)
    of = terms.of[:, :, i]
    if terms.masked:
        return torch.where(of, modality.log_prob(x, z, context), 0.0)
    if terms.shared_of is not None:  # the same terms for every row: whole slices, of a shape known beforehand
        scored = terms.shared_of[i]
        if not any(scored):
            return z.new_zeros(count, rows)
        chosen = torch.stack([z_of_term for z_of_term, here in zip(z.unbind(), scored, strict=True) if here])
        found = iter(modality.log_prob(x, chosen, context))
        return torch.stack([next(found) if scored[t] else z.new_zeros(rows) for t in range(count)])
    if not of.any():
        return z.new_zeros(count, rows)
    term, row = (index.to(z.device) for index in of.nonzero(as_tuple=True))
    return z.new_zeros(count, rows).index_put(
        (term, row), modality.log_prob(x[row], z[term, row], None if context is None else context[row]).to(z.dtype)
    )
