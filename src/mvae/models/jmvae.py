"""JMVAE (Suzuki et al. 2017): a joint encoder, and unimodal encoders pulled towards it by a KL (Sec. 3)."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, kl_divergence, select_expert
from mvae.modality.base import Modality, run
from mvae.models.base import MultimodalVAE
from mvae.models.named_modules import NamedModules
from mvae.models.plan import Experts, JointEncoder, all_given, at_most_one
from mvae.models.terms import FULL, Terms, concatenate, full, single, singles
from mvae.networks.joint import fresh
from mvae.networks.mlp import mlp

__all__ = ["JMVAE", "divergence_from_singles"]


class JMVAE(MultimodalVAE):
    """ELBO under q(z | all) minus α Σ_i KL(q(z | all) ‖ q(z | x_i)).

    It learns from complete rows only. Each subset would need an encoder of its own; this model has only the joint and
    the unimodal ones, so no other subset can be given.

    Args:
        modalities: name → `Modality`; their encoders are the unimodal ones.
        latent_dim: the number of latents D.
        joint_encoder: dict of columns → ``rows 2·latent``, mean and log-variance of q(z | all). Default: new encoders
            of the modalities' architectures, and one hidden layer over their outputs.
        alpha: α; Sec. 5.1 uses 0.01.

    Raises:
        SettingsError: α < 0, or a single modality.
    """

    needs_complete = True
    no_posterior = "a JMVAE has encoders for each single modality and for all of them, not for other subsets"
    takes_covariates = False

    @checked_arguments()
    def __init__(
        self,
        modalities: Mapping[str, Modality],
        latent_dim: int,
        joint_encoder: nn.Module | None = None,
        alpha: float = 0.01,
    ):
        super().__init__(modalities, latent_dim)
        if not 0 <= alpha < math.inf:
            raise SettingsError(f"alpha must be a finite number ≥ 0, not {alpha}")
        if len(self.names) < 2:
            raise SettingsError("a JMVAE joins at least two modalities; for one there is the VAE")
        self.joint_encoder = _JointExperts(modalities, latent_dim) if joint_encoder is None else joint_encoder
        self.alpha = alpha

    @property
    def encoders(self) -> tuple[Experts | JointEncoder, ...]:
        """The joint encoder if everything is given, a unimodal one if one modality is."""
        return Experts(select_expert, at_most_one), JointEncoder(self._joint, self.names, all_given)

    def _joint(self, x: Mapping[str, Tensor]) -> Gaussian:
        return Gaussian.from_mean_log_var(*run(self.joint_encoder, x).chunk(2, dim=-1))

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The ELBO of complete rows, and the unimodal posteriors for the penalty."""
        complete = present & present.all(-1, keepdim=True)
        return concatenate(full(complete, self.names), singles(complete, self.names).unscored())

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """α Σ_i KL(q(z | all) ‖ q(z | x_i)), for complete rows."""
        divergence = divergence_from_singles(posterior, terms, len(self.names))
        return None if divergence is None else self.alpha * divergence


class _JointExperts(nn.Module):
    """The default joint encoder: fresh encoders of all modalities, whose joined outputs one perceptron reads."""

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int):
        super().__init__()
        self.modalities = dict(modalities)  # these belong to the model, not to this network
        self.encoders = NamedModules({name: fresh(modality.encoder) for name, modality in modalities.items()})
        self.together = mlp(2 * latent_dim * len(modalities), 2 * latent_dim, [max(64, 4 * latent_dim)])

    def forward(self, x: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance."""
        read: list[Tensor] = []
        for name, modality in self.modalities.items():
            seen = x[name] if modality.view is None else modality.view(x[name])
            output = self.encoders[name](modality.encoder_input(seen))
            read += output if isinstance(output, tuple) else [output]
        return self.together(torch.cat(read, 1))


def divergence_from_singles(posterior: Gaussian, terms: Terms, modalities: int) -> Float[Tensor, "rows"] | None:
    """Σ_i KL(q(z | all) ‖ q(z | x_i)) of complete rows, 0 of others; None unless the plan is full and singles."""
    if terms.keys != (FULL, *(single(i) for i in range(modalities))):
        return None
    joint, *alone = posterior.unbind()
    divergence = torch.stack([kl_divergence(joint[...], one) for one in alone]).sum(0)
    return torch.where(terms.given[0].all(-1), terms.weight[0] * divergence, 0.0)
