"""The accuracy with which one modality is predicted from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from mvae.errors import QueryError
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.models.queries import parts_of

__all__ = ["Accuracy", "prediction_accuracy"]


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How much of each row was predicted correctly, out of how much.

    >>> digits = Accuracy(right=torch.tensor([2, 0, 1]), count=torch.tensor([2, 0, 2]))  # the second string is empty
    >>> digits.mean, round(digits.standard_error, 3)
    (0.75, 0.177)
    """

    right: Shaped[Tensor, "rows"]
    count: Shaped[Tensor, "rows"]

    @property
    def mean(self) -> float:
        """The correct share of all that was to be predicted."""
        return float(self.right.double().sum() / self.count.double().sum())

    @property
    def standard_error(self) -> float:
        """The standard error of that share, over independent rows (for one label per row, √(p(1 − p)/rows))."""
        count = self.count.double()
        return float((self.right.double() - self.mean * count).square().sum().sqrt() / count.sum())


@torch.no_grad()
def prediction_accuracy(model: MultimodalVAE, data: Data, given: Sequence[str], of: str) -> dict[str, Accuracy]:
    """The accuracy of predicting ``of`` from the mean of q(z | given), by row: Sec. 5.1's p(x2 | x1).

    Args:
        model: any model.
        data: a table, a mapping of arrays or a data frame; the rows that have ``of`` are used, in their order. Each is
            predicted from its observed modalities among ``given``.
        given: the modalities it is predicted from.
        of: the modality predicted.

    Returns:
        Under ``""`` the accuracy, as the modality counts it (`mvae.Modality.correct`): 0 or 1 for a class, the correct
        share of a row's attributes, and the number of a string's symbols that are in their places. A modality may count
        more, under suffixes of its own: strings count under ``" whole"`` whether the whole string is correct.

    Raises:
        QueryError: an unknown modality, one without an accuracy (real numbers or pixels), or one that no row has.
        DataError: data that does not fit the model.
    """
    model.require_known([of], "of")
    model.require_known(given, "given")
    if of not in model.names:
        raise QueryError(f"{of} is a condition of this model: it is given, and not predicted")
    table, modality, parts = model.as_table(data), model.modalities[of], []
    rows = table.has(of).nonzero().flatten()
    if not len(rows):
        raise QueryError(f"no row of the table has {of}")
    with evaluating(model):
        for batch in parts_of(table, rows=rows):
            x = model.prepare(batch)
            parts.append(modality.correct(x[of], model.posterior_of(batch, given).mean, model.context(x)))
    if not parts[0]:
        raise QueryError(f"there is no accuracy of {of}: its values are neither classes, nor attributes, nor strings")
    return {
        name: Accuracy(*(torch.cat(values).cpu() for values in zip(*(part[name] for part in parts), strict=True)))
        for name in parts[0]
    }
