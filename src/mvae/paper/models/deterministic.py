"""The deterministic baselines of Sec. 5.1 and App. H: the same networks "with the stochastic layer removed"."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.errors import QueryError, SettingsError
from mvae.gaussian import Gaussian, select_expert
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.objective import Objective
from mvae.models.plan import Experts, at_most_one
from mvae.models.terms import Terms, singles


class _Deterministic(MultimodalVAE):
    """A model whose z is the encoder's mean: it has no noise, no KL and no posterior distribution.

    The second half of the encoder's output, which would be the log-variance, is not used.
    """

    joint_posterior = False

    def expert(self, name: str, x: Tensor, context: Tensor | None = None) -> Gaussian:
        """The code as the mean of a Gaussian (of variance 1, which is never used)."""
        mean, _ = self.modalities[name].expert_parameters(x, context)
        return Gaussian.from_mean_log_var(mean, torch.zeros_like(mean))

    @property
    def encoders(self) -> tuple[Experts, ...]:
        """The code of the one given modality."""
        return (Experts(select_expert, at_most_one),)

    def objective(
        self,
        x: dict[str, Tensor],
        terms: Terms,
        noise: Float[Tensor, "terms rows latent"],
        beta: float | Tensor = 1.0,
    ) -> Objective:
        """−log p(scored | z at the mean), regardless of the noise and β."""
        return super().objective(x, terms, torch.zeros_like(noise), 0.0)

    def plan_query(self, of: Sequence[str], given: Sequence[str]) -> NoReturn:
        """Raise QueryError: there is no likelihood."""
        raise QueryError(f"{type(self).__name__} is not a probabilistic model: it has no log p({', '.join(of)})")


class Autoencoder(_Deterministic):
    """x1 → code → x1, trained by reconstruction alone; its codes are features for a classifier (Sec. 5.1, baseline 3).

    Args:
        modalities: exactly one, name → `Modality`. Other columns of a table are ignored.
        latent_dim: the length of the code.

    Raises:
        SettingsError: more than one modality.
    """

    first_only = True

    def __init__(self, modalities: dict[str, Modality], latent_dim: int):
        super().__init__(modalities, latent_dim)
        if len(self.names) != 1:
            raise SettingsError(f"an autoencoder has one modality, not {len(self.names)} ({', '.join(self.names)})")

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Its one modality, in rows that have it."""
        return singles(present, self.names)


class SupervisedNetwork(_Deterministic):
    """x1 → the image's encoder → the label's decoder → x2, by log p(x2 | z) alone (Sec. 5.1, baseline 1; App. H "NN").

    It keeps its last weights, not the best: with few pairs to select by, the cross-entropy rises with the network's
    confidence long before its accuracy falls (MNIST with 50 pairs: 43 % with selection, 55 % without; with 500 pairs:
    79 % and 84 %).

    Args:
        modalities: name → `Modality`; the first is given, the others are predicted. (The others' encoders and the first
            one's decoder are never run.)
        latent_dim: the width of the layer between encoder and decoders.

    Raises:
        SettingsError: a single modality.
    """

    needs_complete = True
    keeps_best = False

    def __init__(self, modalities: dict[str, Modality], latent_dim: int):
        super().__init__(modalities, latent_dim)
        if len(self.names) < 2:
            raise SettingsError("a supervised network predicts a second modality from the first: give it two")

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """For complete rows: the first modality given, the others scored, each with λ = 1."""
        complete = present.all(-1)
        first = torch.zeros(len(self.names), dtype=torch.bool)
        first[0] = True
        given, of = complete[:, None] & first, complete[:, None] & ~first
        name = f"{self.names[0]} to others"
        return Terms((name,), given[None], of[None], complete[None].float(), torch.ones(1, len(self.names)))
