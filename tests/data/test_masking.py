"""Weak supervision: exact numbers of pairs, and no way to recover a hidden pairing."""

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from mvae.data.masking import complete_rows, oversample_complete, pair_fraction
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError


def numbered(rows: int) -> Table:
    """Row r holds the numbers r + 1 and 1001 + r, so each value identifies its row."""
    image = torch.arange(1.0, rows + 1).reshape(rows, 1, 1).expand(rows, 2, 3).contiguous()
    return Table({"image": image, "label": torch.arange(1001, 1001 + rows)})


def sources(weak: Table) -> tuple[list[int], list[int]]:
    """The row each cell comes from, read from its value; -1 for zeros."""
    image, label = (cast("Tensor", weak.columns[name]) for name in ("image", "label"))
    assert (image == image[:, :1, :1]).all()
    return (image[:, 0, 0].long() - 1).tolist(), torch.where(label == 0, -1, label - 1001).tolist()


@pytest.mark.parametrize(
    ("rows", "fraction", "pairs"),
    [
        (50_000, 0.001, 50),
        (1297, 0.001, 1),
        (200, 0.001, 0),
        (1297, 0.1, 129),
        (100, 0.29, 29),
        (7, 0.5, 3),
        (9, 0.0, 0),
    ],
)
def test_the_number_of_rows_is_kept_and_pairs_never_exceed_the_fraction(rows: int, fraction: float, pairs: int) -> None:
    weak = pair_fraction(numbered(rows), fraction, seed=1)
    present = weak.present
    others = rows - pairs
    assert len(weak) == rows
    assert int(present.all(1).sum()) == pairs <= fraction * rows + 1e-9
    assert int((present[:, 0] & ~present[:, 1]).sum()) == math.ceil(others / 2)
    assert int((present[:, 1] & ~present[:, 0]).sum()) == others // 2


def test_no_hidden_pair_can_be_recovered() -> None:
    """Hidden cells are zeros, each source row is used once, and the order is random."""
    weak = pair_fraction(numbered(400), 0.1, seed=3)
    images, labels = sources(weak)
    has_image, has_label = weak.present.T.tolist()
    assert all((source >= 0) == has for source, has in zip(images, has_image, strict=True))  # zeros where hidden
    assert all((source >= 0) == has for source, has in zip(labels, has_label, strict=True))
    pairs = [(i, j) for i, j in zip(images, labels, strict=True) if i >= 0 and j >= 0]
    assert len(pairs) == 40
    assert all(i == j for i, j in pairs)  # the remaining pairs are true ones
    alone = [i for i, j in zip(images, labels, strict=True) if j < 0], [j for j in labels if j >= 0]
    assert not set(alone[0]) & set(alone[1])  # if an image has lost its label, that label is nowhere in the table
    both = images + labels
    assert set(both) - {-1} == set(range(400))  # and no other row is lost
    position = np.arange(400)
    source = np.maximum(images, labels)
    assert abs(np.corrcoef(position, source)[0, 1]) < 0.2  # 4 standard deviations of a random order


def test_split_rows_keeps_every_value_and_no_pairing() -> None:
    weak = pair_fraction(numbered(500), 0.1, seed=3, split_rows=True)
    images, labels = sources(weak)
    assert len(weak) == 500 + 450
    assert sorted(i for i in images if i >= 0) == list(range(500)) == sorted(j for j in labels if j >= 0)
    alone = (
        [i for i, j in zip(images, labels, strict=True) if j < 0],
        [j for i, j in zip(images, labels, strict=True) if i < 0],
    )
    assert sorted(alone[0]) == sorted(alone[1])
    assert abs(np.corrcoef(*alone)[0, 1]) < 0.19  # the n-th image and the n-th label do not belong together
    assert sum(i == j for i, j in zip(*alone, strict=True)) < 8  # 1 is expected by chance


def test_the_choice_depends_only_on_the_seed() -> None:
    table = numbered(60)
    one, same, other = (pair_fraction(table, 0.5, seed) for seed in (5, 5, 6))
    assert sources(one) == sources(same)
    assert sources(one) != sources(other)


def test_fraction_one_keeps_all_pairs_and_the_input_is_unchanged() -> None:
    table = numbered(50)
    weak = pair_fraction(table, 1.0)
    assert weak.complete
    images, labels = sources(weak)
    assert images == labels
    pair_fraction(table, 0.0)
    assert sources(table) == (list(range(50)), list(range(50)))


def test_a_memory_mapped_column_is_read_and_not_written(tmp_path: Path) -> None:
    image = np.lib.format.open_memmap(tmp_path / "image.npy", mode="w+", dtype=np.uint8, shape=(30, 2))
    image[:] = np.arange(1, 31)[:, None]
    image.flush()
    before = (tmp_path / "image.npy").read_bytes()
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r+")
    weak = pair_fraction(Table({"image": mapped, "label": np.arange(30)}), 0.2)
    column = cast("Tensor", weak.columns["image"])
    assert column.dtype == torch.uint8
    assert ((column == 0).all(1) == ~weak.present[:, 0]).all()
    mapped.flush()
    assert (tmp_path / "image.npy").read_bytes() == before


@pytest.mark.parametrize("fraction", [-0.1, 1.001, math.nan])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(SettingsError, match="share of pairs must be between 0 and 1, not"):
        pair_fraction(numbered(4), fraction)


def test_tables_without_complete_pairs_are_refused() -> None:
    three = Table({name: torch.arange(3) for name in "abc"})
    with pytest.raises(DataError, match="pairs need exactly two modalities; this table has a, b, c"):
        pair_fraction(three, 0.5)
    with pytest.raises(DataError, match="incomplete already"):
        pair_fraction(pair_fraction(numbered(10), 0.5), 0.5)


def test_complete_rows_returns_the_pairs() -> None:
    weak = pair_fraction(numbered(40), 0.25, seed=2)
    pairs = complete_rows(weak)
    assert pairs is not None
    assert len(pairs) == 10
    assert pairs.complete
    images, labels = sources(pairs)
    assert images == labels
    assert complete_rows(pair_fraction(numbered(40), 0.0)) is None
    assert complete_rows(pairs) is pairs


@pytest.mark.parametrize("times", [1, 2, 5])
def test_oversampling_repeats_only_the_pairs(times: int) -> None:
    table = Table({"image": torch.rand(40, 3), "label": torch.arange(40)})
    weak = pair_fraction(table, 0.1)
    repeated = oversample_complete(weak, times)
    assert len(repeated) == 40 + 4 * (times - 1)
    whole = repeated.present.all(1)
    labels = torch.as_tensor(repeated.columns["label"])[whole]
    assert labels.unique(return_counts=True)[1].tolist() == [times] * 4
    images = torch.as_tensor(repeated.columns["image"])[whole]
    assert torch.equal(images, torch.as_tensor(table.columns["image"])[labels])
    assert repeated.present[~whole].sum(0).tolist() == [18, 18]
    assert len(oversample_complete(table, 3)) == 120


def test_oversampling_zero_times_is_refused() -> None:
    with pytest.raises(SettingsError, match="not 0 times"):
        oversample_complete(Table({"x": torch.arange(3)}), 0)


def test_complete_rows_have_all_named_modalities() -> None:
    has = {"b": torch.tensor([True, True, False, True]), "c": torch.tensor([False, True, True, False])}
    table = Table({name: torch.arange(4) for name in "abc"}, has)
    pairs = complete_rows(table, ["a", "b"])
    assert pairs is not None
    assert pairs.names == ("a", "b")
    assert pairs.complete
    assert torch.as_tensor(pairs["a"]).tolist() == [0, 1, 3]
    whole = Table(dict(table.columns))
    kept = complete_rows(whole, ["c", "a"])
    assert kept is not None
    assert kept.names == ("c", "a")
    assert kept["a"] is whole["a"]  # not copied
    for each in (table, whole):
        assert complete_rows(each, ["a", "absent"]) is None
    assert torch.as_tensor(oversample_complete(table, 2, ["a", "b"])["a"]).tolist() == [0, 1, 2, 3, 0, 1, 3]
