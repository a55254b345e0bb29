"""Which rows of a table an evaluation uses, and what of them is given."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.models.base import MultimodalVAE

__all__ = ["given_part", "rows_with"]


def rows_with(table: Table, names: Sequence[str], *, whole: bool = False) -> Int[Tensor, "n"]:
    """The numbers of the rows that have all of these modalities.

    Raises:
        QueryError: there is no such row.
        DataError: ``whole``, and some row lacks single values of one.
    """
    if whole:
        table.require_whole(*names)
    rows = table.presence(names).all(1).expand(len(table)).nonzero().flatten()
    if not len(rows):
        raise QueryError(f"no row has {' and '.join(names)}")
    return rows


def given_part(model: MultimodalVAE, table: Table, rows: Tensor, given: Sequence[str]) -> Table:
    """Some rows of a table, with what is given of them and the model's covariates only."""
    return table.take(rows).select([*given, *model.covariates])
