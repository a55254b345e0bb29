"""A run: training what a declaration says into a directory, and opening it again."""

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvae.arguments import require_float64
from mvae.data.dataset import Dataset
from mvae.data.masking import complete_rows, keep_at_random, oversample_complete, pair_fraction
from mvae.data.table import Table
from mvae.data.tables.schema import TableSchema
from mvae.errors import DataError, RunError, SettingsError
from mvae.evaluation.spread import spread_labels
from mvae.files import as_path, load_state, load_weights, locked, read_json, save_state, write_json
from mvae.models.base import MultimodalVAE
from mvae.provenance import commit, describe_device, installed_version
from mvae.runs.build import build
from mvae.runs.config import Config, difference, flattened
from mvae.runs.intervals import fit_holding_back
from mvae.runs.source import completed, declared, folder_of, load
from mvae.training.callbacks import Callback, History
from mvae.training.checkpoint import CHECKPOINT, SETTINGS, Header, amend, best_weights
from mvae.training.distributed import Processes, joined, own_device
from mvae.training.fit import fit
from mvae.training.switches import flushed_denormals

__all__ = ["Run", "device_named", "open_run", "opened_model", "read_run", "train"]

LABELS = "labels.safetensors"  # the labels that were spread, by modality, and which rows have one
FORMAT = 3  # the format of run.json: since 3 it holds the declaration
SELECTED_BY = 1_000  # the fewest validation rows, where only a part of the training rows is used
MAY_DIFFER = ("evaluation.", "summary")  # settings that a resumed run may change


@dataclass(frozen=True, eq=False)
class Run:
    """A trained model with its data (`train` and `open_run` give one).

    Attributes:
        directory: the run directory.
        config: its declaration, with the sizes that come from the data.
        model: the model, with its best weights.
        data: the tables ``data.train``, ``data.validation`` and ``data.test``.
        progress: the number of the best epoch.
    """

    directory: Path
    config: Config
    model: MultimodalVAE
    data: Dataset
    progress: dict[str, Any]

    def __repr__(self) -> str:
        return f"Run({self.directory}: {type(self.model).__name__} of {', '.join(self.model.names)})"


def device_named(name: str | None) -> torch.device:
    """A device by name; None takes a GPU where there is one.

    Raises:
        SettingsError: an unknown name, or a device that is not available or has no float64.
    """
    if name is None:
        return own_device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    require_float64(name)
    try:
        device = own_device(torch.device(name))
        torch.zeros(1, device=device).item()  # "meta" has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise SettingsError(f"no device {name!r} here ({str(error).splitlines()[0]}): try --device cpu") from None
    return device


def train(
    config: Config | str | Path,
    run_dir: str | Path,
    *,
    resume: bool = False,
    data_dir: str | Path | None = None,
    device: str | None = None,
    callbacks: Sequence[Callback] | None = None,
    deterministic: bool = False,
) -> tuple[Run, History]:
    """Train a declaration into a run directory, or resume the run that it holds.

    Processes of torchrun train together; the first one writes (`mvae.training.distributed`).

    Args:
        config: a declaration, the name of a shipped one, or a file.
        run_dir: where run.json, metrics.jsonl and the checkpoint go.
        resume: resume the run in ``run_dir``, which must have the same declaration.
        data_dir: directory of named datasets; default ``$MVAE_DATA``, else a cache.
        device: device to train on; default a GPU where there is one.
        callbacks: as for `mvae.fit`.
        deterministic: give the same bits on a GPU too (slower).

    Raises:
        RunError: ``run_dir`` or ``start_from`` holds no run, or another one.
        SettingsError: an unknown key or name, or a value outside its range.
        DataError: data that is absent, or does not fit the declaration.
        TrainingError: as for `mvae.fit`.

    >>> import tempfile
    >>> change = {"training": {"epochs": 1, "anneal_epochs": 0}}
    >>> run, history = train(declared("digits").change(change), tempfile.mkdtemp(), callbacks=[])
    >>> run.model.names, len(history.epochs), run.data.test
    (('image', 'label'), 1, Table(300 rows; image: 1×8×8 float32; label: scalar int64))
    """
    config = config if isinstance(config, Config) else declared(config)
    run_dir = as_path(run_dir, "the run directory")
    # The switch for denormals comes first: worker threads inherit it when they start.
    with flushed_denormals(), _deterministic(deterministic), joined() as processes:
        config, data = _read(config, run_dir, data_dir, resume, processes)
        model = build(config).to(device_named(device))
        labelled = partial(_labelled, config, data, run_dir, resume, processes)
        table, held_out = _learned_from(config, data, model, labelled)
        if config.start_from is not None and not (run_dir / CHECKPOINT).exists():
            _start_from(model, Path(config.start_from), data)
        with locked(run_dir) if processes.first else nullcontext():
            _begin(run_dir, config, data, model.device, resume, processes.first)
            history = (fit if data.layout is None else fit_holding_back)(
                model,
                table,
                config.training,
                seed=config.seed,
                validation=held_out,
                run_dir=run_dir,
                resume=resume and (run_dir / CHECKPOINT).exists(),  # killed before its first checkpoint, it starts anew
                callbacks=callbacks,
            )
            stretch = {name: buffer for name, buffer in model.named_buffers() if name.endswith(".stretch")}
            if stretch and data.layout is not None and processes.first and not history.interrupted:
                amend(run_dir, stretch)
    return Run(run_dir, config, model, data, {"best_epoch": history.best_epoch}), history


def _read(
    config: Config, run_dir: Path, data_dir: str | Path | None, resume: bool, processes: Processes
) -> tuple[Config, Dataset]:
    """The completed declaration and its data, if the directory is free, or holds this run where it is resumed."""
    if not resume and processes.first:
        _require_free(run_dir)
    with processes.first_before():  # it downloads what is missing
        data = load(config, data_dir)
    said = None if data.layout is None else flattened(config.model_dump(exclude_unset=True))
    config = completed(config, data)
    if resume:
        _require_same(run_dir, config, said)
    return config, data


def _begin(run_dir: Path, config: Config, data: Dataset, device: torch.device, resume: bool, first: bool) -> None:
    """Prepare the run directory: the first process writes run.json; to resume, its vocabulary must fit the data."""
    if resume:
        _require_same_coding(run_dir, data)
    elif first:
        _require_free(run_dir)
        schema = {name: column.to_dict() for name, column in data.schema.items()}
        stored = {"format": FORMAT, "config": config.to_dict(), "schema": schema, "coding": data.vocabulary_id}
        stored |= {} if (folder := folder_of(config)) is None else {"folder": folder}
        stored |= {} if data.layout is None else {"layout": data.layout.to_dict()}
        write_json(run_dir / SETTINGS, stored | _circumstances(device))


def _start_from(model: MultimodalVAE, start: Path, data: Dataset) -> None:
    """Give the model the best weights of a finished run."""
    weights, header = best_weights(start)
    _require_same_coding(start, data, model.names)
    load_weights(model, weights, start / CHECKPOINT)
    model.untrained = tuple(header.untrained)


def _require_free(run_dir: Path) -> None:
    """Raises RunError where the directory already holds a run (one without a checkpoint does not count)."""
    if (run_dir / CHECKPOINT).exists():
        raise RunError(f"{run_dir} holds a run already: go on with --resume, or choose another --run-dir")


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Use PyTorch's deterministic algorithms inside the block, if requested; otherwise leave its switch alone."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _labelled(config: Config, data: Dataset, run_dir: Path, resume: bool, processes: Processes, table: Table) -> Table:
    """The table with spread labels (``data.spread``), which are computed once and kept in the run directory."""
    if not config.data.spread:
        return table
    path = run_dir / LABELS
    with processes.first_before():
        if not path.exists() or (processes.first and not resume):
            for name, first in config.data.spread.items():
                table = spread_labels(_similar(Path(first), config, data), table, name)
            columns = {name: table.select_rows(name, torch.arange(len(table))) for name in config.data.spread}
            save_state(path, columns | {f"{name} present": table.has(name) for name in columns}, {})
    kept, _ = load_state(path)
    for name in config.data.spread:
        table = table.with_column(name, kept[name], kept[f"{name} present"])
    return table


def _similar(run_dir: Path, config: Config, data: Dataset) -> MultimodalVAE:
    """The model of another run, which finds similar rows; it must have seen only rows that this run may train on.

    Raises:
        RunError: it is not a run, or one that encodes columns or splits a table's rows differently.
    """
    theirs, _ = read_run(run_dir)
    model, _ = _trained(run_dir, theirs)
    _require_same_coding(run_dir, data, model.names)
    before, now = (flattened(each.to_dict()) for each in (theirs, config))
    for key in ("seed", "data.validation", "data.test") if data.layout is not None else ():
        if before[key] != now[key]:
            raise RunError(
                f"{run_dir} has other training rows ({key} is {before[key]}, here {now[key]}): train it with the same"
            )
    return model


def _learned_from(
    config: Config, data: Dataset, model: MultimodalVAE, labelled: Callable[[Table], Table] = lambda table: table
) -> tuple[Table, Table | None]:
    """The rows to train on and those to select by; only complete ones where the model needs them."""
    table, validation, chosen = data.train, data.validation, config.data
    if chosen.rows is not None:
        share = min(1.0, chosen.rows / len(table))
        table = table.first(chosen.rows)
        validation = validation.first(max(SELECTED_BY, math.ceil(share * len(validation))))
    if chosen.keep_probability is not None:
        p = chosen.keep_probability
        table, validation = (keep_at_random(part, p, config.seed) for part in (table, validation))
    if chosen.paired_fraction is not None:
        fraction = chosen.paired_fraction
        table, validation = (pair_fraction(part, fraction, config.seed) for part in (table, validation))
    table = labelled(table)
    own = [name for name in table.names if name in (*model.known, *model.covariates, config.training.row_weights)]
    if not model.needs_complete:
        return oversample_complete(table, chosen.oversample, own), validation
    complete = complete_rows(table, own)
    if complete is None:
        raise SettingsError(f"{config.model.name} needs complete rows, and none of the {len(table)} rows is complete")
    return complete, complete_rows(validation, own)


def _circumstances(device: torch.device) -> dict[str, Any]:
    return {
        "command": " ".join(["mvae", *sys.argv[1:]]),
        "commit": commit(),
        "mvae": installed_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": describe_device(device),
    }


def read_run(run_dir: Path) -> tuple[Config, dict[str, Any]]:
    """The declaration of a run, and all of its run.json.

    Raises:
        RunError: not a run directory, one of an older or newer version of this library, or a damaged one.
    """
    path = run_dir / SETTINGS
    if not path.is_file():
        raise RunError(f"{run_dir} is not a run directory: it has no {SETTINGS}. Train one: mvae train digits")
    stored = read_json(path)
    found = stored.get("format")
    if found != FORMAT:
        raise RunError(f"{path} has format {found}; this version reads format {FORMAT}: train the run again")
    for key, kind in (("config", dict), ("schema", dict), ("coding", str | None), ("folder", str | None)):
        if not isinstance(stored.get(key), kind):
            raise RunError(f"{path} is damaged ({key} is missing or wrong): train again in another --run-dir")
    try:
        if stored.get("layout") is not None:
            TableSchema.from_dict(stored["layout"])
        return Config.from_dict(stored["config"]), stored
    except (SettingsError, DataError) as error:
        raise RunError(f"{path} is damaged ({error}): train again in another --run-dir") from None


def _require_same(run_dir: Path, declared: Config, said: Collection[str] | None = None) -> None:
    """Raises RunError where the run to resume has another declaration.

    For a table, ``said`` are the keys that the file declares; all others are chosen from the rows.
    """
    stored, _ = read_run(run_dir)
    before, now = (flattened(config.resolved().to_dict()) for config in (stored, declared))
    keys = [key for key in dict.fromkeys([*before, *now]) if not key.startswith(MAY_DIFFER)]
    keys = [key for key in keys if before.get(key) != now.get(key)]
    if keys:
        differ = "; ".join(difference(key, before.get(key), now.get(key)) for key in keys)
        own = said is None or any(key in said for key in keys)
        why = " (not declared, but chosen by the table: resume with the same rows and options, or train anew)"
        raise RunError(f"{run_dir} cannot be resumed with other settings: {differ}{'' if own else why}")


def _require_same_coding(run_dir: Path, data: Dataset, modalities: Sequence[str] = ()) -> None:
    """Raises RunError where the data's numbers mean something else than when the run was trained.

    For a table, the columns of these ``modalities`` are compared.
    """
    stored = read_json(run_dir / SETTINGS)
    if (before := stored.get("coding")) != data.vocabulary_id:
        raise RunError(
            f"{run_dir} was trained with another vocabulary ({before}) than these files give ({data.vocabulary_id}), "
            "so its numbers would be read as other words: point --data-dir at the files it was trained on"
        )
    if data.layout is None:
        return
    for name in modalities:
        before, now = (_coding(layout, name) for layout in (stored.get("layout") or {}, data.layout.to_dict()))
        if before != now:
            differ = [column for old, column in zip(before, now, strict=False) if old != column]
            what = f"column {differ[0][0]!r}" if differ else f"modality {name!r}"
            raise RunError(f"{run_dir} has another {what} than this table: its place, kind, classes or bounds differ")


def _coding(layout: Mapping[str, Any], modality: str) -> list[list[Any]]:
    """The settings of a modality's columns that give their numbers a meaning."""
    named = {column["name"]: column for column in layout.get("columns", [])}
    coded = ("name", "kind", "classes", "low", "high")
    columns = [[named[name].get(key) for key in coded] for name in layout.get("modalities", {}).get(modality, [])]
    return json.loads(json.dumps(columns))


def open_run(run_dir: str | Path, *, data_dir: str | Path | None = None, device: str | None = None) -> Run:
    """Open a run: its model with the best weights, and its data.

    Raises:
        RunError: not a run directory, no checkpoint yet, damaged, or of another model. DataError: its data is missing.
    """
    run_dir = as_path(run_dir, "the run directory")
    config, stored = read_run(run_dir)
    model, progress = _trained(run_dir, config)
    data = load(config, data_dir, stored.get("schema"), stored.get("layout"), stored.get("folder"))
    _require_same_coding(run_dir, data)
    return Run(run_dir, config, model.to(device_named(device)), data, progress)


def _trained(run_dir: Path, config: Config) -> tuple[MultimodalVAE, dict[str, Any]]:
    """The model with its best weights, in eval mode, and the checkpoint's header."""
    weights, header = best_weights(run_dir)
    model = build(config)
    load_weights(model, weights, run_dir / CHECKPOINT)
    _require_agreement(run_dir, config, model, header)
    model.untrained = tuple(header.untrained)
    model.stage = header.stage  # the terms that are evaluated may depend on it
    return model.eval(), header.model_dump()


def _require_agreement(run_dir: Path, config: Config, model: MultimodalVAE, header: Header) -> None:
    """Raises RunError where a checkpoint was not trained with the settings in run.json."""
    said = {
        "seed": config.seed,
        "batch_size": config.training.batch_size,
        "learning_rate": config.training.learning_rate,
        "weights": list(model.weights),
    }
    held = header.settings
    differ = [f"{key} {held.get(key)!r}, not {value!r}" for key, value in said.items() if held.get(key) != value]
    if header.stage not in model.stages:
        differ.append(f"the stage {header.stage!r}")
    if differ:
        raise RunError(
            f"{run_dir / CHECKPOINT} does not belong to the {SETTINGS} next to it (it has {'; '.join(differ)}): "
            "restore both from one copy, or train again"
        )


def opened_model(run_dir: Path) -> MultimodalVAE:
    """A run's model with its best weights, without its data.

    Raises:
        RunError: as for `open_run`.
    """
    return _trained(run_dir, read_run(run_dir)[0])[0]
