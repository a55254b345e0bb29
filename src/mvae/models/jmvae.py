"""JMVAE (Suzuki et al. 2017): a joint encoder, and unimodal encoders drawn towards it by a KL (Sec. 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.errors import QueryError, SettingsError
from mvae.gaussian import Gaussian, kl_divergence, one_expert
from mvae.modality.base import Modality, run
from mvae.models.base import MultimodalVAE
from mvae.models.terms import Terms, full, singles

__all__ = ["JMVAE", "divergence_from_singles"]

NO_ENCODER = "a JMVAE has encoders for each single modality and for all of them, not for other subsets"


class JMVAE(MultimodalVAE):
    """ELBO under q(z | all) minus α Σ_i KL(q(z | all) ‖ q(z | x_i)).

    It learns from complete rows only. Each subset would need an encoder of its own: this one has the joint and the
    unimodal ones, so no other subset can be given.

    Args:
        modalities: name → `Modality`; their encoders are the unimodal ones.
        latent_dim: the number of latents D.
        joint_encoder: dict of columns → ``rows 2·latent``, mean and log-variance of q(z | all).
        alpha: α; Sec. 5.1 uses 0.01.

    Raises:
        SettingsError: α < 0, or a single modality.
    """

    pairs_only = True

    def __init__(self, modalities: dict[str, Modality], latent_dim: int, joint_encoder: nn.Module, alpha: float = 0.1):
        super().__init__(modalities, latent_dim)
        if alpha < 0:
            raise SettingsError(f"alpha must be ≥ 0, not {alpha}")
        if len(self.names) < 2:
            raise SettingsError("a JMVAE joins at least two modalities; for one there is the VAE")
        self.joint_encoder, self.alpha = joint_encoder, alpha

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The ELBO of complete rows; the unimodal posteriors are made (weight 0, nothing scored) for the penalty."""
        complete = present.all(-1)
        joint = full(present & complete[:, None])
        alone = singles(present & complete[:, None], self.names)
        return Terms(
            joint.names + alone.names,
            torch.cat([joint.given, alone.given]),
            torch.cat([joint.of, torch.zeros_like(alone.of)]),
            torch.cat([joint.weight, torch.zeros_like(alone.weight)]),
        )

    def posteriors(self, x: Mapping[str, Tensor], terms: Terms) -> Gaussian:
        """The joint encoder's Gaussian where everything is given, a unimodal one's where one modality is.

        Raises:
            QueryError: a subset for which there is no encoder.
        """
        if terms.shared_given is not None:
            return self._alike(x, list(zip(*terms.shared_given, strict=True)))
        if not terms.masked and ((number := terms.given.sum(-1)) > 1).logical_and(number < len(self.names)).any():
            raise QueryError(NO_ENCODER)
        everything = terms.placed(self.device).given.all(-1, keepdim=True)  # terms rows 1
        unimodal = one_expert(self.experts(x, self._alone(terms)), terms.placed(self.device).given & ~everything)
        if len(x) < len(self.names) or not (terms.masked or terms.given.all(-1).any()):
            return unimodal
        joint = self._joint(x, terms)
        return Gaussian(
            torch.where(everything, joint.precision, unimodal.precision),
            torch.where(everything, joint.shift, unimodal.shift),
        )

    def _alike(self, x: Mapping[str, Tensor], subsets: Sequence[tuple[bool, ...]]) -> Gaussian:
        """The posteriors where every row has the same terms: each has one encoder, known beforehand."""
        found = {subset: self._encoder_of(x, subset) for subset in dict.fromkeys(subsets)}
        precision, shift = ([getattr(found[s], part) for s in subsets] for part in ("precision", "shift"))
        return Gaussian(torch.stack(precision), torch.stack(shift))

    def _encoder_of(self, x: Mapping[str, Tensor], subset: tuple[bool, ...]) -> Gaussian:
        """q(z | subset), ``rows latent``."""
        if not any(subset):
            rows = len(next(iter(x.values())))
            return Gaussian.standard(rows, self.latent_dim, device=self.device, dtype=self.dtype)
        if all(subset):
            return _gaussian(run(self.joint_encoder, x))
        if sum(subset) > 1:
            raise QueryError(NO_ENCODER)
        name = self.names[subset.index(True)]
        return self.expert(name, x[name])

    def _alone(self, terms: Terms) -> Terms:
        """The same plan without the joint terms, so that nothing is encoded for them here."""
        given = terms.given & ~terms.given.all(-1, keepdim=True)
        return replace(terms, given=given)

    def _joint(self, x: Mapping[str, Tensor], terms: Terms) -> Gaussian:
        """q(z | all), ``rows latent``, encoded only for rows that need it."""
        needed = terms.given.all(-1).any(0)
        return self.encoded(x, needed, terms.masked, lambda x: _gaussian(run(self.joint_encoder, x)))

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """α Σ_i KL(q(z | all) ‖ q(z | x_i)), for complete rows."""
        divergence = divergence_from_singles(posterior, terms, len(self.names))
        return None if divergence is None else self.alpha * divergence


def divergence_from_singles(posterior: Gaussian, terms: Terms, modalities: int) -> Float[Tensor, "rows"] | None:
    """Σ_i KL(q(z | all) ‖ q(z | x_i)) of complete rows, 0 of others; None where the plan is not full and singles."""
    if terms.names[:1] != ("full",) or len(terms.names) != 1 + modalities:
        return None
    divergence = torch.stack([kl_divergence(posterior[0], posterior[1 + i]) for i in range(modalities)]).sum(0)
    return torch.where(terms.given[0].all(-1), terms.weight[0] * divergence, 0.0)


def _gaussian(output: Tensor) -> Gaussian:
    return Gaussian.from_mean_log_var(*output.chunk(2, dim=-1))
