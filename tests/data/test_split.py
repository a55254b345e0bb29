"""Random splits: every row is in exactly one part, and the seed alone decides which."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mvae.data import columns
from mvae.data import split as splits
from mvae.data.split import encoded_split, split
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError

FRACTIONS = st.floats(0.01, 0.49)


@given(st.integers(3, 200), FRACTIONS, FRACTIONS, st.integers(0, 5))
def test_every_row_is_in_one_part_and_each_part_has_its_size(rows: int, held: float, tested: float, seed: int) -> None:
    sizes = [max(1, round(held * rows)), max(1, round(tested * rows))]
    assume(sum(sizes) < rows)
    mask = np.arange(rows) % 2 == 0
    table = Table({"x": np.arange(rows), "y": torch.arange(rows)}, {"y": mask})
    data = split(table, held, tested, seed)
    assert [len(data.validation), len(data.test)] == sizes
    parts = (data.train, data.validation, data.test)
    assert sorted(np.concatenate([np.asarray(part["x"]) for part in parts])) == list(range(rows))
    for part in parts:
        assert torch.equal(torch.as_tensor(part["x"]), torch.as_tensor(part["y"]))
        assert part.has("y").tolist() == mask[np.asarray(part["x"])].tolist()
    again = split(table, held, tested, seed)
    assert torch.equal(torch.as_tensor(again.test["x"]), torch.as_tensor(data.test["x"]))


def test_every_row_is_equally_likely_to_be_a_test_row() -> None:
    counts = sum(np.isin(np.arange(20), np.asarray(split(Table({"x": np.arange(20)}), seed=seed).test["x"])).astype(int)
                 for seed in range(500))  # fmt: skip
    assert abs(np.asarray(counts) - 50).max() < 5 * np.sqrt(500 * 0.1 * 0.9)


@pytest.mark.parametrize(
    ("rows", "fractions", "error", "says"),
    [
        (9, (0.0, 0.1), SettingsError, "validation must be a fraction of the rows between 0 and 1, not 0.0"),
        (9, (0.1, 1.0), SettingsError, "test must be a fraction"),
        (9, (0.1, float("nan")), SettingsError, "not nan"),
        (9, (0.5, 0.5), SettingsError, "validation=0.5 and test=0.5 leave no rows to train on"),
        (2, (0.1, 0.1), DataError, "2 rows cannot be divided into training, validation (1) and test (1)"),
    ],
)
def test_impossible_splits_are_refused(rows: int, fractions: tuple[float, float], error, says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        split(Table({"x": np.arange(rows)}), *fractions)


def test_an_invalid_value_is_named_by_its_row_in_the_data() -> None:
    for row in range(20):
        x = np.arange(40).reshape(20, 2)
        x[row, 1] = -7
        with pytest.raises(DataError, match=rf"column 'x', row {row}: -7 does not fit"):
            encoded_split({"x": x}, kinds={"x": "count"})


def test_rows_of_a_large_mapped_column_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 9, (2000, 3, 2), np.int32)
    np.save(tmp_path / "x.npy", x)
    mapped, has = np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(2000) % 3 > 0
    monkeypatch.setattr(columns, "LARGE", 10_000)
    monkeypatch.setattr(splits, "AT_ONCE", 1_000)
    data = split(Table({"x": mapped, "row": np.arange(2000)}, {"x": has}))
    for part, kind in ((data.train, np.memmap), (data.test, np.ndarray)):
        rows = np.asarray(part["row"])
        assert type(part["x"]) is kind
        assert np.array_equal(np.asarray(part["x"]), x[rows])
        assert np.array_equal(part.has("x"), has[rows])


@pytest.mark.parametrize("mask", [np.ones((10, 3), bool), np.ones(9, bool), np.ones(10, int)])
def test_a_mask_of_another_shape_or_type_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"present\['a'\] has shape .* a boolean mask of shape \(10,\) is needed"):
        encoded_split({"a": np.random.default_rng(0).normal(size=(10, 3))}, present={"a": mask})
