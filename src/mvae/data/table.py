"""Table: columns by modality name, all of the same length, with an explicit mask of what is present."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mvae.errors import DataError, QueryError

__all__ = ["Table"]

Column = Tensor | np.ndarray


class Table:
    """Rows of several modalities, any of which may be missing.

    A column is a tensor or an array (memory-mapped ones stay on disk until rows are taken) of shape
    ``rows event…`` and any dtype; a modality's likelihood turns it into numbers for its network, batch by batch.
    What is missing is said by ``present`` only: whatever stands in a missing cell, NaN included, is never read
    into a result. A batch is a Table too.

    Args:
        columns: modality name → column. All have the same number of rows, at least one.
        present: modality name → boolean mask ``rows``; a modality not named here is present in every row.

    Raises:
        DataError: no columns, no rows, columns of different length, a mask of the wrong shape or dtype, or
            (by row number) a row in which nothing is present.

    >>> table = Table({"image": torch.rand(3, 784), "label": torch.tensor([7, 1, 0])},
    ...               present={"label": torch.tensor([True, False, True])})
    >>> len(table), table.names, table.complete
    (3, ('image', 'label'), False)
    >>> table.take([1]).present
    tensor([[ True, False]])
    """

    columns: dict[str, Column]
    present: Bool[Tensor, "rows modalities"]
    complete: bool

    def __init__(
        self, columns: Mapping[str, Column | Sequence], present: Mapping[str, Column | Sequence] | None = None
    ):
        if not isinstance(columns, Mapping):
            raise DataError(
                f"a table is made of named columns, Table({{'x': values}}), not of a bare {type(columns).__name__}"
            )
        if not columns:
            raise DataError("a table needs at least one column: Table({'image': images, ...})")
        self.columns = {name: _as_column(name, column) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in self.columns.items()}
        rows = next(iter(lengths.values()))
        if len(set(lengths.values())) != 1:
            counts = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
            raise DataError(
                f"columns differ in their number of rows ({counts}): give every modality a row for every "
                "example, and say with present={...} where it is missing"
            )
        if rows == 0:
            raise DataError(f"the table has no rows (columns: {', '.join(map(repr, lengths))})")
        self.present = _as_presence(tuple(self.columns), rows, {} if present is None else present)
        self.complete = bool(self.present.all())
        if not self.complete:
            empty = (~self.present.any(1)).nonzero().flatten().tolist()
            if empty:
                shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
                raise DataError(f"{len(empty)} of {rows} rows have no modality present (row {shown}): drop them first")

    @classmethod
    def _trusted(cls, columns: dict[str, Column], present: Tensor, complete: bool) -> "Table":
        """A table whose checks were made when its parent was built; keeps batches cheap."""
        table = cls.__new__(cls)
        table.columns, table.present, table.complete = columns, present, complete
        return table

    def __len__(self) -> int:
        return self.present.shape[0]

    def __repr__(self) -> str:
        parts = []
        for i, (name, column) in enumerate(self.columns.items()):
            have = int(self.present[:, i].sum())
            missing = "" if have == len(self) else f", present in {have}"
            shape = "×".join(map(str, column.shape[1:])) or "scalar"
            parts.append(f"{name}: {shape} {str(column.dtype).removeprefix('torch.')}{missing}")
        return f"Table({len(self)} rows; {'; '.join(parts)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of the columns."""
        return tuple(self.columns)

    def presence(self, names: Sequence[str]) -> Bool[Tensor, "rows_or_1 modalities"]:
        """What is present, in the order of ``names``; a modality without a column is present nowhere.

        Where all rows are alike (no mask anywhere) the rows axis has length 1: that is how the objective knows,
        without looking at any row, that every row has the same terms.
        """
        if self.complete:
            return torch.tensor([[name in self.columns for name in names]])
        mask = torch.zeros(len(self), len(names), dtype=torch.bool)
        for i, name in enumerate(self.columns):
            if name in names:
                mask[:, list(names).index(name)] = self.present[:, i]
        return mask

    def has(self, name: str) -> Bool[Tensor, "rows"]:
        """Which rows have this modality; none where it is no column."""
        if name not in self.columns:
            return torch.zeros(len(self), dtype=torch.bool)
        return self.present[:, self.names.index(name)].expand(len(self))

    def batches(self, rows: int) -> Iterator["Table"]:
        """The table in parts of so many rows, in order, as tensors: for work whose memory must not grow with it.

        >>> [len(part) for part in Table({"label": torch.arange(5)}).batches(2)]
        [2, 2, 1]
        """
        for start in range(0, len(self), rows):
            yield self.take(slice(start, start + rows))

    def take(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> "Table":
        """The given rows (by number, by a boolean mask, or a slice), as tensors.

        This is where a memory-mapped column is read.

        Raises:
            DataError: the index is no one-dimensional list of integers, and no mask of all rows.
            IndexError: a row number outside the table.
        """
        if isinstance(index, slice):
            columns = {name: _tensor(column[index]) for name, column in self.columns.items()}
            return Table._trusted(columns, self.present[index], self.complete)
        index = _as_row_numbers(index, len(self))
        columns: dict[str, Column] = {name: self.select_rows(name, index) for name in self.columns}
        present = self.present[:1].expand(len(index), -1) if self.complete else self.present[index.cpu()]
        return Table._trusted(columns, present, self.complete)

    def first(self, rows: int) -> "Table":
        """The first so many rows; memory-mapped columns stay on disk.

        >>> len(Table({"label": torch.arange(5)}).first(2))
        2
        """
        columns: dict[str, Column] = {name: column[:rows] for name, column in self.columns.items()}
        return Table._trusted(columns, self.present[:rows], self.complete)

    def select_rows(self, name: str, index: Tensor) -> Tensor:
        """One column's rows, as a tensor."""
        column = self.columns[name]
        return column[index.to(column.device)] if isinstance(column, Tensor) else _tensor(column[index.cpu().numpy()])

    def select(self, names: Sequence[str]) -> "Table":
        """The given columns; rows that have none of them are refused.

        Raises:
            QueryError: a name that is no column.
        """
        for name in names:
            if name not in self.columns:
                raise QueryError(f"no modality {name!r} in this table; it has {', '.join(self.columns)}")
        mask = {name: self.present[:, self.names.index(name)] for name in names}
        return Table({name: self.columns[name] for name in names}, None if self.complete else mask)

    def zero_filled(self) -> "Table":
        """Zeros in the missing cells and no mask: for work whose terms, planned before, say what counts."""
        columns: dict[str, Column] = {}
        for i, name in enumerate(self.names):
            column = self.select_rows(name, torch.arange(len(self)))
            here = self.present[:, i].to(column.device).reshape(-1, *[1] * (column.dim() - 1))
            columns[name] = torch.where(here, column, torch.zeros((), dtype=column.dtype, device=column.device))
        return Table._trusted(columns, torch.ones_like(self.present), True)

    def to(self, device: torch.device | str) -> "Table":
        """Columns on a device (the mask stays on the CPU, where terms are planned)."""
        columns: dict[str, Column] = {n: _tensor(c).to(device) for n, c in self.columns.items()}
        return Table._trusted(columns, self.present, self.complete)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns."""
        return sum(column.nbytes for column in self.columns.values())


def _tensor(column: Column) -> Tensor:
    if isinstance(column, Tensor):
        return column
    if not column.dtype.isnative:
        column = column.astype(column.dtype.newbyteorder("="))  # PyTorch knows only the machine's byte order
    # A tensor shares the array's memory: one made of a mapped file's slice would write its changes into the file.
    if isinstance(column, np.memmap) or not column.flags.writeable:
        column = column.copy()
    return torch.from_numpy(np.ascontiguousarray(column))


def _as_row_numbers(index: Tensor | np.ndarray | Sequence[int], rows: int) -> Tensor:
    index = torch.as_tensor(index)
    if index.dtype == torch.bool and index.shape == (rows,):
        return index.nonzero().flatten()
    if index.ndim != 1 or index.dtype == torch.bool or (index.is_floating_point() and len(index)):
        raise DataError(
            f"cannot take rows by an index of shape {tuple(index.shape)} and dtype {index.dtype}; give a list of row "
            f"numbers, or a boolean mask of shape ({rows},)"
        )
    return index.long()  # an empty list comes as floats; PyTorch reads uint8 as a mask


def _as_column(name: str, column: Column | Sequence) -> Column:
    if not isinstance(name, str) or not name:
        raise DataError(f"a modality's name must be a non-empty string, not {name!r}")
    if not isinstance(column, Tensor | np.ndarray):
        try:
            column = np.asarray(column)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"column {name!r} makes no array; do its rows differ in shape? ({error})") from None
        if column.dtype == np.float64:
            column = column.astype(np.float32)
    if isinstance(column, Tensor):
        usable = not column.is_complex()
    else:
        usable = column.dtype.kind in "biuf" and column.itemsize <= 8
    if not usable:
        raise DataError(
            f"column {name!r} has dtype {column.dtype}; real numbers of at most 64 bits, or booleans, are needed"
        )
    if column.ndim == 0:
        raise DataError(f"column {name!r} is a single value; a column has one entry for each row")
    return column


def _as_presence(
    names: tuple[str, ...], rows: int, present: Mapping[str, Column | Sequence]
) -> Bool[Tensor, "rows modalities"]:
    if not isinstance(present, Mapping):
        raise DataError("present needs a mask by modality name: present={'label': has_label}")
    for name in present:
        if name not in names:
            raise DataError(f"present names {name!r}, which is no column; the columns are {', '.join(names)}")
    mask = torch.ones(rows, len(names), dtype=torch.bool)
    for i, name in enumerate(names):
        if name in present:
            given = present[name]
            try:
                given = given if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
            except (TypeError, ValueError, RuntimeError) as error:
                raise DataError(f"present[{name!r}] is no boolean mask of shape ({rows},) ({error})") from None
            if given.dtype != torch.bool or given.shape != (rows,):
                raise DataError(
                    f"present[{name!r}] has shape {tuple(given.shape)} and dtype {given.dtype}; "
                    f"a boolean mask of shape ({rows},) is needed"
                )
            mask[:, i] = given
    return mask
