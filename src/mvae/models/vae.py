"""The VAE of Kingma & Welling (2014) on one modality: the paper's image-only baseline (Tables 1–3)."""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from mvae.errors import QueryError, SettingsError
from mvae.gaussian import Gaussian, select_expert
from mvae.models.base import MultimodalVAE, Parts

__all__ = ["VAE"]


class VAE(MultimodalVAE):
    """q(z | x) is the encoder's Gaussian itself; the ELBO is Eq. 1.

    Args:
        modalities: exactly one, name → `Modality`. Other columns of a table are ignored.
        latent_dim: the number of latents D.

    Raises:
        SettingsError: more than one modality.
    """

    first_only = True

    def __init__(self, modalities: Parts, latent_dim: int):
        super().__init__(modalities, latent_dim)
        if len(self.names) != 1:
            raise SettingsError(f"a VAE has one modality, not {len(self.names)} ({', '.join(self.names)})")

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """The encoder's Gaussian; the prior if nothing is given."""
        return select_expert(experts, given)

    def plan_query(self, of: Sequence[str], given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Only log p(x) of its own modality.

        Raises:
            QueryError: any other query.
        """
        if list(of) != list(self.names) or given:
            raise QueryError(f"a VAE has no joint distribution: it answers log p({self.names[0]}) only")
        return of, ()
