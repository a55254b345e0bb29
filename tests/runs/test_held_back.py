"""Values are held out as the table's own values are missing: alone, or with the rest of their view."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvae.data.table import Table
from mvae.data.tables.tensors import observed_of
from mvae.runs.held_back import held_back, missing_together

VIEW = np.arange(4)  # the first four of eight columns


def views_and_cells(view: float, cell: float, rows: int = 4_000, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    seen = generator.random((rows, 8)) >= cell
    seen[np.ix_(generator.random(rows) < view, VIEW)] = False
    seen[:, 7] |= ~seen.any(1)
    return seen


def table_of(seen: np.ndarray) -> Table:
    return Table({"x": torch.zeros(seen.shape)}, {"x": torch.from_numpy(seen)})


@given(
    rows=st.integers(1, 300),
    share=st.floats(0, 0.9),
    view=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**32 - 1),
    other=st.booleans(),
)
def test_held_out_values_were_observed_and_no_row_is_emptied(
    rows: int, share: float, view: float, seed: int, other: bool
) -> None:
    seen = views_and_cells(view, share, rows, seed)
    table = table_of(seen)
    if other:  # a modality of another kind, in some rows
        table = Table(
            table.columns | {"y": torch.zeros(rows, 3, 2)}, {**table.observed, "y": torch.arange(rows) % 2 > 0}
        )
    shown, held = held_back(table, seed)
    assert not (held["x"] & ~seen).any()
    assert np.array_equal(observed_of(shown, "x"), seen & ~held["x"])
    left = observed_of(shown, "x").any(1) | (shown.has("y").numpy() if other else False)
    assert left.all()
    again, _ = held_back(table, seed)
    assert torch.equal(again.observed["x"], shown.observed["x"])


def test_at_most_a_tenth_of_a_small_table_is_held_out() -> None:
    seen = (torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) < 0.5).numpy()
    seen[:, 0] |= ~seen.any(1)
    _, held = held_back(table_of(seen))
    assert 0 < held["x"].sum() <= 0.1 * seen.sum()


@pytest.mark.parametrize(("view", "cell"), [(0.3, 0.0), (0.0, 0.3), (0.3, 0.1)])
def test_views_are_hidden_as_often_as_they_are_missing(view: float, cell: float) -> None:
    seen = views_and_cells(view, cell)
    hidden_views, hidden = 0, 0
    missing = ~seen[:, VIEW]
    for seed in range(5):
        held = held_back(table_of(seen), seed)[1]["x"][:, VIEW]
        whole = (held | missing).all(1) & held.any(1) & ~missing.all(1)
        hidden_views, hidden = hidden_views + held[whole].sum(), hidden + held.sum()
    expected = missing[missing.all(1)].sum() / missing.sum()
    assert hidden_views / hidden == pytest.approx(expected, abs=0.08)


def test_columns_missing_together_form_a_group() -> None:
    group = missing_together(views_and_cells(0.3, 0.3))
    assert len(set(group[VIEW])) == 1
    assert len(set(group)) == 5
    assert len(set(missing_together(views_and_cells(0.0, 0.3, 200)))) == 8  # chance forms no groups


def test_modality_missing_in_rows_is_hidden_as_a_whole() -> None:
    present = np.random.default_rng(0).random(2_000) < 0.5
    table = Table({"a": torch.zeros(2_000, 3), "labs": torch.zeros(2_000, 4)}, {"labs": torch.from_numpy(present)})
    _, held = held_back(table)
    rows = held["labs"].any(1)
    assert rows.any()
    assert held["labs"][rows].all()
    assert (held["a"].sum(1) <= 2).all()  # nothing is missing here, so values are hidden one by one
