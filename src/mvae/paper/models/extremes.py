"""The two extremes of Sec. 2.2, which the sub-sampled objective combines; for ablations only."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.terms import Terms, full, singles

__all__ = ["JointOnly", "QuotientJointOnly", "SinglesOnly"]


class JointOnly(MVAE):
    """Eq. 2 alone: one ELBO of everything a row has. The individual encoders are never trained by themselves."""

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The full term."""
        return full(present)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """Its own objective has no randomness."""
        return self.terms(present)


class QuotientJointOnly(JointOnly, MVAEQ):
    """The joint term alone, of the MVAE-Q: does the print's gap between MVAE-Q and MVAE come from the objective?"""


class SinglesOnly(MVAE):
    """Each modality as an observation by itself: the relationship between modalities is never learned."""

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The single terms."""
        return singles(present, self.names)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """Its own objective has no randomness."""
        return self.terms(present)
