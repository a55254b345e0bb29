"""MVTCAE (Hwang et al. 2021): a product of experts, regularised towards each expert by the total correlation."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, kl_divergence, product
from mvae.models.base import MultimodalVAE, Parts
from mvae.models.terms import Terms, concatenate, full, singles

__all__ = ["MVTCAE"]


class MVTCAE(MultimodalVAE):
    """(M−α)/M · E_{q(z | X)}[Σ_i log p(x_i | z)] − β {(1−α) KL[q(z | X), p(z)] + α/M Σ_i KL[q(z | X), q(z | x_i)]},

    with q(z | X) the product of the experts alone. If modalities are missing, both sums run over the others.

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.
        alpha: α in [0, 1]; 0 is a plain joint ELBO; the authors use 5/6 and more.

    Raises:
        SettingsError: α outside [0, 1].
    """

    @checked_arguments()
    def __init__(self, modalities: Parts, latent_dim: int, alpha: float = 0.9):
        super().__init__(modalities, latent_dim)
        if not 0 <= alpha <= 1:
            raise SettingsError(f"alpha must be in [0, 1], not {alpha}")
        self.alpha = alpha

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """The product of the experts given; the prior if none is given."""
        return product(experts, given, prior_expert=False)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """One ELBO of everything, and the posterior of each single modality, which the penalty needs."""
        count = len(self.names)
        weight = torch.tensor(self.weights, dtype=self.dtype) * (count - self.alpha) / count
        terms = concatenate(full(present, self.names), singles(present, self.names).unscored())
        return replace(terms, likelihood_weight=weight.expand(len(terms.scored), -1))

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """β α {1/M Σ_i KL[q(z | X), q(z | x_i)] − KL[q(z | X), p(z)]}: the part that the ELBO's own β KL lacks."""
        has = (terms.number_given[1:, :, 0] > 0).to(posterior.precision.dtype)  # modalities rows
        joint, *alone = posterior.unbind()
        divergence = torch.stack([kl_divergence(joint[...], one) for one in alone])
        mean = (has * divergence).sum(0) / len(self.names)
        return beta * self.alpha * (mean - joint[...].kl_to_prior())
