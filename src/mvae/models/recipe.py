"""Which cross terms are added to those of Eq. 5, and the λ in each kind of term."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.errors import SettingsError
from mvae.models.terms import Terms, concatenate, cross, single

__all__ = ["CROSS_SHARE", "Recipe"]

CROSS_SHARE = 1.0  # share of λ in a cross term: a scored modality counts as much there as in its own term


@dataclass(frozen=True)
class Recipe:
    """Which cross terms are added to those of Eq. 5, and the λ in each kind of term then.

    Terms given several modalities have every λ = 1, as bounds on log p(X). λ applies in full in the terms of single
    modalities, and by `crossed` in cross terms. Without ``cross_from`` it is exactly Eq. 5: λ in every term.

    Args:
        cross_from: modalities whose posterior must also explain everything else in a row.
        share: the share of λ in a cross term that every row has, above 0 and at most 1.

    Raises:
        SettingsError: a share outside its range.

    >>> from mvae.models.terms import full
    >>> recipe = Recipe(("image",))
    >>> terms = full(torch.ones(1, 2, dtype=torch.bool))
    >>> terms = recipe.extend(terms, torch.ones(1, 2, dtype=torch.bool), ("image", "label"), torch.tensor([1.0, 50.0]))
    >>> terms.names, terms.likelihood_weight.tolist()
    (('full', 'image to all'), [[1.0, 1.0], [1.0, 50.0]])
    """

    cross_from: tuple[str, ...] = ()
    share: float = CROSS_SHARE

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise SettingsError(f"cross_share, a share of λ, must be above 0 and at most 1, not {self.share}")

    def alone(self, own: Float[Tensor, "modalities"]) -> Float[Tensor, "modalities"]:
        """Every λ in the term of a single modality, from the modalities' ``own``."""
        return own

    def joint(self, own: Float[Tensor, "modalities"]) -> Float[Tensor, "modalities"]:
        """Every λ in a term given several modalities that are all scored."""
        return torch.ones_like(own)

    def crossed(self, own: Float[Tensor, "modalities"], rows: Float[Tensor, "rows"]) -> Float[Tensor, "modalities"]:
        """Every λ in a cross term that these rows (1 or 0) of a batch have: max(1, c λ), c = min(1, share / fraction).

        The rarer these rows are, the more each counts.

        >>> Recipe(share=0.2).crossed(torch.tensor([1.0, 50.0]), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]))
        tensor([ 1.0000, 16.6667])
        """
        return (self.share / rows.mean().clamp(min=self.share) * own).clamp(min=1)

    def extend(
        self,
        terms: Terms,
        present: Bool[Tensor, "rows modalities"],
        names: Sequence[str],
        own: Float[Tensor, "modalities"],
    ) -> Terms:
        """Eq. 5's terms with their λ, followed by the cross terms."""
        if not self.cross_from:
            return terms
        alone = {single(i) for i in range(len(names))}
        keys = terms.keys if terms.alone is None else (*terms.keys[: len(terms.of)], single(0))
        weights = torch.stack([self.alone(own) if key in alone else self.joint(own) for key in keys])
        parts = [replace(terms, likelihood_weight=weights)]
        for source in self.cross_from:
            part = cross(present, names, source)
            weights = self.crossed(own, part.weight[0].to(own))
            parts.append(replace(part, likelihood_weight=weights[None]))
        return concatenate(*parts)
