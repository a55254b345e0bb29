"""Values missing at random, as App. F simulates it: each modality of each row is kept with one probability."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.data.pairing import hidden
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError

__all__ = ["keep_at_random", "kept_cells"]


def kept_cells(rows: int, modalities: int, p: float, seed: int = 0) -> Bool[Tensor, "rows modalities"]:
    """Which cells stay, each by itself with probability p; rows may be left with none.

    (Figure 9's caption says that features are dropped with p. App. F says kept, and its curves rise with p.)

    Raises:
        SettingsError: p is not above 0 and at most 1.

    >>> kept_cells(1000, 19, p=0.1).float().mean()
    tensor(0.0970)
    """
    if not 0 < p <= 1:
        raise SettingsError(f"the probability that a value is kept must be above 0 and at most 1, not {p}")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, modalities, generator=generator, dtype=torch.float64) < p


def keep_at_random(table: Table, p: float, seed: int = 0) -> Table:
    """The table with each value it has kept by itself with probability p, without the rows left empty (App. F).

    Hidden cells hold zeros, not the values hidden. ``len(table)`` less the length of what is returned is the number of
    rows that were dropped.

    Args:
        table: rows of any modalities. What stays of it is copied into memory.
        p: the probability that a value is kept.
        seed: of which.

    Raises:
        SettingsError: p is not above 0 and at most 1. DataError: every row is left empty.

    >>> table = Table({"image": torch.rand(100, 4), "label": torch.arange(100)})
    >>> kept = keep_at_random(table, 0.1, seed=1)
    >>> len(table) - len(kept), kept.present.sum(0)
    (91, tensor([3, 6]))
    """
    kept = kept_cells(len(table), len(table.names), p, seed) & table.present
    left = kept.any(1).nonzero().flatten()
    if not len(left):
        raise DataError(f"of {len(table)} rows all are left empty where values are kept with probability {p}")
    return hidden(table, left, kept[left])
