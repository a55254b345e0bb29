"""Which rows of a table an evaluation uses, and which of their modalities are given."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mvae.data.columns import Values, as_column, as_tensor
from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.models.base import MultimodalVAE

__all__ = ["given_part", "labels_of", "latent_means", "rows_with"]

TOGETHER = 4096  # rows whose latents are inferred at once


def rows_with(table: Table, names: Sequence[str], *, whole: bool = False) -> Int[Tensor, "n"]:
    """The numbers of the rows that have all of these modalities.

    Raises:
        QueryError: there is no such row.
        DataError: ``whole``, and single values of one are missing in some row.
    """
    if whole:
        table.require_whole(*names)
    rows = table.presence(names).all(1).expand(len(table)).nonzero().flatten()
    if not len(rows):
        raise QueryError(f"no row has {' and '.join(names)}")
    return rows


def labels_of(table: Table, labels: Values) -> Shaped[Tensor, "rows"]:
    """The class of each row of a table, from any array or list, on the CPU.

    Raises:
        DataError: labels that are not numbers, or not one per row.
    """
    found = as_tensor(as_column("labels", labels)[0]).cpu()
    if found.shape != (len(table),):
        size = " × ".join(map(str, found.shape))
        raise DataError(f"there are {size} labels for {len(table)} rows: give one for each")
    return found


def given_part(model: MultimodalVAE, table: Table, rows: Tensor, given: Sequence[str]) -> Table:
    """Some rows of a table, with only the given modalities and the model's covariates."""
    return table.take(rows).select([*given, *model.covariates])


def latent_means(
    model: MultimodalVAE, table: Table, rows: Int[Tensor, "n"], given: Sequence[str]
) -> Float[Tensor, "n latent"]:
    """The means of q(z | observed modalities among ``given``) for these rows, on the CPU."""
    return torch.cat(
        [model.posterior(given_part(model, table, part, given)).mean.cpu() for part in rows.split(TOGETHER)]
    )
