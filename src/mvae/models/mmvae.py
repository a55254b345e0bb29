"""MMVAE (Shi et al. 2019): a mixture of experts, trained on a K-sample importance-weighted bound."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, log_prior, map_parameters, select_expert
from mvae.models import plan
from mvae.models.base import MultimodalVAE, Parts
from mvae.models.objective import Objective
from mvae.models.terms import Terms, explaining, term_name

__all__ = ["MMVAE"]


class MMVAE(MultimodalVAE):
    """q(z | X) = 1/n Σ_i q(z | x_i) over the n modalities of a row, sampled in strata: K draws from each expert.

        L = 1/n Σ_m E_{z_1..K ~ q(z | x_m)} [ log 1/K Σ_k w_k ],   w = p(z) Π_i p(x_i | z)^λ_i / q(z | X)

    Only the mean of w over all strata is p(X), not that of one stratum: the bound stays below log p(X) however large K
    is. Experts and prior are Gaussian here (the authors' are Laplace).

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.
        samples: K.
        dreg: the doubly reparameterised gradient (Tucker et al. 2019), whose encoder part does not vanish as K
            grows. Since draws come from one expert but are scored under the mixture, it is not exactly the gradient of
            L for K > 1.

    Raises:
        SettingsError: K < 1.
    """

    joint_posterior = False  # a mixture, whose KL has no closed form

    @checked_arguments()
    def __init__(self, modalities: Parts, latent_dim: int, samples: int = 10, dreg: bool = True):
        super().__init__(modalities, latent_dim)
        if samples < 1:
            raise SettingsError(f"samples must be at least 1, not {samples}")
        self.samples, self.dreg = samples, dreg

    @property
    def encoders(self) -> tuple[plan.Experts, ...]:
        """Each component is the expert of the one modality given."""
        return (plan.Experts(select_expert, plan.at_most_one),)

    def mixed(self, given: Bool[Tensor, "rows modalities"]) -> Bool[Tensor, "modalities rows modalities"]:
        """Each given modality alone."""
        return torch.eye(len(self.names), dtype=torch.bool)[:, None] & given

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """K draws from the posterior of each of a row's modalities; each draw explains all of them."""
        given = self.mixed(present).repeat_interleave(self.samples, 0)
        names = tuple(term_name(f"{name} {k + 1}", self.names) for name in self.names for k in range(self.samples))
        return explaining(names, given, present, self.dtype)

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """−L of the batch; the KL reported for a term is its draw's log q(z | X) − log p(z)."""
        here, count = terms.on_device(noise.device), len(self.names)
        experts = plan.experts(self, x, terms)
        z = self.proposal(experts, here).rsample(noise)
        factor = scale = counts = z.new_zeros(())
        if self.dreg:  # gradients flow through z only, not through the density's own parameters
            z, factor, scale = _Rescaled.apply(z)
            experts = map_parameters(lambda part: part.detach(), experts)
        divergence = self.divergence(experts, z, here)
        log_prob = plan.scores(self.modalities, x, z, terms, self.context(x))
        log_w = self.with_likelihoods(-beta * divergence, x, log_prob, here)
        log_w = log_w.unflatten(0, (count, self.samples))
        has = here.weight.expand(-1, noise.shape[1]).unflatten(0, (count, self.samples)) > 0
        log_w = torch.where(has, log_w, 0.0)
        if self.dreg:
            w = log_w.detach().softmax(1)  # each draw's share; its gradient is weighted by that share,
            counts = self.counted(w.flatten(0, 1)[..., None])  # and by the share's square where it reaches the encoder
            bound = (w * log_w).sum(1)
            value = log_w.detach().logsumexp(1) - math.log(self.samples)
            bound = value + bound - bound.detach()
        else:
            bound = log_w.logsumexp(1) - math.log(self.samples)
        share = has[:, 0].to(bound.dtype)
        loss = -((share * bound).sum(0) / share.sum(0).clamp(min=1))
        loss = here.mean(loss) + (factor * counts).sum() + scale
        return Objective(loss, log_prob, divergence, here, self.names)

    def proposal(self, experts: Gaussian, here: Terms) -> Gaussian:
        """The distribution of each draw, ``terms rows latent``."""
        return select_expert(experts, here.given)

    def divergence(self, experts: Gaussian, z: Tensor, here: Terms) -> Float[Tensor, "terms rows"]:
        """log q(z | X) − log p(z) of each draw."""
        return self.log_mixture(experts, z, here) - log_prior(z)

    def counted(self, share: Float[Tensor, "terms rows 1"]) -> Float[Tensor, "terms rows _"]:
        """Each latent's gradient weight besides the draw's share: again the share, if its density depends on x."""
        return share

    def log_mixture(self, experts: Gaussian, z: Tensor, placed: Terms) -> Float[Tensor, "terms rows"]:
        """log 1/n Σ_i q(z | x_i) over the n modalities of each row; log p(z) in a row with none."""
        has = placed.given.any(0)  # rows modalities
        has = has | ~has.any(-1, keepdim=True)  # no modality: a mixture of N(0, I) with itself, which is finite
        densities = torch.stack(
            [torch.where(has[:, i], self._safe(experts, i).log_prob(z), -math.inf) for i in range(len(self.names))]
        )
        return densities.logsumexp(0) - has.sum(-1).to(z.dtype).log()

    def _safe(self, experts: Gaussian, i: int) -> Gaussian:
        """Expert i, with N(0, I) in rows where it is missing (there it is unused, but must be finite)."""
        absent = experts.precision[i] == 0
        return Gaussian(torch.where(absent, 1.0, experts.precision[i]), experts.shift[i])


class _Rescaled(torch.autograd.Function):
    """z, with a gradient scaled by factors that are only known after z has been used.

    Returns z, zeros f of its shape, and a zero c. Adding Σ f·w and c to a loss L leaves its value unchanged, and scales
    the gradient of L with respect to z by w. Unlike a hook, this can be compiled, and L may be scaled afterwards.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return z.view_as(z), torch.zeros_like(z), z.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        of_z, factor, scale = gradients
        return torch.where(scale == 0, of_z, of_z * (factor / scale))  # 0: no gradient comes from L
