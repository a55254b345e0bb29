"""MMVAE+ (Palumbo et al. 2023): the MMVAE with latents that all modalities share, and private ones of each."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, log_prior, map_parameters, product, select_expert
from mvae.modality.base import Modality
from mvae.models import plan
from mvae.models.mixture import Mixture
from mvae.models.mmvae import MMVAE
from mvae.models.private import owners, placed
from mvae.models.terms import Terms

__all__ = ["MMVAEPlus"]


class MMVAEPlus(MMVAE):
    """z = (u, w_1 … w_M); x_i depends on u and w_i alone, and u is inferred by a mixture of experts, w_i from x_i.

        L = 1/n Σ_m E_{u, w_m ~ q(· | x_m), w_i ~ r_i} [ log 1/K Σ_k p(u) p(w_m) Π_i p(x_i | u, w_i)^λ_i
                                                                / (q(u | X) q(w_m | x_m)) ]

    The other modalities' private latents come from r_i = N(0, s_i²), whose s is learned: no modality can be explained
    through another's private latents. Queries are answered by the model itself, in which w_i of a modality that is not
    given has its prior N(0, I). Distributions are Gaussian here (the authors' are Laplace).

    Args:
        modalities: name → `Modality`, whose networks have ``latent_dim`` latents: the shared ones, then its own.
        latent_dim: the latents of each modality's networks. The model itself has (M − 1) · ``private`` more.
        private: how many of them are the modality's own; default half.
        samples: K.
        dreg: the doubly reparameterised gradient, as for the MMVAE; draws from r_i are weighted by their share.

    Raises:
        SettingsError: latent_dim < 2, private is not between 0 and latent_dim, or K < 1.
    """

    takes_covariates = False

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        latent_dim: int,
        private: int | None = None,
        samples: int = 10,
        dreg: bool = True,
    ):
        if latent_dim == 1:
            raise SettingsError("an MMVAE+ needs latent_dim ≥ 2: at least one shared latent, and a private one")
        private = latent_dim // 2 if private is None else private
        if not 0 < private < latent_dim:
            raise SettingsError(f"private must be between 0 and the {latent_dim} latents of a modality, not {private}")
        owned = owners(len(modalities), latent_dim - private, private)
        own = {name: placed(part, owned[i]) for i, (name, part) in enumerate(modalities.items())}
        super().__init__(own, owned.shape[-1], samples, dreg)
        self.shared = latent_dim - private
        self.owner = nn.Buffer(owned, persistent=False)
        self.log_std = nn.Parameter(torch.zeros(self.latent_dim - self.shared, dtype=self.dtype))  # of every r_i

    @property
    def encoders(self) -> tuple[plan.Experts, ...]:
        """Each component is the expert of the one modality given."""
        return (plan.Experts(self.alone, plan.at_most_one),)

    def informed(self, experts: Gaussian) -> Gaussian:
        """The experts with the other modalities' private latents masked out."""
        knows = self.owner[:, None].to(experts.precision.dtype)
        return map_parameters(lambda part: part * knows, experts)

    def alone(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """u and w_i from the one modality given; the prior for everything else."""
        return _proper(select_expert(self.informed(experts), given))

    def posterior_given(self, x: Mapping[str, Tensor], given: Bool[Tensor, "rows modalities"]) -> Gaussian | Mixture:
        """u from the mixture of the given experts, each w_i from its own modality if that is given."""
        if not (given.sum(-1) > 1).any():
            return super().posterior_given(x, given)
        terms = Terms(("query",), given[None], given[None], torch.ones(1, len(given)))
        experts = self.informed(plan.experts(self, x, terms))
        together = product(experts, terms.on_device(self.device).given, prior_expert=False)
        is_shared = torch.arange(self.latent_dim, device=self.device) < self.shared
        components = map_parameters(partial(torch.where, is_shared), experts, together)
        return Mixture.even(_proper(components), given.T)

    def proposal(self, experts: Gaussian, here: Terms) -> Gaussian:
        """u and w_m of each draw from its own modality, the other private latents from r."""
        q = select_expert(self.informed(experts), here.given)
        free = torch.zeros(self.shared, device=q.precision.device, dtype=q.precision.dtype)
        auxiliary = torch.cat([free, -2 * self.log_std]).exp()
        return Gaussian(torch.where(q.precision > 0, q.precision, auxiliary), q.shift)

    def divergence(self, experts: Gaussian, z: Tensor, here: Terms) -> Float[Tensor, "terms rows"]:
        """log q(u | X) q(w_m | x_m) − log p(u) p(w_m) of each draw; latents from r contribute nothing."""
        known, alone = self.informed(experts), self.alone(experts, here.given)
        shared, own = slice(None, self.shared), slice(self.shared, None)
        mixture = self.log_mixture(known[..., shared], z[..., shared], here)
        private = alone[..., own].log_prob(z[..., own])
        return mixture + private - log_prior(z)  # which cancels in `private` for those from r

    def counted(self, share: Float[Tensor, "terms rows 1"]) -> Float[Tensor, "terms rows _"]:
        """A draw's share for latents of its own modality, else 1: the density of r is not part of a weight."""
        return torch.where(self.owner.repeat_interleave(self.samples, 0)[:, None], share, 1.0)


def _proper(q: Gaussian) -> Gaussian:
    """N(0, 1) where nothing is known."""
    return Gaussian(torch.where(q.precision > 0, q.precision, 1.0), q.shift)
