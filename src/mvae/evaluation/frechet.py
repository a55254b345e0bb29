"""Fréchet distance between generated and real examples, in the features of any network (Heusel et al. 2017).

The usual features are Inception's. Here they are those of any network that is given: compare such numbers only with
those of the same features and the same number of examples.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.errors import DataError, QueryError
from mvae.evaluation.rows import given_part, rows_with
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data

__all__ = ["Moments", "frechet_distance", "frechet_to_data"]

ROWS = 250  # generated at once


class Moments:
    """Mean and covariance of features that arrive in parts, in float64.

    >>> moments = Moments()
    >>> for part in torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0]]).split(2):
    ...     moments.add(part)
    >>> moments.count, moments.mean.tolist(), moments.covariance.tolist()
    (3, [2.0, 2.0], [[4.0, 6.0], [6.0, 12.0]])
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._squares = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Float[Tensor, "rows features"]) -> None:
        """Add rows.

        Raises:
            DataError: features that are not ``rows features``, or not finite.
        """
        x = features.detach().to("cpu", torch.float64)
        if x.dim() != 2:
            raise DataError(f"the features have shape {tuple(x.shape)}: a matrix, rows × features, is needed")
        if not x.isfinite().all():
            raise DataError("the features are not all finite numbers")
        mean = x.mean(0)
        away = x - mean
        squares, total = away.T @ away, self.count + len(x)
        if self.count:  # the parallel form of Welford's update
            delta = mean - self.mean
            squares = self._squares + squares + torch.outer(delta, delta) * (self.count * len(x) / total)
            mean = self.mean + delta * (len(x) / total)
        self.mean, self._squares, self.count = mean, squares, total

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """The unbiased covariance."""
        return self._squares / max(1, self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ1 − μ2|² + tr(Σ1 + Σ2 − 2 (Σ1^½ Σ2 Σ1^½)^½), which is 0 for equal moments.

    Raises:
        QueryError: fewer than two rows of either, or different features.
    """
    if min(one.count, other.count) < 2 or one.mean.shape != other.mean.shape:
        raise QueryError("a Fréchet distance is between two sets of at least two rows each, of the same features")
    root = _root(one.covariance)
    middle = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    spread = one.covariance.trace() + other.covariance.trace() - 2 * middle
    return float((one.mean - other.mean).square().sum() + spread.clamp(min=0))


def _root(covariance: Float[Tensor, "features features"]) -> Float[Tensor, "features features"]:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


@torch.no_grad()
def frechet_to_data(
    model: MultimodalVAE,
    features: Callable[[Tensor], Tensor],
    data: Data,
    of: str,
    given: Sequence[str] = (),
    seed: int = 0,
) -> float:
    """The Fréchet distance between generated examples of one modality and the real ones of the same rows.

    One E[x | z] per row, with z ~ q(z | given) of that row, or from the prior where nothing is given; rows are read and
    generated a few at a time.

    Args:
        model: any model.
        features: examples as `mvae.MVAE.generate` returns them → ``rows features``.
        data: the rows; those that have ``of`` and all of ``given`` are used.
        of: the modality generated.
        given: the modalities it is generated from.
        seed: the seed of z.

    Raises:
        QueryError: an unknown modality, or fewer than two such rows. DataError: data that does not fit the model, or
            features that are not ``rows features`` or not finite.
    """
    model.require_known([of], "of")
    model.require_known(given, "given")
    table = model.as_table(data)
    rows = rows_with(table, [of, *given])
    generator = torch.Generator(model.device).manual_seed(seed)
    real, made = Moments(), Moments()
    for part in rows.split(ROWS):
        real.add(features(table.select_rows(of, part).float()))
        if given:
            known = given_part(model, table, part, given)
            drawn = model.generate(known, [of], mean=True, generator=generator)[of][0]
        else:
            drawn = model.generate(None, [of], len(part), mean=True, generator=generator)[of][:, 0]
        made.add(features(drawn.float()))
    return frechet_distance(made, real)
