"""Other remedies for decoupling, tried besides the recipe `coupled` (docs/research/coupling.md); for ablations only."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.gaussian import Gaussian
from mvae.models.jmvae import divergence_from_singles
from mvae.models.objective import Objective
from mvae.models.terms import Terms
from mvae.paper.models.extremes import Eq5MVAE


class RampedMVAE(Eq5MVAE):
    """Couple first, at small λ: every λ rises from 1 to its own over the annealing; the KL counts in full throughout.

    It ends as Eq. 5; before that, λ_i(β) = 1 + β (λ_i − 1), with β as `mvae.training.fit.fit` anneals it.
    """

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """Eq. 5 with the λ of this β."""
        beta = torch.as_tensor(beta, dtype=self.dtype, device=self.device)
        ramped = torch.stack([1 + beta * (own - 1) for own in self.weights]).expand(len(terms.scored), -1)
        return super().objective(x, replace(terms, likelihood_weight=ramped), noise, 1.0)


class BoundedMVAE(Eq5MVAE):
    """No expert may be too confident: log-variances are squashed into ±2 (up to 7.4 times the prior's precision)."""

    bound = 2.0

    def to_expert(self, mean: Float[Tensor, "*rows latent"], raw: Float[Tensor, "*rows latent"]) -> Gaussian:
        """The Gaussian with this mean and the log-variance b·tanh(raw / b)."""
        return Gaussian.from_mean_log_var(mean, self.bound * torch.tanh(raw / self.bound))


class PenalisedMVAE(Eq5MVAE):
    """Eq. 5 plus α Σ_i KL(q(z | all) ‖ q(z | x_i)) on complete rows, as in the JMVAE; α = 0.1."""

    alpha = 0.1

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """α times the divergence; None if a batch has no complete row."""
        divergence = divergence_from_singles(posterior, terms, len(self.names))
        return None if divergence is None else self.alpha * divergence
