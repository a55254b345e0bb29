"""Rows for training, validation and test, chosen at random."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.data.codecs import class_names
from mvae.data.columns import Column, as_mask, room_for
from mvae.data.dataset import Dataset
from mvae.data.schema import ColumnSchema, Kind, raw_values
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError

__all__ = ["encoded_split", "split", "split_rows"]

AT_ONCE = 1 << 26  # bytes of a mapped column that are copied at once


@checked_arguments()
def split(table: Table, validation: float = 0.1, test: float = 0.1, seed: int = 0, *, name: str = "table") -> Dataset:
    """Divide a table at random into training, validation and test rows.

    ``validation`` and ``test`` are fractions of the rows, rounded to whole rows, at least one each; all others are for
    training. Rows are not changed, and may have missing values. The same seed and number of rows give the same split.

    Args:
        table: at least three rows. They are copied into memory, or into temporary files if a mapped column is large.
        validation: fraction, between 0 and 1.
        test: fraction, between 0 and 1.
        seed: seed of the permutation.
        name: name of the dataset.

    Raises:
        SettingsError: a fraction outside its range, or no rows left for training. DataError: too few rows.

    >>> data = split(Table({"x": torch.arange(20)}), validation=0.1, test=0.25)
    >>> len(data.train), len(data.validation), len(data.test)
    (13, 2, 5)
    """
    parts = [_taken(table, rows) for rows in split_rows(len(table), validation, test, seed)]
    return Dataset(name, parts[0], parts[1], parts[2])


def _taken(table: Table, rows: Int[Tensor, "rows"]) -> Table:
    """The given rows. Mapped columns are copied in parts of bounded memory."""
    columns: dict[str, Column] = {}
    for name, column in table.columns.items():
        if not isinstance(column, np.memmap):
            columns[name] = table.select_rows(name, rows)
            continue
        columns[name] = made = room_for((len(rows), *column.shape[1:]), column.dtype)
        for part in torch.arange(len(rows)).split(max(1, AT_ONCE // max(1, column[:1].nbytes))):
            made[part.numpy()] = column[rows[part].numpy()]
    masks = {name: table.has(name)[rows] for name in table.names}
    return Table(columns, masks | {name: mask[rows] for name, mask in table.observed.items()})


@checked_arguments()
def split_rows(rows: int, validation: float = 0.1, test: float = 0.1, seed: int = 0) -> list[Int[Tensor, "rows"]]:
    """The row numbers of the training, validation and test sets of `split`, each in ascending order.

    Raises:
        SettingsError, DataError: as `split`.
    """
    for what, fraction in (("validation", validation), ("test", test)):
        if not 0 < fraction < 1:
            raise SettingsError(f"{what} must be a fraction of the rows between 0 and 1, not {fraction}")
    if validation + test >= 1:
        raise SettingsError(f"validation={validation} and test={test} leave no rows to train on")
    held_out = [max(1, round(fraction * rows)) for fraction in (validation, test)]
    if sum(held_out) >= rows:
        raise DataError(
            f"{rows} rows cannot be divided into training, validation ({held_out[0]}) and test ({held_out[1]}): give "
            "more rows or smaller fractions"
        )
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    parts = order.split([*held_out, rows - sum(held_out)])
    # Ascending order, so that a mapped column is read from front to back.
    return [part.sort().values for part in (parts[2], parts[0], parts[1])]


def encoded_split(
    columns: Mapping[str, Any],
    present: Mapping[str, np.ndarray] | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    schema: Mapping[str, ColumnSchema] | None = None,
    classes: Mapping[str, Sequence[int | str]] | None = None,
    unlisted: Collection[str] = (),
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Make a dataset of raw columns, which may be text: divided as by `split`, and encoded as training rows require.

    Args:
        columns: modality → values, ``rows event…``.
        present: modality → boolean ``rows``, if some are missing.
        kinds: modality → kind; for other modalities `mvae.data.schema.infer_kind` proposes one.
        schema: the encodings of earlier columns; nothing is then learned from these rows.
        classes: column → its categories in the order of their codes; for other columns, those of the training rows.
        unlisted: columns in which a category that is not listed counts as missing instead of being an error.
        validation: as in `split`.
        test: as in `split`.
        seed: as in `split`.

    Raises:
        SettingsError, DataError: as `split`, `mvae.Table` and `mvae.data.schema.ColumnSchema.fit`.

    >>> data = encoded_split({"sex": ["f", "m"] * 5, "age": range(30, 40)}, kinds={"age": "real"})
    >>> data.train, data.schema["sex"].classes
    (Table(8 rows; sex: scalar int64; age: scalar float64), ('f', 'm'))
    """
    raw = {name: raw_values(name, values) for name, values in columns.items()}
    arrays: dict[str, Any] = {name: values for name, (values, _) in raw.items()}
    masks, kinds = dict(present or {}), kinds or {}
    for name, (_, own) in raw.items():
        if own is not None:
            masks[name] = own & np.asarray(masks.get(name, True), bool)
    masks |= {name: as_mask(name, masks[name], arrays[name].shape[:1]).numpy() for name in arrays if name in masks}
    if len({len(values) for values in arrays.values()}) == 1:
        rows = len(next(iter(arrays.values())))
        train = np.zeros(rows, bool)
        train[split_rows(rows, validation, test, seed)[0]] = True
        schema = schema or {
            name: ColumnSchema.fit(name, values, train & masks.get(name, True), kinds.get(name))
            for name, values in arrays.items()
        }
        declared = {name: replace(schema[name], classes=tuple(own)) for name, own in (classes or {}).items()}
        schema = {**schema, **declared}
        masks |= {
            name: _listed(schema[name], arrays[name], masks.get(name))
            for name in unlisted
            if schema[name].kind == "categorical"
        }
        arrays = {name: schema[name].encode(values, masks.get(name)) for name, values in arrays.items()}
    data = split(Table(arrays, masks), validation, test, seed)  # which refuses columns of different length
    codecs = {name: class_names(each.classes) for name, each in (schema or {}).items() if each.kind == "categorical"}
    return replace(data, codecs=codecs, schema=schema or {})


def _listed(schema: ColumnSchema, values: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """The mask of rows that have a listed category.

    Raises:
        DataError: no row has one.
    """
    known = set(schema.classes)
    listed = np.array([value in known for value in values.tolist()]) & (True if present is None else present)
    if not listed.any():
        raise DataError(
            f"column {schema.name!r}: no row has one of the categories {', '.join(map(str, schema.classes))}"
        )
    return listed
