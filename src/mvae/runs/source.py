"""Where a declaration and its rows come from: a shipped name, or the user's files."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from mvae.data.dataset import Dataset
from mvae.data.npz import read_npz
from mvae.data.schema import ColumnSchema, Kind
from mvae.data.split import encoded_split
from mvae.data.tables.opening import is_table_file, refuse_cells
from mvae.errors import DataError, QueryError, SettingsError, listed, nearest, no_file
from mvae.runs.config import Config
from mvae.runs.registry import declarations, reader
from mvae.runs.sections import ModalitySettings
from mvae.runs.table_data import completed_by, is_table, load_tables
from mvae.runs.values import parse_value

__all__ = ["completed", "declared", "folder_of", "load", "shipped", "shipped_declaration", "shipped_text"]

ARRAYS = ".npz"


def shipped_text(name: str) -> str:
    """The text of a shipped declaration.

    Raises:
        SettingsError: there is no declaration of that name.
    """
    if name not in declarations():
        raise SettingsError(
            f"no declaration {name!r}; there are {', '.join(declarations())}{nearest(name, declarations())}"
        )
    return declarations()[name]


def shipped_declaration(name: str) -> Config:
    """A shipped declaration, parsed.

    Raises:
        SettingsError: there is no declaration of that name.

    >>> shipped_declaration("mnist").model.latents
    64
    """
    return Config.from_dict(tomllib.loads(shipped_text(name)), name)


def shipped() -> dict[str, Config]:
    """All shipped declarations by name."""
    return {name: shipped_declaration(name) for name in declarations()}


def declared(source: str | Path, *more: str | Path) -> Config:
    """A declaration: shipped, by its name; from a TOML file; or made from a data file alone or from several tables.

    Raises:
        SettingsError: no declaration of that name, a file that is not a declaration, or ``more`` with a file that is
            not a table. DataError: a file of single-cell data.
    """
    text = str(source)
    if more:
        texts = [text, *map(str, more)]
        if odd := [text for text in texts if not is_table_file(text)]:
            raise SettingsError(
                f"{odd[0]} is not a table (.csv, .parquet …): only tables are joined, give anything else alone"
            )
        return Config.from_dict({"data": {"source": texts}})
    if text.lower().endswith(".toml"):
        return Config.load(text)
    if is_table_file(text):
        return Config.from_dict({"data": {"source": text}})
    refuse_cells(text)
    return shipped_declaration(text)


def load(
    config: Config,
    data_dir: str | Path | None = None,
    schema: Mapping[str, Any] | None = None,
    layout: Mapping[str, Any] | None = None,
    folder: str | None = None,
) -> Dataset:
    """The rows that a declaration names, divided into training, validation and test rows.

    Args:
        config: the declaration.
        data_dir: directory of named datasets.
        schema: how a file's arrays were encoded when the run was trained; None learns it from the training rows.
        layout: the same for a table's columns.
        folder: the folder that relative paths were relative to when the run was trained. Without it, or where one of
            the files is no longer there, they are relative to the current folder.

    Raises:
        DataError: data missing or damaged, or values that do not fit their kind. SettingsError: no such dataset or
            column.
    """
    config = _located(config, folder)
    if is_table(config):
        return load_tables(config, layout)
    source = str(config.data.source)
    if Path(source).suffix.lower() != ARRAYS:
        refuse_cells(source)
        return reader(source)(data_dir, **config.data.options)
    columns, masks = read_npz(source)
    parts = config.modalities or {name: ModalitySettings() for name in columns if name not in config.covariates}
    kind_of = {name: "categorical" if own.categories else own.kind for name, own in config.covariates.items()}
    parts = parts | {name: ModalitySettings(kind=kind) for name, kind in kind_of.items()}
    if (weights := config.training.row_weights) is not None:
        parts = parts | {weights: parts.get(weights, ModalitySettings(kind="real"))}
    raw = {name: _assembled(name, settings.columns or [name], columns) for name, settings in parts.items()}
    present = {
        name: np.logical_and.reduce([masks[column] for column in settings.columns or [name] if column in masks])
        for name, settings in parts.items()
        if any(column in masks for column in settings.columns or [name])
    }
    kinds: dict[str, Kind] = {n: _kind(n, own.kind) for n, own in parts.items() if own.kind is not None}
    known = None if not schema else {name: ColumnSchema.from_dict(own) for name, own in schema.items()}
    if known is not None and known.keys() != parts.keys():
        raise DataError(f"the run's schema has {', '.join(known)}, and its declaration {', '.join(parts)}")
    return encoded_split(
        raw,
        present,
        kinds=kinds,
        schema=known,
        classes={n: own.categories for n, own in config.covariates.items() if own.categories and not known},
        unlisted=[name for name, own in config.covariates.items() if own.unknown],
        validation=config.data.validation,
        test=config.data.test,
        seed=config.seed,
    )


def folder_of(config: Config) -> str | None:
    """The current folder, if a declaration has files with relative paths; otherwise None."""
    return str(Path.cwd()) if _relative(config) else None


def _relative(config: Config) -> list[str]:
    return [source for source in config.data.sources if is_table_file(source) and not Path(source).is_absolute()]


def _located(config: Config, folder: str | None) -> Config:
    """The declaration with the paths of its files as they are found from here.

    Raises:
        DataError: a file with a relative path is in neither folder.
    """
    files, here = _relative(config), Path.cwd()
    folders = [here] if folder is None or Path(folder) == here else [Path(folder), here]
    if not files:
        return config
    for place in folders:
        if all((place / file).is_file() for file in files):
            found = [str(place / source) for source in config.data.sources]  # an absolute path stays as it is
            change = found if isinstance(config.data.source, list) else found[0]
            return config if place == here else config.change({"data": {"source": change}})
    absent = next(file for file in files if not (folders[0] / file).is_file())
    looked = f"in {here}" if len(folders) == 1 else f"in {folder}, where the run was trained, nor in {here}"
    why = no_file(absent) if (here / absent).exists() else f"there is no such file {looked}"
    raise DataError(f"cannot read {absent} ({why}): correct the path")


def _kind(name: str, kind: str) -> Kind:
    known = get_args(Kind)
    if kind not in known:
        raise SettingsError(
            f"modalities.{name}.kind: a file has {', '.join(known)}, not {kind!r}{nearest(kind, known)}"
        )
    return cast("Kind", kind)


def _assembled(name: str, wanted: Sequence[str], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The columns of a modality as one array: a single column as it is, several side by side."""
    for column in wanted:
        if column not in columns:
            raise SettingsError(
                f"modalities.{name}: no column {column!r}; there are {listed(columns)}{nearest(column, columns)}"
            )
    if len(wanted) == 1:
        return columns[wanted[0]]
    found = [columns[column] for column in wanted]
    if any(column.dtype.kind not in "biuf" for column in found):
        raise SettingsError(f"modalities.{name} has several columns, which must all be of numbers")
    return np.concatenate([column.reshape(len(column), -1) for column in found], axis=1)


def completed(config: Config, data: Dataset) -> Config:
    """The declaration completed from the data: kinds, shapes and classes that it left out.

    Raises:
        SettingsError: ``evaluation.show`` names an undeclared modality, or a value that it cannot have.
    """
    config = _completed(config, data) if data.layout is None else completed_by(config, data.layout, data.train)
    _require_shown(config, data)
    return config


def _completed(config: Config, data: Dataset) -> Config:
    found, covariates = {}, {}
    for name, schema in (data.schema or _proposed(config, data)).items():
        if name in config.covariates:
            covariates[name] = _covariate(name, schema)
            continue
        own = config.modalities.get(name, ModalitySettings())
        said = {"kind": schema.kind, "shape": list(schema.shape) or [1]}
        if schema.kind == "categorical":
            said = {"kind": schema.kind, "classes": max(2, len(schema.classes))}
        if schema.kind == "picture":
            said["levels"] = schema.levels
        found[name] = {key: value for key, value in said.items() if getattr(own, key) is None}
    change = {"modalities": found} | ({"covariates": covariates} if covariates else {})
    return config.resolved().change(change) if found else config.resolved()


def _require_shown(config: Config, data: Dataset) -> None:
    known = (*config.modalities, *config.covariates)
    for text in config.evaluation.show:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise SettingsError(f"evaluation.show has MODALITY=VALUE of {', '.join(known)}, not {text!r}")
        if name in config.covariates and config.covariates[name].unknown:  # any other category may be given
            continue
        try:
            parse_value(data, name, value)
        except QueryError as error:
            raise SettingsError(f"evaluation.show, {text!r}: {error}") from None


def _covariate(name: str, schema: ColumnSchema) -> dict[str, Any]:
    """The settings of a covariate, from its data."""
    if schema.kind == "categorical":
        return {"kind": "categorical", "categories": list(schema.classes)}
    if schema.kind != "real":
        raise SettingsError(f"covariates.{name} is {schema.kind}: say whether it is categorical or real")
    return {"kind": "real", "features": math.prod(schema.shape)}


def _proposed(config: Config, data: Dataset) -> dict[str, ColumnSchema]:
    """The inferred schema of a named dataset's columns, where the declaration has no modalities."""
    if config.modalities:
        return {}
    table = data.train
    return {name: ColumnSchema.fit(name, table.columns[name], table.has(name)) for name in table.names}
