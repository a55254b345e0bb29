"""The two extremes of Sec. 2.2, which the sub-sampled objective combines; for ablations only."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.terms import Terms, full, singles


class Eq5MVAE(MVAE):
    """The MVAE of Eq. 5 to the letter: without cross terms."""

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int, cross_from: Sequence[str] = ()):
        super().__init__(modalities, latent_dim, cross_from=cross_from)


class _FullTerm(MVAE):
    """An MVAE with a single ELBO, of all observed modalities of a row."""

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The full term."""
        return full(present)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """The same terms: this objective has no randomness."""
        return self.terms(present)


class JointOnly(_FullTerm, Eq5MVAE):
    """Eq. 2 alone: the individual encoders are never trained by themselves."""


class QuotientJointOnly(_FullTerm, MVAEQ):
    """The MVAE-Q's joint term alone: does the published gap between MVAE-Q and MVAE come from the objective?"""


class SinglesOnly(Eq5MVAE):
    """Each modality as an observation by itself: the relationship between modalities is never learned."""

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The single terms."""
        return singles(present, self.names)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """The same terms: this objective has no randomness."""
        return self.terms(present)
