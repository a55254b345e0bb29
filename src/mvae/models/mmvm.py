"""MMVM (Sutter et al. 2024, "Unity by Diversity"): each posterior is pulled towards the mixture of all."""

import logging

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.gaussian import select_expert
from mvae.models import plan
from mvae.models.base import Parts
from mvae.models.mmvae import MMVAE
from mvae.models.objective import Objective
from mvae.models.terms import Terms, singles

__all__ = ["MMVM"]

_log = logging.getLogger("mvae")


class MMVM(MMVAE):
    """Σ_m {E_{q(z | x_m)}[λ_m log p(x_m | z)] − β KL[q(z | x_m), h(z | X)]},  h(z | X) = 1/n Σ_i q(z | x_i).

    The sum and h run over a row's n modalities. Each modality explains only itself; its latents can be decoded as
    another's because all posteriors are pulled towards h. The KL has no closed form, and is estimated from the sample
    that is decoded. Given several modalities, the posterior is their h.

    No prior over the latents is trained, since h needs data: fit one before sampling from p(z) or computing log p
    (`mvae.models.prior`). Until then N(0, I) is used, and a warning is logged once.

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.
    """

    def __init__(self, modalities: Parts, latent_dim: int):
        super().__init__(modalities, latent_dim, samples=1, dreg=False)
        self._warned = False

    def will_use_prior(self) -> None:
        """Log a warning, once, if no prior was fitted."""
        if self.prior is None and not self._warned:
            self._warned = True
            _log.warning(
                "an MMVM trains no prior over the latents, so N(0, I) is used: samples with nothing given and log p "
                "are poor; fit one (mvae fit-prior RUN, then --fitted-prior; or model.prior = mvae.fit_prior(…))"
            )

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Each of a row's modalities, explained from itself."""
        return singles(present, self.names).spread()

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """Minus the sum; the KL reported for a term is its draw's log q(z | x_m) − log h(z | X)."""
        here = terms.on_device(noise.device)
        experts = plan.experts(self, x, terms)
        q = select_expert(experts, here.given)
        z = q.rsample(noise)
        divergence = q.log_prob(z) - self.log_mixture(experts, z, here)
        log_prob = plan.scores(self.modalities, x, z, terms, self.context(x))
        bound = self.with_likelihoods(-beta * divergence, x, log_prob, here)
        loss = -(here.weight_of_rows * torch.where(here.weight > 0, bound, 0.0)).sum() / noise.shape[1]
        return Objective(loss, log_prob, divergence, here, self.names)
