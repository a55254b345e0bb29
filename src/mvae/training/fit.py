"""fit(): the training loop (Sec. 2.2, App. A), with validation, model selection, checkpoints and exact resumption.

All randomness is seeded: the order of the rows of epoch e depends on (seed, e) alone, what networks draw themselves on
(seed, step) alone, and two generators, which are saved, give the noise and the random subsets. A run that is stopped
anywhere and resumed is therefore bit for bit the same as one that never stopped (on a CPU with the same number of
threads).
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvae.arguments import checked_arguments, fits
from mvae.data.table import Table
from mvae.errors import SettingsError, abridged
from mvae.evaluation.coupling_warnings import pairs_never_seen
from mvae.evaluation.validation import validate_checked
from mvae.files import as_path, locked
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.networks.products import kept_setting
from mvae.training.callbacks import Callback, History, Plan, started
from mvae.training.distributed import Processes
from mvae.training.progress import Reporter, reporter_for
from mvae.training.resumption import save, start
from mvae.training.settings import TrainingSettings, training_settings
from mvae.training.signals import stop_signals
from mvae.training.stages import Stages
from mvae.training.state import RunState
from mvae.training.switches import flushed_denormals

__all__ = ["History", "fit"]

SEEDS = 2**31  # (seed, epoch) make one seed of 63 bits
_log = logging.getLogger("mvae")


@checked_arguments("data", "validation", "seed")
def fit(
    model: MultimodalVAE,
    data: Data,
    settings: TrainingSettings | None = None,
    *,
    seed: int = 0,
    validation: Data | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
    **changes: Any,
) -> History:
    """Train a model on a table, in place; afterwards it has its best weights and is in eval mode.

    Args:
        model: the model, on the device to train on.
        data: the examples to learn from; a name that is not a modality is an error, except in a `Table`
            (`mvae.models.inputs.Inputs.as_table`). Columns are moved to the model's device if they fit.
        settings: how to train; default `TrainingSettings()`.
        seed: seed of the order of examples, the noise and the random subsets (not of the model's initial weights).
        validation: examples for model selection, never the test examples. Their objective at each epoch's end (β = 1,
            full and single terms, fixed noise) selects a stage's best weights *after annealing has ended*.
        run_dir: directory of metrics.jsonl and the checkpoint; None keeps nothing on disk.
        resume: resume from the checkpoint in ``run_dir``.
        callbacks: notified of each epoch; default: a progress bar on a terminal, lines elsewhere.
        changes: fields of the settings, such as ``epochs=60``.

    If PyTorch has a process group (`mvae.training.distributed.joined`), its processes train together, each on its part
    of every batch. The first one runs the callbacks, validates and writes; all must see the ``run_dir``.

    Signals (Ctrl-C, SIGTERM, SIGHUP) wait for the current step and a checkpoint; then they act as usual.

    Raises:
        SettingsError: an unknown setting, or one outside its range. DataError: rows that do not fit the model, or from
            which it learns nothing. RunError: nothing to resume, or a run directory that is in use or not writable.
        TrainingError: the loss is no longer finite; the message names the modality. The last checkpoint is kept.

    >>> x = torch.randn(200, 3)
    >>> model = mvae.MVAE({"x": mvae.Modality(nn.Linear(3, 4), nn.Linear(2, 3), "gaussian")}, latent_dim=2)
    >>> history = mvae.fit(model, {"x": x}, epochs=2, callbacks=[])
    >>> len(history.epochs)
    2
    """
    settings = training_settings(settings, changes)
    _require_possible(model, settings, seed, validation is not None)
    directory = _directory(run_dir, resume)
    table = model.as_table(data, [settings.row_weights or ""])
    held_out = None if validation is None else _placed(model.as_table(validation, table.names), model.device)
    processes = Processes.here()
    callbacks = [] if not processes.first else [reporter_for()] if callbacks is None else list(callbacks)
    with ExitStack() as inside:
        inside.enter_context(_circumstances(model, directory if processes.first else None, resume))
        stages = inside.enter_context(Stages(model, settings.epochs))
        run = RunState(stages, _placed(table, model.device), settings, int(seed), directory)
        start(run, resume)
        inside.callback(model.eval)
        _require_validation(run, held_out)
        run.history.untrained = _note_what_is_missing(model, table)
        _train(run, held_out, callbacks, inside.enter_context(stop_signals()))
        return run.finish()


def _require_validation(run: RunState, validation: Table | None) -> None:
    if run.schedule is not None and run.schedule.needs_validation and validation is None:
        raise SettingsError("this schedule depends on the validation objective: give validation=...")


def _directory(run_dir: str | Path | None, resume: bool) -> Path | None:
    if resume and run_dir is None:
        raise SettingsError("resume=True needs run_dir=..., the directory of the run to resume")
    return None if run_dir is None else as_path(run_dir, "run_dir")


@contextmanager
def _circumstances(model: MultimodalVAE, directory: Path | None, resume: bool) -> Iterator[None]:
    """Conditions while a model is trained: switches of PyTorch, and a directory that nobody else writes."""
    with ExitStack() as inside:
        off = torch.autocast(model.device.type, enabled=False)  # the settings say the precision
        inside.callback(torch.clear_autocast_cache)  # an outer autocast may have cached weights that have changed
        for context in (flushed_denormals(), kept_setting(), torch.enable_grad(), off):
            inside.enter_context(context)
        if directory is not None and (directory.is_dir() or not resume):
            inside.enter_context(locked(directory))
        yield


def _train(run: RunState, validation: Table | None, callbacks: Sequence[Callback], stopped: Callable[[], bool]) -> None:
    """The loop: steps, and at each epoch's end validation, selection, a line of metrics and perhaps a checkpoint."""
    sizes = run.stages.all_epochs, run.steps_per_epoch, run.settings.batch_size, run.global_step
    plan = Plan(*sizes, run.model)
    saved = time.monotonic()
    with started(callbacks, plan):
        while not run.finished:
            run.stages.train()
            for index in run.batches():
                run.take_step(index)
                if run.step.device.type == "cpu":
                    run.require_finite()  # at each step, to name the modality in which it began
                _notify(run, (partial(_report_step, run, callback) for callback in callbacks))
                if run.processes.any(stopped()):
                    save(run)
                    run.history.interrupted = True
                    return
                if time.monotonic() - saved > run.settings.checkpoint_seconds:
                    save(run)
                    saved = time.monotonic()
            values = _measure_epoch(run, validation)
            run.end_epoch(values)
            _notify(run, (partial(callback.on_epoch, values) for callback in callbacks))
            if time.monotonic() - saved > run.settings.checkpoint_seconds or run.finished:
                save(run)
                saved = time.monotonic()


def _measure_epoch(run: RunState, validation: Table | None) -> dict[str, float]:
    """The metrics of the epoch that has just ended; by them the best weights are selected."""
    run.require_finite()
    values = {"epoch": float(run.epoch + 1), "beta": run.beta(), "seconds": round(run.elapsed(), 3)}
    if len(run.stages.names) > 1:
        values["stage"] = float(run.stage + 1)
    values |= {f"train/{name}": value for name, value in run.means().items()}
    if validation is not None:
        chunk = 1000 if run.model.device.type == "cpu" else 10_000
        measured = run.processes.of_first(partial(validate_checked, run.model, validation, chunk))
        run.require_finite({k: v for k, v in measured.items() if k.startswith(("objective", "reconstruction/", "kl/"))})
        values |= {f"validation/{name}": value for name, value in measured.items()}
        run.select(measured["objective"])
    return values


def _notify(run: RunState, notices: Iterable[Callable[[], None]]) -> None:
    """Notify every callback; if one fails (a closed pipe), save the run before its error ends the training."""
    try:
        for notice in notices:
            notice()
    except Exception:
        save(run)
        raise


def _report_step(run: RunState, callback: Callback) -> None:
    if isinstance(callback, Reporter) and callback.due():
        run.require_finite()
        callback.on_step(run.epoch, run.global_step, run.means() | {"beta": run.beta()})


def _require_possible(model: MultimodalVAE, settings: TrainingSettings, seed: int, validated: bool) -> None:
    """Raises SettingsError where this model cannot be trained this way here; warns of settings without effect."""
    if not fits(seed, int) or not 0 <= seed < SEEDS:
        raise SettingsError(f"seed must be a whole number between 0 and 2³¹ − 1, not {abridged(seed)}")
    if type(model).forward is not MultimodalVAE.forward or "forward" in vars(model):
        raise SettingsError(
            f"{type(model).__name__} overrides forward, which fit does not call: override objective(x, terms, noise, "
            "beta), which training, validation and forward all call"
        )
    if model._forward_hooks or model._forward_pre_hooks:
        _log.warning("forward hooks of a model are not called by fit: hook its networks, or give callbacks=")
    if torch.is_inference_mode_enabled() or any(parameter.is_inference() for parameter in model.parameters()):
        raise SettingsError("fit cannot train inside torch.inference_mode(), nor a model that was built inside it")
    if settings.precision == "bfloat16":
        kinds = {parameter.dtype for parameter in model.parameters()} - {torch.float32}
        if kinds:
            raise SettingsError(f"precision='bfloat16' needs weights of float32, and there are some of {kinds.pop()}")
        device = model.device.type
        if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_bf16_supported()):
            raise SettingsError(f"precision='bfloat16' is not possible on {model.device}")
    if settings.patience is not None:
        if not validated:
            raise SettingsError("patience needs validation=..., the examples that say when to stop")
        if len(model.stages) > 1 or not model.keeps_best:
            raise SettingsError(
                f"patience is for models that are trained in one stage and selected by validation, "
                f"not for {type(model).__name__}"
            )
    if getattr(model, "pseudo_labels", ()) and settings.beta < 1:
        raise SettingsError(
            f"pseudo_labels take effect once β is 1, which beta={settings.beta:g} never reaches: leave one of them out"
        )
    if validated and settings.anneal_epochs > settings.epochs:
        _log.warning(
            "anneal_epochs=%d is more than epochs=%d: no weights are selected by validation before annealing has ended",
            settings.anneal_epochs,
            settings.epochs,
        )


def _placed(table: Table, device: torch.device) -> Table:
    """The table, moved to a GPU if it fits in half of the free memory: batches then cost no transfer."""
    if device.type == "cuda" and table.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return table.to(device)
    return table


def _note_what_is_missing(model: MultimodalVAE, table: Table) -> tuple[str, ...]:
    """The modalities that no example has, which the model remembers; warns of them and of pairs that never occur."""
    seen = table.presence(model.names).any(0).tolist()
    missing = tuple(name for name, any_row in zip(model.names, seen, strict=True) if not any_row)
    if missing:
        _log.warning(
            "no training example has %s: nothing is learned about it, queries for it are refused", ", ".join(missing)
        )
    before = model.names if model.untrained is None else model.untrained  # in an earlier training
    model.untrained = tuple(name for name in before if name in missing)
    if apart := pairs_never_seen(table, [name for name in model.names if name in table.names]):
        _log.warning(apart)
    return missing
