"""`Table`: columns by modality name, all of the same length, with an explicit mask of what is present."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.data.columns import Column, Frame, Values, as_column, as_mask, as_tensor, columns_of, is_frame
from mvae.data.sparse import SparseRows
from mvae.errors import DataError, QueryError, abridged, listed

__all__ = ["Column", "Table"]

Index = Tensor | np.ndarray | Sequence[int] | slice
SHOWN = 20  # columns shown in a repr


class Table:
    """Rows of several modalities, any of which may be missing.

    A column is a tensor, an array (memory-mapped ones stay on disk until rows are taken), a pandas Series or a list, of
    shape ``rows event…``. Its dtype is kept (`mvae.data.columns.as_column` has the rule for all containers) and does
    not define its meaning; a modality's likelihood turns it into numbers for its network, batch by batch.
    Missing values are given by ``present``, or by the mask of a container that has one; nothing is guessed. A mask is
    by rows or by single values: with the latter, a modality is present in a row that has any of its values. The content
    of a missing cell, NaN included, never affects a result. A batch is a Table too.

    ``table["label"]`` is a column; ``table[3:9]``, ``table[rows]`` and ``table[mask]`` are tables of these rows;
    ``len(table)`` is the number of rows, and iterating gives the names. ``table.present`` says which modalities each
    row has, ``rows modalities``. ``table.observed`` has the masks of columns with missing single values (name → ``rows
    event…``). ``table.complete`` says whether every row has every modality (with single values perhaps missing).

    Args:
        columns: modality name (any non-empty string) → column, all with the same number of rows, at least one; or a
            pandas DataFrame, each column of which is a modality.
        present: modality name → boolean mask ``rows``, or ``rows event…`` if single values are missing; a modality
            not named here is present in every row.

    Raises:
        DataError: no columns, no rows, columns of different length, a column that cannot be used (with its name), a
            mask of the wrong shape or dtype, or a row in which nothing is present (with its number).

    >>> table = Table({"image": torch.rand(3, 784), "label": torch.tensor([7, 1, 0])},
    ...               present={"label": torch.tensor([True, False, True])})
    >>> len(table), table.names, table.complete
    (3, ('image', 'label'), False)
    >>> table[1:].present
    tensor([[ True, False],
            [ True,  True]])
    >>> "label" in table, list(table), table["label"]
    (True, ['image', 'label'], tensor([7, 1, 0]))
    >>> labs = torch.tensor([[7.1, 140.0], [float("nan"), 138.0]])
    >>> Table({"labs": labs}, present={"labs": ~labs.isnan()})
    Table(2 rows; labs: 2 float32, 1 value missing)
    """

    columns: dict[str, Column]
    present: Bool[Tensor, "rows modalities"]
    observed: dict[str, Bool[Tensor, "rows *event"]]
    complete: bool

    def __init__(self, columns: Mapping[str, Values] | Frame, present: Mapping[str, Values] | None = None):
        if is_frame(columns):
            columns = columns_of(columns)
        if not isinstance(columns, Mapping):
            raise DataError(
                f"a table is made of named columns, Table({{'x': values}}), not of a bare {type(columns).__name__}"
            )
        if not columns:
            raise DataError("a table needs at least one column: Table({'image': images, ...})")
        converted = {name: as_column(name, values) for name, values in columns.items()}
        self.columns = {name: column for name, (column, _) in converted.items()}
        lengths = {name: len(column) for name, column in self.columns.items()}
        rows = next(iter(lengths.values()))
        if len(set(lengths.values())) != 1:
            counts = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
            raise DataError(
                f"columns differ in their number of rows ({counts}): give every modality a row for every "
                "example, and say with present={...} where it is missing"
            )
        if rows == 0:
            raise DataError(f"the table has no rows (columns: {listed(map(repr, lengths))})")
        masks = {name: mask for name, (_, mask) in converted.items() if mask is not None}
        self.present, self.observed = _as_presence(self.columns, {} if present is None else present, masks)
        self.complete = bool(self.present.all())
        if not self.complete:
            empty = (~self.present.any(1)).nonzero().flatten().tolist()
            if empty:
                shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
                raise DataError(f"{len(empty)} of {rows} rows have no modality present (row {shown}): drop them first")

    @classmethod
    def _trusted(
        cls, columns: dict[str, Column], present: Tensor, complete: bool, observed: dict[str, Tensor]
    ) -> "Table":
        """Build a table without checks, which were made for its parent; this keeps batches cheap."""
        table = cls.__new__(cls)
        table.columns, table.present, table.complete, table.observed = columns, present, complete, observed
        return table

    def __len__(self) -> int:
        return self.present.shape[0]

    def __repr__(self) -> str:
        parts = []
        for i, (name, column) in enumerate(list(self.columns.items())[:SHOWN]):
            have = int(self.present[:, i].sum())
            missing = "" if have == len(self) else f", present in {have}"
            if name in self.observed:
                lacks = have * math.prod(column.shape[1:]) - int(self.observed[name].sum())
                missing += f", {lacks} value{'s' * (lacks != 1)} missing"
            shape = "×".join(map(str, column.shape[1:])) or "scalar"
            parts.append(f"{name}: {shape} {str(column.dtype).removeprefix('torch.')}{missing}")
        if len(self.columns) > SHOWN:
            parts.append(f"… and {len(self.columns) - SHOWN} more columns")
        return f"Table({len(self)} rows; {'; '.join(parts)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    @overload
    def __getitem__(self, key: str) -> Column: ...

    @overload
    def __getitem__(self, key: Index | int | np.integer) -> "Table": ...

    def __getitem__(self, key: str | Index | int | np.integer) -> "Column | Table":
        """Get a column by name, or a table of the given rows (see `take`; a number gives one row).

        Raises:
            QueryError: no column has this name. DataError, IndexError: as in `take`.
        """
        if isinstance(key, str):
            self._require(key)
            return self.columns[key]
        return self.take([int(key)] if isinstance(key, int | np.integer) else key)

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of the columns."""
        return tuple(self.columns)

    def presence(self, names: Sequence[str]) -> Bool[Tensor, "rows_or_1 modalities"]:
        """The mask of present modalities in the order of ``names``; one without a column is missing in every row.

        If the table is complete, the rows axis has length 1. This tells the objective, without looking at any row, that
        every row has the same terms.
        """
        if self.complete:
            return torch.tensor([[name in self.columns for name in names]])
        place = {name: i for i, name in enumerate(self.columns)}
        mask = torch.zeros(len(self), len(names), dtype=torch.bool)
        known = [i for i, name in enumerate(names) if name in place]
        mask[:, known] = self.present[:, [place[names[i]] for i in known]]
        return mask

    def has(self, name: str) -> Bool[Tensor, "rows"]:
        """The mask of rows that have this modality; all False if it is not a column."""
        if name not in self.columns:
            return torch.zeros(len(self), dtype=torch.bool)
        return self.present[:, self.names.index(name)].expand(len(self))

    def batches(self, rows: int) -> Iterator["Table"]:
        """The table in parts of ``rows`` rows, in order, as tensors: for computations in bounded memory.

        >>> [len(part) for part in Table({"label": torch.arange(5)}).batches(2)]
        [2, 2, 1]
        """
        for start in range(0, len(self), rows):
            yield self.take(slice(start, start + rows))

    def take(self, index: Index) -> "Table":
        """Take the given rows (by number, by a boolean mask, or by a slice), as tensors.

        Memory-mapped columns are read here.

        Raises:
            DataError: the index is neither a one-dimensional list of integers nor a mask of all rows.
            IndexError: a row number is outside the table.
        """
        if isinstance(index, slice) and index.step is not None and index.step < 0:
            index = range(*index.indices(len(self)))  # PyTorch has no negative steps
        if isinstance(index, slice):
            columns = {name: as_tensor(column[index]) for name, column in self.columns.items()}
            observed = {name: mask[index] for name, mask in self.observed.items()}
            return Table._trusted(columns, self.present[index], self.complete, observed)
        index = _as_row_numbers(index, len(self))
        columns: dict[str, Column] = {name: self.select_rows(name, index) for name in self.columns}
        present = self.present[:1].expand(len(index), -1) if self.complete else self.present[index.cpu()]
        observed = {name: mask[index.to(mask.device)] for name, mask in self.observed.items()}
        return Table._trusted(columns, present, self.complete, observed)

    def first(self, rows: int) -> "Table":
        """The first ``rows`` rows; memory-mapped columns stay on disk.

        >>> len(Table({"label": torch.arange(5)}).first(2))
        2
        """
        columns: dict[str, Column] = {
            name: column.first(rows) if isinstance(column, SparseRows) else column[:rows]
            for name, column in self.columns.items()
        }
        observed = {name: mask[:rows] for name, mask in self.observed.items()}
        return Table._trusted(columns, self.present[:rows], self.complete, observed)

    def select_rows(self, name: str, index: Tensor) -> Tensor:
        """The given rows of one column, as a tensor."""
        column = self.columns[name]
        return column[index.to(column.device)] if isinstance(column, Tensor) else as_tensor(column[index.cpu().numpy()])

    def values_of(self, name: str, index: Tensor) -> Bool[Tensor, "rows *event"] | None:
        """The mask of observed values in these rows of a column; None if no single values of it are missing."""
        mask = self.observed.get(name)
        return None if mask is None else mask[index.to(mask.device)]

    def observed_rows(
        self, name: str, index: Tensor
    ) -> tuple[Float[Tensor, "rows *event"], Bool[Tensor, "rows *event"]]:
        """Some rows of a column on the CPU in float64, and the mask of their observed values.

        The rows themselves must be present.
        """
        x, here = self.select_rows(name, index).to("cpu", torch.float64), self.values_of(name, index)
        return x, torch.ones_like(x, dtype=torch.bool) if here is None else here.cpu()

    def require_whole(self, *names: str) -> None:
        """Raise DataError if single values are missing in one of these columns."""
        for name in names:
            if name in self.observed:
                raise DataError(f"column {name!r} has missing single values, but whole rows are needed here")

    def select(self, names: Sequence[str]) -> "Table":
        """Select the given columns; every row must have at least one of them.

        Raises:
            QueryError: a name that is not a column. DataError: a row that has none of the columns.
        """
        for name in names:
            self._require(name)
        mask = {} if self.complete else {name: self.has(name) for name in names}
        mask |= {name: self.observed[name] for name in names if name in self.observed}
        return Table({name: self.columns[name] for name in names}, mask)

    def with_column(self, name: str, column: Column, has: Bool[Tensor, "rows"]) -> "Table":
        """The same table with new values of one modality, present in the rows ``has``."""
        present = {other: self.has(other) for other in self.names} | {name: has} | self.observed
        return Table({**self.columns, name: column}, present)

    def _require(self, name: str) -> None:
        if name not in self.columns:
            raise QueryError(f"no modality {name!r} in this table; it has {', '.join(self.columns)}")

    def filled(self) -> "Table":
        """The table with valid values in the missing cells and no mask of rows, for terms that were planned before.

        The values are those of the first row that has the column (zeros, if single values are missing): an invalid
        value, such as a duration of 0, would make a gradient NaN even with a weight of zero.
        """
        columns: dict[str, Column] = {}
        for i, name in enumerate(self.names):
            column = self.select_rows(name, torch.arange(len(self)))
            has = self.present[:, i]
            here = self.observed.get(name, has.reshape(-1, *[1] * (column.dim() - 1))).to(column.device)
            known = has.any() and name not in self.observed
            filling = column[int(has.nonzero()[0])] if known else torch.zeros_like(column[0])
            columns[name] = torch.where(here, column, filling)
        return Table._trusted(columns, torch.ones_like(self.present), True, self.observed)

    def to(self, device: torch.device | str) -> "Table":
        """Move columns and masks of values to a device; the mask of rows stays on the CPU, where terms are planned."""
        columns: dict[str, Column] = {n: as_tensor(c).to(device) for n, c in self.columns.items()}
        observed = {name: mask.to(device) for name, mask in self.observed.items()}
        return Table._trusted(columns, self.present, self.complete, observed)

    @property
    def nbytes(self) -> int:
        """The bytes of the columns and the masks of their values."""
        return sum(held.nbytes for held in (*self.columns.values(), *self.observed.values()))


def _as_row_numbers(index: Tensor | np.ndarray | Sequence[int], rows: int) -> Tensor:
    try:
        index = as_tensor(index) if isinstance(index, np.ndarray) else torch.as_tensor(index)
    except (TypeError, ValueError, RuntimeError, OverflowError, LookupError):
        raise DataError(
            f"cannot take rows by {abridged(index)}: give a list of row numbers, or a boolean mask"
        ) from None
    if index.layout != torch.strided or index.is_meta:
        raise DataError("cannot take rows by a sparse index, or one without data: give a list of row numbers")
    if index.dtype == torch.bool and index.shape == (rows,):
        return index.nonzero().flatten()
    if index.ndim != 1 or index.dtype == torch.bool or (index.is_floating_point() and len(index)):
        raise DataError(
            f"cannot take rows by an index of shape {tuple(index.shape)} and dtype {index.dtype}; give a list of row "
            f"numbers, or a boolean mask of shape ({rows},)"
        )
    return index.long()  # an empty list becomes floats; PyTorch would read uint8 as a mask


def _as_presence(
    columns: Mapping[str, Column], present: Mapping[str, Values], masks: Mapping[str, np.ndarray]
) -> tuple[Bool[Tensor, "rows modalities"], dict[str, Tensor]]:
    """Combine ``present`` with the containers' own masks; a value is observed if both say so.

    Returns the mask of rows, and the masks of values of the columns in which some row has only a part of its values.
    """
    if not isinstance(present, Mapping):
        raise DataError("present needs a mask by modality name: present={'label': has_label}")
    for name in present:
        if name not in columns:
            raise DataError(f"present names {name!r}, which is not a column; the columns are {', '.join(columns)}")
    rows = len(next(iter(columns.values())))
    of_rows = torch.ones(rows, len(columns), dtype=torch.bool)
    of_values: dict[str, Tensor] = {}
    for i, (name, column) in enumerate(columns.items()):
        said = [as_mask(name, present[name], column.shape)] if name in present else []
        said += [torch.from_numpy(masks[name])] if name in masks else []
        if not said:
            continue
        alone = len(said) == 1 or all(mask.dim() == 1 for mask in said)
        values = said[0] if alone else _of_values(said, column.shape)
        flat = values.reshape(rows, -1)
        of_rows[:, i] = flat.any(1) if values.dim() > 1 else torch.stack(said).all(0)
        if values.dim() > 1 and not torch.equal(of_rows[:, i], flat.all(1)):
            of_values[name] = values
    return of_rows, of_values


def _of_values(masks: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """The values that are observed by every mask, of rows or of values."""
    found = torch.ones(tuple(shape), dtype=torch.bool)
    for mask in masks:
        found &= mask.reshape(-1, *[1] * (len(shape) - 1)) if mask.dim() == 1 else mask
    return found
