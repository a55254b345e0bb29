"""BiVCCA (Wang et al. 2016): two encoders that each explain everything, and no joint posterior (Sec. 3)."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.gaussian import Gaussian, one_expert
from mvae.models.base import MultimodalVAE
from mvae.models.terms import Terms

__all__ = ["BiVCCA"]


class BiVCCA(MultimodalVAE):
    """Mean over encoders i of E_{q(z | x_i)}[Σ_j log p(x_j | z)] − KL[q(z | x_i), p(z)].

    In terms: given = one modality, of = all that the row has, weight one over the number that it has.
    """

    joint_posterior = False

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """The one encoder's Gaussian; there is none for two modalities together (QueryError)."""
        return one_expert(experts, given)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Each modality of a row explains all of them."""
        given = torch.eye(len(self.names), dtype=torch.bool)[:, None] & present[None]
        has = given.any(-1)
        return Terms(
            self.names, given, present[None] & has[..., None], has.to(self.dtype) / present.sum(-1).clamp(min=1)
        )
