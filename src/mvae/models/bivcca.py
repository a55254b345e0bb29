"""BiVCCA (Wang et al. 2016): two encoders that each explain everything, and no joint posterior (Sec. 3)."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.gaussian import select_expert
from mvae.models.base import MultimodalVAE
from mvae.models.plan import Experts, at_most_one
from mvae.models.terms import Terms, explaining

__all__ = ["BiVCCA"]


class BiVCCA(MultimodalVAE):
    """Mean over encoders i of E_{q(z | x_i)}[Σ_j log p(x_j | z)] − KL[q(z | x_i), p(z)].

    As terms: given = one modality, of = all of the row's modalities, weight = 1 over their number.
    """

    joint_posterior = False

    @property
    def encoders(self) -> tuple[Experts, ...]:
        """The one encoder's Gaussian; there is no posterior given two modalities together."""
        return (Experts(select_expert, at_most_one),)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Each of a row's modalities explains all of them."""
        given = torch.eye(len(self.names), dtype=torch.bool)[:, None] & present[None]
        return explaining(self.names, given, present, self.dtype)
