"""Sparse matrices as columns: sparse in memory or on disk, and dense only in a batch."""

from typing import Any

import numpy as np

from mvae.errors import DataError

__all__ = ["SparseRows"]


class SparseRows:
    """A matrix ``rows features`` of `scipy.sparse`, or a reader of one on disk; selected rows become a dense array.

    `mvae.Table` wraps any `scipy.sparse` column in this class. In memory the matrix is stored by rows (CSR; another
    format is converted once). On disk it must be stored by rows, or be dense.

    Args:
        matrix: object with ``shape``, ``dtype`` and indexing by ascending row numbers.
        place: the position of each row in the matrix, −1 for a row of zeros that is not in it; default: its own order.
        features: the columns of the matrix to use, in this order; default: all.

    >>> from scipy import sparse
    >>> column = SparseRows(sparse.csc_matrix([[0, 2], [0, 0], [3, 0]]))
    >>> column.shape, column[[2, 0]]
    ((3, 2), array([[3, 0],
           [0, 2]]))
    """

    ndim = 2

    def __init__(self, matrix: Any, place: np.ndarray | None = None, features: np.ndarray | None = None):
        self._matrix = matrix.tocsr() if hasattr(matrix, "tocsr") else matrix
        if getattr(self._matrix, "format", "csr") != "csr":
            raise DataError("a sparse matrix on disk must be stored by rows (CSR): convert it, or read it into memory")
        self.dtype = np.dtype(matrix.dtype)
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise DataError(f"a sparse matrix of dtype {self.dtype}: numbers of at most 64 bits are needed")
        self._place, self._features = place, features
        width = matrix.shape[1] if features is None else len(features)
        self.shape: tuple[int, ...] = (len(place) if place is not None else matrix.shape[0], int(width))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Get rows by a slice or by their numbers, as an array."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index, np.int64)
        if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        rows = rows % max(1, len(self))
        place = rows if self._place is None else self._place[rows]
        found = np.zeros((len(rows), self.shape[1]), self.dtype)
        here = place >= 0
        known, inverse = np.unique(place[here], return_inverse=True)  # readers from disk need them in order
        if len(known):
            part = self._matrix[known]
            part = part if self._features is None else part[:, self._features]
            found[here] = np.asarray(part.toarray() if hasattr(part, "toarray") else part)[inverse]
        return found

    def first(self, rows: int) -> "SparseRows":
        """The first ``rows`` rows, still sparse."""
        place = np.arange(len(self)) if self._place is None else self._place
        return SparseRows(self._matrix, place[:rows], self._features)

    def tolist(self) -> list[list[Any]]:
        """All rows as lists, like an array's method."""
        return self[:].tolist()

    @property
    def nbytes(self) -> int:
        """The bytes that it would take as a dense array, which is the cost of moving it to a device."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize
