"""Trains a model on a data frame in one call."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mvae.arguments import checked_arguments
from mvae.data.tables.cells import Missing, marks_of
from mvae.data.tables.opening import open_table
from mvae.data.tables.schema import Kind, TableSchema
from mvae.data.tables.tensors import encoded_parts
from mvae.errors import DataError, SettingsError, abridged
from mvae.runs.build import build
from mvae.runs.config import Config, merged
from mvae.runs.intervals import fit_holding_back
from mvae.runs.run import device_named
from mvae.runs.table_data import completed_by
from mvae.runs.tables import TableModel
from mvae.training.callbacks import Callback
from mvae.training.switches import flushed_denormals

__all__ = ["fit_table"]

log = logging.getLogger("mvae.data")
VALIDATION = 0.1  # the share of rows that select the weights


@checked_arguments("missing", "kinds", "modalities")
def fit_table(
    data: Any,
    *,
    key: str | None = None,
    missing: Missing | str | int | float = (),
    kinds: Mapping[str, Kind] | None = None,
    modalities: Mapping[str, Sequence[str]] | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] | None = None,
) -> TableModel:
    """Train a joint model on a table with missing cells; what is not given is chosen from the table (`mvae describe`).

    Args:
        data: a data frame of pandas, polars or another library, columns by name, or files.
        key: the column that identifies a row; several files are joined by it.
        missing: one or several cells that mean missing, besides empty ones, NaN and null. Zero never does.
        kinds: column → real, positive, bounded, count, binary, categorical, ordinal, date, picture, text or ignored;
            ``("bounded", 0, 100)`` sets bounds, ``("ordinal", "low", "mid", "high")`` the levels in order.
        modalities: modality → its columns; columns in no modality are not used. Default: one modality for each
            file. (Groups of columns that are missing together need no modality of their own.)
        changes: changes to the declaration, such as ``{"training": {"epochs": 60}, "model": {"latents": 4}}``.
        seed: seed of the split, initial weights, order of rows, noise and random subsets.
        callbacks: notified of each epoch; default: a progress bar on a terminal, lines elsewhere.

    Raises:
        DataError: not a table, columns that cannot be learned from, or too few rows. SettingsError: an unknown kind,
            column or setting. MissingDependencyError: pandas is not installed.

    >>> import pandas
    >>> frame = pandas.DataFrame({"hb": [9.5, None, 8.0, 7.5] * 9, "sex": ["f", "m", None, "f"] * 9})
    >>> model = fit_table(frame, changes={"training": {"epochs": 2}}, callbacks=[])
    >>> model
    TableModel(MMVAE of real hb, binary sex)
    >>> model.impute(frame).isna().sum().sum(), model.embed(frame).shape[0]
    (np.int64(0), 36)
    """
    frames = open_table(data, key)
    for note in frames.notes:
        log.warning("%s", note)
    if frames.rows < 3:
        raise DataError(f"{frames.where} has {frames.rows} rows: at least 3 are needed to learn from")
    home = np.zeros(frames.rows, np.int8)
    order = torch.randperm(frames.rows, generator=torch.Generator().manual_seed(seed)).numpy()
    home[order[: max(1, round(VALIDATION * frames.rows))]] = 1
    schema = TableSchema.learn(
        frames,
        missing=_listed(missing),
        modalities=_grouped(modalities),
        kinds=kinds,
        training=lambda start, end: home[start:end] == 0,
    )
    train, validation = encoded_parts(frames, schema, home, 2)
    said = {"seed": seed, "data": {"source": frames.where or "table"}}
    config = completed_by(Config.from_dict(merged(said, changes or {})), schema, train)
    with flushed_denormals():
        model = build(config).to(device_named(None))
        fit_holding_back(model, train, config.training, seed=seed, validation=validation, callbacks=callbacks)
    return TableModel(model.eval(), schema)


def _listed(missing: Any) -> Missing:
    """One or several cells as they are stored; raises SettingsError for a mapping or what is not a cell."""
    if isinstance(missing, Mapping):
        raise SettingsError(f"missing names cells that mean missing in any column, as [-999, '?'], not {missing!r}")
    cells = missing if isinstance(missing, Iterable) and not isinstance(missing, str) else (missing,)
    return marks_of(cells)


def _grouped(modalities: Any) -> Mapping[str, Sequence[str]] | None:
    """The columns of each modality as a list; raises SettingsError where they are not a list, an index or an array."""
    if modalities is None:
        return None
    groups = modalities.values() if isinstance(modalities, Mapping) else [""]
    if any(isinstance(names, str) or not isinstance(names, Iterable) for names in groups):
        raise SettingsError(
            f"modalities of fit_table must be a mapping by name to lists of columns, not {abridged(modalities)}"
        )
    return {name: [str(column) for column in names] for name, names in modalities.items()}
