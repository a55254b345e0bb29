"""MoPoE-VAE (Sutter et al. 2021): a mixture, over all subsets, of products of experts."""

from itertools import combinations

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, product
from mvae.models.base import MultimodalVAE, Parts
from mvae.models.terms import Terms, term_name

__all__ = ["MoPoE"]

MOST_MODALITIES = 8


class MoPoE(MultimodalVAE):
    """Mean over the 2^n − 1 non-empty subsets S of what a row has of

        E_{q(z | S)}[Σ_i log p(x_i | z)] − KL[q(z | S), p(z)],

    with q(z | S) the product of S's experts alone (no prior expert).

    The number of terms is exponential in the number of modalities by its definition; above 8 it is refused.

    Raises:
        SettingsError: more than 8 modalities.
    """

    def __init__(self, modalities: Parts, latent_dim: int):
        super().__init__(modalities, latent_dim)
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
        """The product of the experts given; the prior where none is."""
        return product(experts, given, prior_expert=False)

    def mixed(self, given: Bool[Tensor, "rows modalities"]) -> Bool[Tensor, "subsets rows modalities"]:
        """Every subset of what is given."""
        subset = self._subsets[:, None]
        return subset & (given | ~subset).all(-1, keepdim=True)

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """Every subset of what a row has explains all that it has."""
        given = self.mixed(present)
        has = given.any(-1)  # terms rows
        weight = has.to(self.dtype) / has.sum(0).clamp(min=1)
        return Terms(self._subset_names, given, present[None] & has[..., None], weight)
