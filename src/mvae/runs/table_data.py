"""A run's rows from the user's own tables: read, interpreted column by column, and split."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from mvae.data.dataset import Dataset
from mvae.data.split import split_rows
from mvae.data.table import Table
from mvae.data.tables.column import ALONE, MODELLED, ColumnKind
from mvae.data.tables.frames import Frames
from mvae.data.tables.opening import is_table_file, open_table
from mvae.data.tables.schema import Kind, TableSchema
from mvae.data.tables.tensors import encoded_parts
from mvae.errors import DataError, SettingsError, nearest
from mvae.models import get_model_class
from mvae.runs.config import Config, in_proportion, merged
from mvae.runs.defaults import defaults_for
from mvae.runs.sections import ModalitySettings

__all__ = ["completed_by", "is_table", "learned_from", "load_tables", "opened"]

log = logging.getLogger("mvae.data")


def is_table(config: Config) -> bool:
    """Does this declaration name files with columns (rather than arrays or a dataset)?"""
    source = config.data.source
    if isinstance(source, list):
        return True
    if not is_table_file(source):
        return False
    columns = any(part.kind == "columns" or part.kinds or part.fields for part in config.modalities.values())
    return not source.lower().endswith(".npz") or columns


def opened(config: Config) -> Frames:
    """Open the files that a declaration names.

    Raises:
        DataError, SettingsError: as for `open_table`.
    """
    return open_table(config.data.source, config.data.key)


def load_tables(config: Config, layout: Mapping[str, Any] | None = None) -> Dataset:
    """The rows of a declaration's files, divided into training, validation and test rows.

    Args:
        config: the declaration.
        layout: what the columns meant when the run was trained; None learns it from the training rows.

    Raises:
        DataError: as for `open_table` and `TableSchema.learn`; too few rows. SettingsError: a declared column is
            missing; covariates, which tables do not support.
    """
    if config.covariates:
        raise SettingsError(
            f"covariates.{next(iter(config.covariates))}: a table has no covariates. Make it a column of a modality, "
            "or give arrays (.npz)"
        )
    frames = opened(config)
    parts = split_rows(frames.rows, config.data.validation, config.data.test, config.seed)
    home = np.zeros(frames.rows, np.int8)
    for number, rows in enumerate(parts):
        home[rows.numpy()] = number
    schema = learned_from(config, frames, home) if layout is None else TableSchema.from_dict(layout)
    train, validation, test = encoded_parts(frames, schema, home, 3)
    for note in frames.notes:
        log.info("%s", note)
    return Dataset(frames.where, train, validation, test, codecs=schema.codecs, layout=schema)


def learned_from(config: Config, frames: Frames, home: np.ndarray) -> TableSchema:
    """Learn what a table's columns mean from its training rows (``home`` 0), where the declaration does not say.

    Raises:
        DataError, SettingsError: as for `TableSchema.learn`; a kind that no column of a table has.
    """
    groups = {name: _columns_of(name, part) for name, part in config.modalities.items()} or None
    kinds: dict[str, Kind] = {}
    for name, part in config.modalities.items():
        kinds |= _kinds_of(name, part)
    schema = TableSchema.learn(
        frames,
        missing=config.data.missing,
        modalities=groups,
        kinds=kinds,
        lengths={name: part.length for name, part in config.modalities.items() if part.length is not None},
        training=lambda start, end: home[start:end] == 0,
    )
    if groups:
        unused = [name for name in frames.names if all(name not in own for own in groups.values())]
        if left := [name for name in unused if name != frames.key]:
            log.info("%s: not declared, and not used: %s", frames.where, ", ".join(left))
    return schema


def _columns_of(name: str, part: ModalitySettings) -> Sequence[str]:
    """The columns of a declared modality; those of a finished run are named by its `fields`."""
    return part.columns or list(part.kinds) or [f.name for f in part.fields if f.name is not None] or [name]


def _kinds_of(name: str, part: ModalitySettings) -> dict[str, Kind]:
    """Column → declared kind, with its bounds or levels where they are declared."""
    found: dict[str, Kind] = {}
    own = None if part.kind in (None, "columns") else part.kind
    if own is not None:
        _require_kind(f"modalities.{name}.kind", own, (*MODELLED, *ALONE, "columns"))
        found = dict.fromkeys(_columns_of(name, part), own)
    fields = {field.name: field for field in part.fields if field.name is not None}
    for column, said in (fields | part.kinds).items():
        kind = said if isinstance(said, str) else said.kind
        _require_kind(f"modalities.{name}.kinds.{column}", kind, get_args(ColumnKind))
        more = () if isinstance(said, str) else said.levels or (said.low, said.high)
        if len([end for end in more if end is None]) == 1:
            raise SettingsError(f"modalities.{name}.kinds.{column}: bounds are low and high: give both, or neither")
        found[column] = (kind, *more) if more and None not in more else kind
    return found


def _require_kind(where: str, kind: str, known: Sequence[str]) -> None:
    if kind not in known:
        raise SettingsError(f"{where}: a table has {', '.join(known)}, not {kind!r}{nearest(kind, known)}")


def completed_by(config: Config, schema: TableSchema, train: Table) -> Config:
    """The declaration completed from the data: fields, shapes, and default sizes and rates for the training rows."""
    found: dict[str, Any] = {}
    for name, columns in schema.modalities.items():
        own: dict[str, Any] = {"columns": list(columns)}
        if name in schema.shapes and schema.fields_of(name)[0].kind == "text":
            words = len(schema.fields_of(name)[0].classes)
            own |= {"kind": "sentence", "classes": words, "length": schema.shapes[name][0]}
        elif name in schema.shapes:
            own |= {"kind": "picture", "shape": list(schema.shapes[name]), "levels": 255.0}
        else:
            said = config.modalities.get(name, ModalitySettings()).kinds
            own |= {"kind": "columns", "fields": [_field(column, said) for column in schema.fields_of(name)]}
        _require_agreement(name, config.modalities.get(name, ModalitySettings()), own)
        found[name] = own
    if dropped := [name for name in config.modalities if name not in found]:
        raise DataError(f"modality {dropped[0]!r} has no column with two different training values")
    values = defaults_for(train)
    if "epochs" in config.training.model_fields_set:
        values["training"] |= in_proportion(values["training"], config.training.epochs)
    declared = Config.from_dict(merged(merged(values, config.model_dump(exclude_unset=True)), {"modalities": found}))
    if len(found) > {"bivcca": 1, "jmvae": 2}.get(declared.model.name, len(found)):  # no posterior of some subsets
        several = "several modalities at once" if declared.model.name == "bivcca" else "some of several modalities"
        raise SettingsError(
            f"{declared.model.name} has no posterior given {several}, and rows of this table have "
            f"{', '.join(found)}: choose another model.name, for example mvae, or declare one modality of all columns"
        )
    of_class = get_model_class(declared.model.name)
    if of_class.conditional:
        raise SettingsError(
            f"{declared.model.name} is given a whole modality of arrays, never some columns of a table: choose another "
            "model.name. All others predict any column from any others"
        )
    if len(of_class.stages) > 1 and "patience" not in config.training.model_fields_set:
        declared = declared.change({"training": {"patience": None}})  # such a model does not stop early
    return declared.resolved()


def _require_agreement(name: str, part: ModalitySettings, own: Mapping[str, Any]) -> None:
    """Raises SettingsError where a modality's declaration contradicts the table (``own``)."""
    for key in ("classes", "levels", "shape", "length"):
        said, found = getattr(part, key), own.get(key)
        if said is None or said == found or (key == "length" and found is not None and found < said):
            continue
        why = "such a modality has none" if found is None else f"the table says {found}"
        raise SettingsError(f"modalities.{name}.{key} = {said}: {why}. Leave it out")


def _field(column: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a column for `mvae.data.fields.Field`."""
    found: dict[str, Any] = {"name": column.name, "kind": column.kind}
    if column.kind in ("categorical", "ordinal"):
        found["classes"] = len(column.classes)
    if column.kind == "bounded":
        found |= {"low": column.low, "high": column.high}
    declared = said.get(column.name)
    if declared is not None and not isinstance(declared, str) and declared.family is not None:
        found["family"] = declared.family
    return found
