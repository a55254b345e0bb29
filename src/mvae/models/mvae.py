"""The MVAE of Wu & Goodman (2018): a product of experts with a prior expert, trained on sub-sampled ELBOs."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, product
from mvae.modality.base import Modality
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE, Parts
from mvae.models.named_modules import NamedModules
from mvae.models.objective import Objective
from mvae.models.pseudo_labels import Balance, with_pseudo_labels
from mvae.models.recipe import CROSS_SHARE, Recipe
from mvae.models.terms import Terms, draws_of, mvae_terms

__all__ = ["MVAE", "richest"]

RICH = 0.1  # a modality with this share of the richest one's number of values is also one of the richest
MOST_SUBSETS = 10_000  # terms of a step: each is decoded
SOURCES = 8  # at most: a cross term decodes everything, so one for each modality would make a step's cost quadratic


class MVAE(MultimodalVAE):
    """q(z | X) ∝ p(z) Π q̃(z | x_i) (Eq. 4), trained on full, single and k random subsets (Eq. 5).

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.
        random_subsets: k of Eq. 5; it matters from three modalities on (Sec. 4 uses 1 for 19). With
            ``distinct_terms``, at most 64 draws per possible subset are made, by which all occur.
        distinct_terms: count equal subsets of a row once (see `mvae.models.terms.mvae_terms`).
        cross_from: modalities whose posterior must also explain everything else in the row, by one cross term
            E_{q(z | x_i)}[Σ_j max(1, c λ_j) log p(x_j | z)] − KL each, with c = ``cross_share`` over the part of the
            batch's rows that have it, at most 1 (`mvae.models.recipe.Recipe`). "auto" selects the richest
            modalities (`richest`), such as the image, at most 8. ``()`` is exactly Eq. 5, which does not force the
            modalities to share latents: they may use disjoint ones, and then none can be predicted from another.
        pseudo_labels: discrete modalities that get pseudo-labels in the rows where they are missing. Those with a
            probability of at least 95 % are scored under the posteriors of the row's ``cross_from``, as in their cross
            terms, once annealing is over (β = 1). They are kept as frequent as the known labels
            (`mvae.models.pseudo_labels`).
        cross_share: the share of λ in a cross term that every row has, above 0 and at most 1.
        shared_noise: reparametrise all terms of a row with one ε ~ N(0, I) instead of one each (App. I, Fig. 10 c).

    Raises:
        SettingsError: an argument of a wrong type, k < 0 or above 10,000, a cross_share out of range, cross_from or
            pseudo_labels with an unknown name, pseudo_labels of continuous values or without cross_from.

    >>> from mvae.networks.mlp import mlp
    >>> model = MVAE({"x": Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian()),
    ...               "y": Modality(mlp(1, 4), mlp(2, 1), mvae.likelihoods.Bernoulli())}, latent_dim=2)
    >>> model.posterior({"y": torch.ones(5, 1)}).mean.shape
    torch.Size([5, 2])
    >>> model.generate({"y": torch.ones(5, 1)}, of=["x"], n=7)["x"].shape
    torch.Size([7, 5, 3])
    """

    @checked_arguments()
    def __init__(
        self,
        modalities: Parts,
        latent_dim: int,
        random_subsets: int = 0,
        distinct_terms: bool = True,
        cross_from: Sequence[str] | Literal["auto"] = "auto",
        shared_noise: bool = False,
        pseudo_labels: Sequence[str] = (),
        cross_share: float = CROSS_SHARE,
    ):
        super().__init__(modalities, latent_dim)
        if random_subsets < 0:
            raise SettingsError(f"random_subsets must be ≥ 0, not {random_subsets}")
        if (draws_of(random_subsets, len(self.names)) if distinct_terms else random_subsets) > MOST_SUBSETS:
            raise SettingsError(f"random_subsets, a step's terms, must be at most {MOST_SUBSETS}, not {random_subsets}")
        if cross_from == "auto":
            cross_from = richest(self.modalities, latent_dim, self.context_dim)[:SOURCES]
        self.recipe = Recipe(tuple(cross_from), cross_share)
        for what, named in (("cross_from", cross_from), ("pseudo_labels", pseudo_labels)):
            for name in named:
                if name not in self.names:
                    raise SettingsError(f"{what} names {name!r}; the modalities are {', '.join(self.names)}")
        if pseudo_labels and not cross_from:
            raise SettingsError("pseudo_labels needs cross_from: the modalities in whose terms they are scored")
        for name in pseudo_labels:
            if not self.modalities[name].is_discrete:
                raise SettingsError(f"pseudo_labels names {name!r}: it is for classes, attributes and short strings")
        self.pseudo_labels = tuple(pseudo_labels)
        of_classes = [
            name for name in pseudo_labels if type(self.modalities[name]) is Modality
        ]  # not for a string's symbols
        self.balances = NamedModules({name: Balance(self.modalities[name], latent_dim) for name in of_classes})
        self.random_subsets, self.distinct_terms, self.shared_noise = random_subsets, distinct_terms, shared_noise

    @property
    def cross_from(self) -> tuple[str, ...]:
        """Modalities whose posterior must also explain everything else in a row."""
        return self.recipe.cross_from

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """The product of the experts given, and the prior expert once (Eq. 4)."""
        return product(experts, given)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """All of a row's modalities, each of them alone, k random subsets (Eq. 5), and the cross terms."""
        terms = mvae_terms(present, self.names, self.random_subsets, generator, self.distinct_terms)
        own = torch.tensor(self.weights, dtype=self.dtype)
        return self.recipe.extend(terms, present, self.names, own)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """Full and singles: neither random subsets nor cross terms."""
        return mvae_terms(present, self.names)

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """Eq. 5; with ``shared_noise`` the first term's ε is used for all terms."""
        too_early = isinstance(beta, float) and beta < 1
        if self.pseudo_labels and self.training and not too_early and not terms.alike:  # else nothing is missing
            x, terms = with_pseudo_labels(self, self.pseudo_labels, self.balances, self.recipe, x, terms, beta)
        return super().objective(x, terms, noise[:1].expand_as(noise) if self.shared_noise else noise, beta)

    @property
    def static_terms(self) -> bool:
        """True unless random subsets are drawn."""
        return self.random_subsets == 0 or len(self.names) < 3


@torch.no_grad()
def richest(modalities: Mapping[str, Modality], latent_dim: int, context_dim: int = 0) -> tuple[str, ...]:
    """The modalities that have, per example, at least a tenth as many values as the one with the most.

    A picture's values are its pixels, a class is one value, and a string has as many values as the longest one. None is
    returned for a single modality, as it has nothing else to explain. A modality whose decoder fails has no values:
    `check` reports what is wrong with it.

    >>> parts = {"x": Modality(nn.Linear(50, 4), nn.Linear(2, 50), mvae.likelihoods.Gaussian()),
    ...          "y": Modality(nn.Embedding(9, 4), nn.Linear(2, 9), mvae.likelihoods.Categorical())}
    >>> richest(parts, latent_dim=2)
    ('x',)
    """
    if len(modalities) < 2:
        return ()
    counts = {name: _values(modality, latent_dim, context_dim) for name, modality in modalities.items()}
    most = max(counts.values())
    return tuple(name for name, count in counts.items() if count and count >= RICH * most)


def _values(modality: Modality, latent_dim: int, context_dim: int) -> int:
    """The number of values of one example; 0 if the decoder fails."""
    parameter = next(modality.parameters(), torch.zeros(()))
    z = torch.zeros(1, latent_dim, device=parameter.device, dtype=modality.dtype)
    context = torch.zeros(1, context_dim, device=parameter.device, dtype=modality.dtype) if context_dim else None
    try:
        with evaluating(modality):
            return modality.generate(z, context, generator=torch.Generator(z.device).manual_seed(0)).numel()
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError):
        return 0
