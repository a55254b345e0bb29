"""TELBO, the triple ELBO of Vedantam et al. (2018): joint first, then unimodal encoders for a frozen model (Sec. 3)."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, product, select_expert
from mvae.modality.base import Modality, run
from mvae.models.base import MultimodalVAE
from mvae.models.named_modules import NamedModules
from mvae.models.plan import Experts, at_most_one, several
from mvae.models.terms import Terms, full, singles
from mvae.networks.joint import fresh

__all__ = ["TELBO"]


class TELBO(MultimodalVAE):
    """Stage one: the ELBO of complete rows under a product of experts. Stage two: ELBO(x_i) for each modality, with a
    new encoder each and frozen decoders.

    It answers queries given several modalities (the product of stage one) or one (the encoders of stage two).

    Raises:
        SettingsError: a single modality.
    """

    stages = ("joint", "unimodal")
    takes_covariates = False

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int):
        super().__init__(modalities, latent_dim)
        if len(self.names) < 2:
            raise SettingsError("a TELBO joins at least two modalities; for one there is the VAE")
        # New encoders of the same architecture; their initial weights are drawn afresh.
        self.unimodal = NamedModules({name: fresh(modality.encoder) for name, modality in modalities.items()})

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters that a stage trains: the joint model's, or those of the unimodal encoders."""
        yield from self.unimodal.parameters() if stage == "unimodal" else self._modalities.parameters()

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The complete rows' ELBO in stage one, each of a row's modalities alone in stage two."""
        if self.stage == "unimodal":
            return singles(present, self.names)
        return full(present & present.all(-1, keepdim=True), self.names)

    @property
    def encoders(self) -> tuple[Experts, ...]:
        """The product if several modalities are given, a unimodal encoder's Gaussian if one is."""
        return Experts(select_expert, at_most_one, self._unimodal_expert), Experts(product, several)

    def _unimodal_expert(self, name: str, x: Tensor) -> Gaussian:
        output = run(self.unimodal[name], self.modalities[name].shown(x))
        return Gaussian.from_mean_log_var(*(output if isinstance(output, tuple) else output.chunk(2, dim=-1)))
