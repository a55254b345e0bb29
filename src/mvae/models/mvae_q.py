"""MVAE-Q (Eq. 3, App. C): the product of unimodal posteriors divided by N−1 priors, with no universal prior expert."""

import torch
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, quotient
from mvae.models.base import Parts
from mvae.models.mvae import MVAE

__all__ = ["MVAEQ"]

# sigmoid(±15) is still distinguishable from 0 and 1 in float32, so V stays inside the open interval.
MAX_RAW = 15.0


class MVAEQ(MVAE):
    """q(z | X) ∝ Π q(z | x_i) / p(z)^(n−1), that is T = 1 + Σ (1/V_i − 1).

    With V_i = N/(N−1) · sigmoid(raw), every V is below N/(N−1), so that T > 0 for every subset of the N modalities
    (App. C prints the inequality the wrong way round). In the product, each expert is q(z | x_i) / p(z), improper
    where V > 1; the one prior expert then leaves a division by exactly n−1 priors. Terms are the MVAE's.

    Raises:
        SettingsError: a single modality, for which the bound on V is infinite.
    """

    @checked_arguments()
    def __init__(self, modalities: Parts, latent_dim: int, random_subsets: int = 0):
        super().__init__(modalities, latent_dim, random_subsets, cross_from=())
        if len(self.names) < 2:
            raise SettingsError("MVAE-Q divides by N−1 priors and needs at least two modalities")

    @property
    def cross_from(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Not a setting of this model."""
        return None

    def to_expert(self, mean: Tensor, raw: Tensor) -> Gaussian:
        """q(z | x_i) / p(z), in natural parameters."""
        n = len(self.names)
        mean, raw = mean.to(self.dtype), raw.to(self.dtype)
        variance = n / (n - 1) * torch.sigmoid(raw.clamp(-MAX_RAW, MAX_RAW))
        posterior = Gaussian(variance.reciprocal(), mean / variance)
        prior = Gaussian(torch.ones_like(mean), torch.zeros_like(mean))
        return quotient(posterior, prior)
