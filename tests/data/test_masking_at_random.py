"""Values missing at random: independent cells, no empty row, and no trace of hidden values."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from mvae.data.masking import keep_at_random, kept_cells
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError


def numbered(rows: int) -> Table:
    """Four modalities of different shapes and types; every value is its row's number plus 1."""
    number = torch.arange(1, rows + 1)
    return Table({
        "image": number.float()[:, None, None].expand(rows, 2, 3).contiguous(),
        "label": number,
        "bytes": (number % 255 + 1).to(torch.uint8)[:, None],
        "yes": torch.ones(rows, 1, dtype=torch.bool),
    })  # fmt: skip


@pytest.mark.parametrize("p", [0.03, 0.2, 0.5, 0.9])
def test_each_cell_is_kept_independently_with_probability_p(p: float) -> None:
    """Checks single cells, pairs of modalities in a row, and a modality in neighbouring rows."""
    kept = kept_cells(40_000, 4, p, seed=1).double()
    error = 5 * math.sqrt(p * (1 - p) / 40_000)
    assert ((kept.mean(0) - p).abs() < error).all()
    centred = (kept - p) / math.sqrt(p * (1 - p))
    correlation = centred.T @ centred / 40_000 - torch.eye(4).double() * centred.square().mean(0)
    assert correlation.abs().max() < 5 / math.sqrt(40_000)
    assert (centred[1:] * centred[:-1]).mean(0).abs().max() < 5 / math.sqrt(40_000)
    assert (kept.sum(1) == 0).double().mean().item() == pytest.approx((1 - p) ** 4, abs=5 / math.sqrt(40_000))


@pytest.mark.parametrize("p", [0.05, 0.5, 1.0])
def test_no_row_is_empty_and_kept_values_stay_in_order(p: float) -> None:
    table = numbered(300)
    kept = keep_at_random(table, p, seed=2)
    cells = kept_cells(300, 4, p, seed=2)
    assert kept.present.any(1).all()
    assert torch.equal(kept.present, cells[cells.any(1)])
    assert len(table) - len(kept) == int((~cells.any(1)).sum())
    number = torch.arange(1, 301)[cells.any(1)]
    expected = {"image": number.float()[:, None, None].expand(-1, 2, 3), "label": number}
    for i, (name, values) in enumerate(expected.items()):
        here = kept.present[:, i].reshape(-1, *[1] * (values.dim() - 1))
        assert torch.equal(cast("Tensor", kept.columns[name]), torch.where(here, values, 0))
    if p == 1.0:
        assert kept.complete


def test_hidden_values_are_erased() -> None:
    kept = keep_at_random(numbered(300), 0.4)
    for i, column in enumerate(kept.columns.values()):
        shown = torch.as_tensor(column).reshape(len(kept), -1)
        assert torch.equal((shown != 0).all(1), kept.present[:, i])
        assert torch.equal((shown != 0).any(1), kept.present[:, i])


def test_the_choice_depends_only_on_the_seed_and_the_input_is_unchanged() -> None:
    table = numbered(80)
    one, same, other = (keep_at_random(table, 0.3, seed) for seed in (5, 5, 6))
    assert torch.equal(one.present, same.present)
    assert all(torch.equal(torch.as_tensor(one.columns[n]), torch.as_tensor(same.columns[n])) for n in table.names)
    assert not torch.equal(kept_cells(80, 4, 0.3, 5), kept_cells(80, 4, 0.3, 6))
    assert other.present.shape[1] == 4
    assert table.complete
    assert torch.equal(cast("Tensor", table.columns["label"]), torch.arange(1, 81))


def test_missing_values_stay_missing() -> None:
    had = torch.arange(100) % 2 == 0
    table = Table({"a": np.arange(100.0), "b": np.arange(100.0)}, {"a": had})
    kept = keep_at_random(table, 1.0)
    assert torch.equal(kept.present[:, 0], had)


@pytest.mark.parametrize("p", [0.0, -0.1, 1.001, math.nan])
def test_a_probability_outside_its_range_is_refused(p: float) -> None:
    with pytest.raises(SettingsError, match="must be above 0 and at most 1, not"):
        keep_at_random(numbered(4), p)


def test_a_table_left_empty_is_refused() -> None:
    with pytest.raises(DataError, match="all 3 rows are left empty if values are kept with probability 1e-09"):
        keep_at_random(numbered(3), 1e-9)
