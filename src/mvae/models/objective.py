"""The objective: a sum over terms of weighted evidence lower bounds (Eq. 1, 2, 5).

For row b and term t, with X the modalities the posterior is given and Y those that are scored,

    ELBO[t, b] = E_{q(z | X)} [ Σ_{i in Y} λ_i log p(x_i | z) ] − β KL[ q(z | X), p(z) ]

with one reparameterised sample of z. A row's terms are summed, and the loss is minus the mean over rows. Each
modality is encoded once for each row that has it; each decoder runs only on the (term, row) pairs that score it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.models.terms import Terms

__all__ = ["Objective"]


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss (nats per row) and its parts; entries for terms that a row does not have are meaningless.

    ``log_prob`` holds log p(x_i | z) by modality, zero where the term does not score it; ``terms`` is the plan, on the
    device of the rest. (With many modalities, a modality's entries are the terms with masks and its own single term.)
    """

    loss: Float[Tensor, ""]
    log_prob: Float[Tensor, "modalities entries rows"]
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
        weight = self.terms.weight > 0
        log_prob = self.log_prob.detach()
        if self.terms.alone is None:
            scored = (log_prob * weight).sum((1, 2))
        else:
            scored = (log_prob[:, :-1] * weight[: len(self.terms.of)]).sum((1, 2)) + log_prob[:, -1].sum(1)
        kl = (self.kl.detach() * weight).sum(1)
        return torch.cat([self.loss.detach()[None] * self.kl.shape[1], -scored, kl])

    def counts(self) -> Float[Tensor, "parts"]:
        """The numbers of rows or pairs over which `sums` are taken."""
        rows = self.kl.shape[1]
        weight = (self.terms.weight > 0).expand(-1, rows)
        terms = self.terms
        scored = (terms.of & weight[: len(terms.of), :, None]).sum((0, 1))
        if terms.alone is not None:
            scored = scored + terms.scored[-1].expand(rows, -1).sum(0)
        total = torch.full((1,), rows, device=self.kl.device)
        return torch.cat([total, scored, weight.sum(1)]).to(self.kl.dtype)
