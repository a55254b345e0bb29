"""MoPoE-VAE (Sutter et al. 2021): a mixture, over all subsets, of products of experts."""

from dataclasses import replace
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, product
from mvae.models import plan
from mvae.models.base import MultimodalVAE, Parts
from mvae.models.objective import Objective
from mvae.models.terms import Terms, explaining, term_name

__all__ = ["MoPoE"]

MOST_MODALITIES = 8
DRAWN = "drawn"  # the key of terms that were drawn


class MoPoE(MultimodalVAE):
    """The mean, over the 2^n − 1 non-empty subsets S of a row's modalities, of

        E_{q(z | S)}[Σ_i log p(x_i | z)] − KL[q(z | S), p(z)],

    with q(z | S) the product of S's experts alone (no prior expert).

    By definition, the number of terms is exponential in the number of modalities; more than 8 are rejected.

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.
        drawn: the number of subsets from which a row is decoded in a step, drawn each time with equal probabilities;
            the KL is that of all subsets. The objective is the same on average (Sutter et al. draw one). None: all
            subsets, at 2^n − 1 times the cost of decoding one.

    Raises:
        SettingsError: more than 8 modalities, or drawn is below 1.

    >>> from mvae.networks.mlp import mlp
    >>> x = mvae.Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian())
    >>> model = MoPoE(dict.fromkeys("abcde", x), latent_dim=2, drawn=1)
    >>> model.terms(torch.ones(7, 5, dtype=torch.bool)).given.shape
    torch.Size([1, 7, 5])
    """

    @checked_arguments()
    def __init__(self, modalities: Parts, latent_dim: int, drawn: int | None = None):
        super().__init__(modalities, latent_dim)
        if drawn is not None and drawn < 1:
            raise SettingsError(f"drawn, the subsets that a row learns from, must be at least 1, not {drawn}")
        self.drawn = drawn
        count = len(self.names)
        if count > MOST_MODALITIES:
            raise SettingsError(f"MoPoE has 2^M − 1 terms; {count} modalities are too many (at most {MOST_MODALITIES})")
        subsets = [s for size in range(1, count + 1) for s in combinations(range(count), size)]
        self._subsets = torch.tensor([[i in s for i in range(count)] for s in subsets])
        labels = list(self.names)
        for subset in subsets[count:]:
            labels.append(term_name("+".join(self.names[i] for i in subset), labels))
        self._subset_names = tuple(labels)

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """The product of the experts given; the prior if none is given."""
        return product(experts, given, prior_expert=False)

    def mixed(self, given: Bool[Tensor, "rows modalities"]) -> Bool[Tensor, "subsets rows modalities"]:
        """Every subset of the given modalities."""
        subset = self._subsets[:, None]
        return subset & (given | ~subset).all(-1, keepdim=True)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Every subset of a row's modalities, or the drawn ones; each explains all of the row's modalities."""
        if self.drawn is None:
            return self.evaluation_terms(present)
        possible = self.mixed(present).any(-1).T  # rows subsets
        order = 1 + torch.rand(self.drawn, *possible.shape, generator=generator)
        given = self._subsets[(order * possible).argmax(-1)] & present  # terms rows modalities
        names = [term_name(f"drawn {i + 1}", self.names) for i in range(self.drawn)]
        return replace(explaining(names, given, present, self.dtype), keys=(DRAWN,) * self.drawn)

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """Minus the mean; with drawn subsets, the KL reported for each is the mean of all subsets."""
        if terms.find(DRAWN) is None:
            return super().objective(x, terms, noise, beta)
        experts, here = plan.experts(self, x, replace(terms, given=terms.of)), terms.on_device(noise.device)
        every = self.mixed(terms.of.any(0)).to(noise.device)  # subsets rows modalities
        has = every.any(-1).to(noise.dtype)
        kl = (has * self.combine(experts, every).kl_to_prior()).sum(0) / has.sum(0).clamp(min=1)
        kl = kl.expand(len(terms.names), -1)
        z = self.combine(experts, here.given).rsample(noise)
        log_prob = plan.scores(self.modalities, x, z, terms, self.context(x))
        bound = self.with_likelihoods(-beta * kl, x, log_prob, here)
        loss = -(here.weight_of_rows * bound).sum() / noise.shape[1]
        return Objective(loss, log_prob, kl, here, self.names)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """Every subset of a row's modalities."""
        return explaining(self._subset_names, self.mixed(present), present, self.dtype)

    @property
    def static_terms(self) -> bool:
        """True unless subsets are drawn."""
        return self.drawn is None

    def presence(self, table: Table) -> Bool[Tensor, "rows_or_1 modalities"]:
        """The modalities that each row has: one row for all only if none is drawn, because each row draws its own."""
        present = super().presence(table)
        return present if self.drawn is None else present.expand(len(table), -1)
