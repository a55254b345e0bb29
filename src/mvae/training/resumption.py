"""Starts and saves a run of `fit`, and resumes it from its checkpoint, bit for bit as an uninterrupted run."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from mvae.data.fingerprint import fingerprint
from mvae.errors import RunError
from mvae.files import check_weights, load_state, load_weights, prefixed, save_state, without_prefix
from mvae.networks.products import Products, choose, gain_of_bfloat16, take
from mvae.training.checkpoint import CHECKPOINT, METRICS, Header, read_metrics
from mvae.training.settings import TrainingSettings
from mvae.training.state import RunState

__all__ = ["save", "start"]

_log = logging.getLogger("mvae")


def start(run: RunState, resume: bool) -> None:
    """Start afresh, or go back to the checkpoint.

    Raises:
        RunError: the directory already holds a run or, to resume, no run or a different one.
    """
    if not resume:
        run.products = run.processes.of_first(lambda: _best_products(run))
        take(run.products)
    with run.processes.first_before():
        if run.directory is not None and not resume:
            _clear(run.directory)
        run.identity = {} if run.directory is None else _identity(run)
        if resume and run.directory is not None:
            _restore(run, run.directory)
        else:
            run.model.fit_scalings(run.table)
            run.begin_stage(0)
    run.processes.same_start(run.model)


def save(run: RunState) -> None:
    """Write the checkpoint atomically; without a run directory, do nothing.

    Of several processes, all at the same step, the first one writes.

    Raises:
        RunError: it cannot be written; an earlier one is kept. TrainingError: weights that are not finite.
    """
    if run.directory is None or not run.processes.first:
        return
    if not run.directory.is_dir():  # writing would recreate it without run.json
        raise RunError(f"cannot write {run.directory}: it was deleted during training. Start again")
    run.require_finite()
    run.require_finite_weights()
    step = run.step.state()
    header = Header(
        settings=run.identity,
        epoch=run.epoch,
        step_in_epoch=run.step_in_epoch,
        stage=run.model.stage,
        best_epoch=run.history.best_epoch,
        best_objective=run.best_objective,
        metrics_bytes=run.metrics_bytes,
        seconds=run.elapsed(),
        optimizer_tensors=len(without_prefix("optimizer", step)),
        untrained=list(run.model.untrained or ()),
        finished=run.finished,
        products=run.products,
        schedule=None if run.schedule is None else run.schedule.state(),
    )
    tensors = prefixed("model", run.model.state_dict()) | prefixed("best", run.best) | prefixed("step", step)
    try:
        save_state(run.directory / CHECKPOINT, tensors, header.model_dump())
    except RunError as error:
        kept = ". The last checkpoint is kept: resume from it" if run.saved else ""
        raise RunError(f"{error}{kept}") from error
    run.saved = True


def _best_products(run: RunState) -> Products:
    """The setting for matrix products (`mvae.networks.products`); an example passes each layer about three times."""
    rows = min(run.settings.batch_size, len(run.table))
    if run.settings.precision == "float32":
        return choose(run.model, rows, 3 * run.stages.all_epochs * len(run.table))
    if (gain := gain_of_bfloat16(run.model, rows)) < 1:
        _log.warning("products in bfloat16 are %.1f times slower here than in float32, and less accurate", 1 / gain)
    return "highest"


def _identity(run: RunState) -> dict[str, Any]:
    """What must be equal for a resumed run to be the same run."""
    settings, model = run.settings, run.model
    default, now = TrainingSettings().model_dump(), settings.model_dump()
    own = ("schedule", "beta", "optimizer", "weight_decay", "clip_norm", "patience", "precision", "row_weights")
    changed = {name: now[name] for name in own if now[name] != default[name]}
    of_class = {n: m.class_weights.tolist() for n, m in model.modalities.items() if m.class_weights is not None}
    if of_class:
        changed["class_weights"] = of_class
    several = {"epochs of a stage": run.stages.epochs} if len(run.stages.names) > 1 else {}
    decay = {"steps": run.steps_per_stage, "decay_steps": run.decay_steps} if run.decay_steps else {}
    weights = [] if settings.row_weights is None else [settings.row_weights]
    return {
        **several,
        **decay,
        **changed,
        "model": type(model).__name__,
        "seed": run.seed,
        "batch_size": settings.batch_size,
        "rows": len(run.table),
        "table": fingerprint(run.table, [*model.names, *model.covariates, *weights]),
        "anneal_steps": run.anneal_steps,
        "learning_rate": settings.learning_rate,
        "weights": list(model.weights),
    }


def _clear(directory: Path) -> None:
    """Delete what a run that ended before its first checkpoint has left."""
    if (directory / CHECKPOINT).exists():
        raise RunError(f"{directory} holds a run already: resume it, or choose another directory")
    try:
        for left in (directory / METRICS, *_half_written(directory)):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {directory}: {error.strerror}; choose another directory") from error


def _restore(run: RunState, directory: Path) -> None:
    """Go back to the checkpoint; lines of metrics written after it are dropped.

    Raises:
        RunError: no checkpoint, a damaged one, or one of another model or other settings; the model is left as it was.
    """
    path = directory / CHECKPOINT
    tensors, info = load_state(path)
    header = Header.read(info, path)
    parts = {name: without_prefix(name, tensors) for name in ("model", "best", "step")}
    _require_same_run(header.settings, run.identity, directory)
    _require_possible(run, header, parts, path)
    for name in ("model", "best") if parts["best"] else ("model",):
        check_weights(run.model, parts[name], path)
    run.epoch, run.step_in_epoch = header.epoch, header.step_in_epoch
    run.products = header.products
    take(run.products, run.model, min(run.settings.batch_size, len(run.table)))
    run.begin_stage(run.stages.of(run.epoch))
    run.step.restore(parts["step"], path)
    if run.schedule is not None:
        run.schedule.restore(header.schedule, path)
    run.model.untrained = tuple(header.untrained)
    run.history.best_epoch, run.best_objective = header.best_epoch, header.best_objective
    run.metrics_bytes, run.seconds_before = header.metrics_bytes, header.seconds
    _restore_metrics(run, directory)
    load_weights(run.model, parts["model"], path)
    run.best = {name: tensor.to(run.model.device) for name, tensor in parts["best"].items()}
    run.saved = True
    for left in _half_written(directory):
        left.unlink(missing_ok=True)


def _require_same_run(before: dict[str, Any], now: dict[str, Any], directory: Path) -> None:
    before = {"model": now["model"], "table": now["table"], **before}  # older checkpoints do not have them
    keys = [key for key in dict.fromkeys([*now, *before]) if key != "table" and before.get(key) != now.get(key)]
    if keys:
        differ = ", ".join(f"{key} {before.get(key)!r} → {now.get(key)!r}" for key in keys)
        raise RunError(f"{directory} was trained with other settings ({differ}): resume with the same ones")
    if before["table"] != now["table"]:
        raise RunError(f"{directory} was trained on other rows: resume with the same table, or train anew")


def _require_possible(run: RunState, header: Header, parts: dict[str, dict[str, Tensor]], path: Path) -> None:
    """Raises RunError where header and tensors of a checkpoint disagree with each other or with the model."""
    stage = run.stages.names[run.stages.of(header.epoch)]
    moments = len(without_prefix("optimizer", parts["step"]))
    faults = {
        f"stage {header.stage!r} in epoch {header.epoch}": header.stage != stage,
        f"step {header.step_in_epoch} of {run.steps_per_epoch}": header.step_in_epoch > run.steps_per_epoch,
        f"weights of the best epoch {header.best_epoch}": (header.best_epoch is None) != (not parts["best"]),
        f"{moments} tensors of the optimizer, not {header.optimizer_tensors}": moments != header.optimizer_tensors,
    }
    if found := [fault for fault, is_there in faults.items() if is_there]:
        raise RunError(f"{path} is damaged ({found[0]}); train again in another --run-dir")


def _restore_metrics(run: RunState, directory: Path) -> None:
    path, again = directory / METRICS, "train again in another --run-dir"
    if not run.metrics_bytes:
        path.unlink(missing_ok=True)
    else:
        try:
            if path.stat().st_size < run.metrics_bytes:
                raise RunError(f"{path} is shorter than when its checkpoint was written; {again}")
            with path.open("rb+") as file:
                file.truncate(run.metrics_bytes)
        except OSError as error:
            raise RunError(f"cannot use {path}: {error.strerror}; {again}") from error
        run.history.epochs = read_metrics(directory)
    found = [row.get("epoch") for row in run.history.epochs]
    if len(found) != run.epoch or found != list(range(1, run.epoch + 1)):
        raise RunError(f"{path} has other epochs ({len(found)}) than its checkpoint ({run.epoch}); {again}")


def _half_written(directory: Path) -> list[Path]:
    """What a kill during the writing of a checkpoint leaves behind: our temporary file, and safetensors' own."""
    return [*directory.glob(f".{CHECKPOINT}.*"), *directory.glob(".tmp*")]
