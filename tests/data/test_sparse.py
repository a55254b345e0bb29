"""Sparse columns give the same rows as dense ones and become dense only in a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

import mvae
from mvae.data.sparse import SparseRows
from mvae.errors import DataError

DENSE = np.random.default_rng(0).poisson(0.3, (30, 7)).astype(np.float32)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32, np.float64, np.uint8])
def test_rows_equal_those_of_the_dense_matrix(kind: Any, dtype: Any) -> None:
    table = mvae.Table({"rna": kind(DENSE.astype(dtype)), "label": np.arange(30)})
    assert isinstance(table.columns["rna"], SparseRows)
    expected = torch.from_numpy(DENSE.astype(dtype))
    for index in (slice(3, 9), torch.tensor([4, 4, 0]), [29, 1], torch.arange(30) % 2 == 0):
        assert torch.equal(table[index].columns["rna"], expected[index])  # pyright: ignore[reportArgumentType]
    first = table.first(5)
    assert isinstance(first.columns["rna"], SparseRows)
    assert torch.equal(first[[4, 2]].columns["rna"], expected[[4, 2]])  # pyright: ignore[reportArgumentType]
    assert torch.equal(torch.cat([p.columns["rna"] for p in table.batches(7)]), expected)  # pyright: ignore


def test_absent_rows_are_zeros_and_invalid_row_numbers_are_refused() -> None:
    column = SparseRows(sparse.csr_matrix(DENSE), np.array([2, -1, 0]))
    assert (column[:] == np.stack([DENSE[2], 0 * DENSE[0], DENSE[0]])).all()
    assert column[[]].shape == (0, 7)
    assert (column[[-1]] == DENSE[[0]]).all()
    with pytest.raises(IndexError):
        column[[3]]


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="dtype complex"):
        mvae.Table({"rna": sparse.csr_matrix(DENSE.astype(complex))})


def test_training_is_the_same_on_sparse_and_dense_columns() -> None:
    found = []
    for rna in (sparse.csr_matrix(DENSE), DENSE):
        torch.manual_seed(0)
        model = mvae.MVAE({"rna": mvae.Modality(nn.Linear(7, 4), nn.Linear(2, 7), "poisson")}, 2)
        mvae.fit(model, {"rna": rna}, epochs=2, batch_size=8, callbacks=[])
        found.append(model.posterior({"rna": rna}).mean)
    assert torch.equal(*found)
