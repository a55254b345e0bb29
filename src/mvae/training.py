"""fit(): the training loop (Sec. 2.2, App. A), with validation, selection, checkpoints and exact resumption.

Randomness has two sources, both seeded, both saved: the order of the rows of epoch e depends on (seed, e) alone,
and one generator gives the noise and the random subsets. A run that is stopped anywhere and resumed therefore
passes through the same bits as one that never stopped (on a CPU with the same number of threads).
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from mvae.checkpoint import (
    CHECKPOINT,
    METRICS,
    check_weights,
    copied,
    load_state,
    load_weights,
    prefixed,
    read_metrics,
    save_state,
    without_prefix,
)
from mvae.data.table import Table
from mvae.errors import RunError, SettingsError, TrainingError
from mvae.metrics import coupling_warning, validate
from mvae.models.base import MultimodalVAE
from mvae.progress import Reporter, reporter_for
from mvae.steps import Step

__all__ = ["History", "fit"]


@dataclass
class History:
    """What `fit` did: one dict of metrics an epoch, and how it ended.

    ``best_epoch`` is the (1-based) epoch whose weights the model now has, None where they are simply the last.
    ``warning`` is set where the modalities have not met (see `mvae.metrics`).
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    interrupted: bool = False
    warning: str | None = None


def fit(
    model: MultimodalVAE,
    table: Table,
    *,
    epochs: int,
    validation: Table | None = None,
    anneal_epochs: int = 0,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    reporter: Reporter | None = None,
) -> History:
    """Train a model on a table, in place, with Adam; afterwards it has its best weights and is in eval mode.

    Args:
        model: on the device to train on.
        table: the rows to learn from; columns are moved to the model's device when they fit.
        epochs: passes over the table.
        validation: rows for model selection, never the test rows. Every epoch their objective is measured (β = 1,
            full and single terms, fixed noise), and the best weights *after annealing has ended* are kept.
        anneal_epochs: β rises linearly by step from 0 to exactly 1 over this many epochs (App. A).
        batch_size: rows a step; the last batch of an epoch may be smaller.
        learning_rate: of Adam.
        seed: of the order of rows, the noise and the random subsets (not of the model's initial weights).
        run_dir: where metrics.jsonl and the checkpoint go; None keeps nothing on disk.
        resume: go on from the checkpoint in ``run_dir``.
        checkpoint_seconds: how often a checkpoint is written; a kill loses no more than this.
        reporter: where progress goes; default: a progress bar on a terminal, plain lines elsewhere.

    Raises:
        SettingsError: a setting outside its range. DataError: rows that do not fit the model, by number.
        RunError: nothing to resume, or a run directory that cannot be written.
        TrainingError: the loss is no longer finite; the message names the modality, the checkpoint stays.

    >>> from mvae.networks.mlp import mlp
    >>> x = torch.randn(200, 3)
    >>> model = mvae.MVAE({"x": mvae.Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian())}, latent_dim=2)
    >>> history = mvae.fit(model, mvae.Table({"x": x}), epochs=2, reporter=mvae.progress.Silent())
    >>> len(history.epochs)
    2
    """
    check_settings(epochs, anneal_epochs, batch_size, learning_rate, seed, checkpoint_seconds)
    if resume and run_dir is None:
        raise SettingsError("resume=True needs run_dir=..., the directory of the run to go on with")
    torch.set_flush_denormal(True)  # saturated likelihoods fill with denormals, which slow a CPU fourfold
    for part in (table, validation):
        if part is not None:
            model.check(part)
    run = _Run(model, _placed(table, model.device), seed, batch_size, anneal_epochs, learning_rate)
    if validation is not None:
        validation = _placed(validation, model.device)
    directory = Path(run_dir) if run_dir is not None else None
    if resume and directory is not None:
        run.restore(directory)
    elif directory is not None and (directory / CHECKPOINT).exists():
        raise RunError(f"{directory} holds a run already: resume it, or choose another directory")
    elif directory is not None:
        run.begin(directory)
    reporter = reporter or reporter_for()
    with _stop_signals() as stopped, reporter:
        _train(run, epochs, validation, directory, checkpoint_seconds, reporter, stopped)
    return run.finish(reporter)


def _train(
    run: "_Run",
    epochs: int,
    validation: Table | None,
    directory: Path | None,
    checkpoint_seconds: float,
    reporter: Reporter,
    stopped: Callable[[], bool],
) -> None:
    """The loop: steps, and at each epoch's end validation, selection, a line of metrics, perhaps a checkpoint."""
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if directory is not None:
            run.require_finite()
            run.require_finite_weights()
            run.save(directory)
        saved = time.monotonic()

    reporter.start(epochs, run.steps_per_epoch, run.global_step, run.batch_size)
    while run.epoch < epochs:
        run.model.train()
        for _ in run.remaining_steps():
            if run.model.device.type == "cpu":
                run.require_finite()  # at each step, so that the modality is named in which it began
            if reporter.due():
                run.require_finite()
                reporter.update(run.epoch, run.global_step, run.means() | {"beta": run.beta(run.global_step)})
            if stopped():
                save()
                run.history.interrupted = True
                return
            if time.monotonic() - saved > checkpoint_seconds:
                save()
        run.require_finite()
        values: dict[str, float] = {
            "epoch": float(run.epoch + 1),
            "beta": run.beta(run.global_step),
            "seconds": round(run.elapsed(), 3),
        }
        values |= {f"train/{name}": value for name, value in run.means().items()}
        if validation is not None:
            measured = validate(run.model, validation, run.validation_chunk)
            values |= {f"validation/{name}": value for name, value in measured.items()}
            run.select(measured["objective"])
        run.end_epoch(values, directory)
        reporter.epoch(values)
        if time.monotonic() - saved > checkpoint_seconds or run.epoch == epochs:
            save()


class _Run:
    """The state of a run: everything that a checkpoint holds, and nothing else that changes."""

    def __init__(
        self, model: MultimodalVAE, table: Table, seed: int, batch_size: int, anneal_epochs: int, learning_rate: float
    ):
        self.model, self.table, self.seed, self.batch_size = model, table, seed, batch_size
        self.steps_per_epoch = math.ceil(len(table) / batch_size)
        self.anneal_steps = anneal_epochs * self.steps_per_epoch
        self.validation_chunk = 1000 if model.device.type == "cpu" else 10_000
        self.epoch = self.step_in_epoch = 0
        self.best: dict[str, Tensor] = {}
        self.best_objective = math.inf
        self.history = History()
        self.metrics_bytes = 0
        self._seconds_before, self._started = 0.0, time.monotonic()
        self.step = Step(model, table, learning_rate, seed)

    @property
    def global_step(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    def beta(self, step: int) -> float:
        """Linear in the step: 0 at the first, 1 at step `anneal_steps` and ever after (no jump at the end)."""
        return min(1.0, step / self.anneal_steps) if self.anneal_steps else 1.0

    def elapsed(self) -> float:
        """Seconds of training, those before a resumption included."""
        return self._seconds_before + time.monotonic() - self._started

    def remaining_steps(self) -> Iterator[None]:
        """Take the steps that are left of this epoch; the order of its rows depends on (seed, epoch) alone."""
        shuffle = torch.Generator().manual_seed((self.seed << 32) + self.epoch)
        order = torch.randperm(len(self.table), generator=shuffle).to(self.step.index_device)
        while self.step_in_epoch < self.steps_per_epoch:
            start = self.step_in_epoch * self.batch_size
            self.step(order[start : start + self.batch_size], self.beta(self.global_step))
            self.step_in_epoch += 1
            yield

    def means(self) -> dict[str, float]:
        """Training metrics of the epoch so far: loss, reconstruction of each modality, KL of each term."""
        return self.step.means()

    def require_finite(self) -> None:
        """Stop before a loss that is not finite is believed."""
        bad = [name for name, value in self.means().items() if not math.isfinite(value)]
        if bad:
            # A modality's own KL says more than its reconstruction, which in the full term depends on all experts.
            own = [f"{part}/{name}" for part in ("kl", "reconstruction") for name in self.model.names]
            self._stop(next((name for name in own if name in bad), bad[0]))

    def require_finite_weights(self) -> None:
        """Stop before weights are saved that a gradient which is not finite has spoilt (the loss may look well yet)."""
        state = self.model.state_dict().items()
        bad = [name for name, value in state if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            self._stop(bad[0].removeprefix("_modalities."))

    def _stop(self, where: str) -> NoReturn:
        raise TrainingError(
            f"{where} is not finite in epoch {self.epoch + 1}, step {self.step_in_epoch}: lower the learning rate "
            "or look at that modality's values and likelihood; the last checkpoint is kept"
        )

    def select(self, objective: float) -> None:
        """Keep the best weights, once β is 1: before that the objective is another one."""
        if self.global_step >= self.anneal_steps and objective < self.best_objective:
            self.best_objective, self.best = objective, copied(self.model)
            self.history.best_epoch = self.epoch + 1

    def end_epoch(self, values: dict[str, float], directory: Path | None) -> None:
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.step.reset_means()
        self.history.epochs.append(values)
        if directory is not None:
            line = json.dumps(values) + "\n"
            try:
                directory.mkdir(parents=True, exist_ok=True)
                with (directory / METRICS).open("a") as file:
                    file.write(line)
            except OSError as error:
                raise RunError(f"cannot write {directory / METRICS}: {error.strerror}") from error
            self.metrics_bytes += len(line.encode())

    def settings(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "rows": len(self.table),
            "anneal_steps": self.anneal_steps,
            "learning_rate": self.step.learning_rate,
        }

    def save(self, directory: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors = prefixed("model", self.model.state_dict()) | prefixed("best", self.best)
        save_state(
            directory / CHECKPOINT,
            tensors | prefixed("step", self.step.state()),
            {
                "settings": self.settings(),
                "epoch": self.epoch,
                "step_in_epoch": self.step_in_epoch,
                "best_epoch": self.history.best_epoch,
                "best_objective": self.best_objective,
                "metrics_bytes": self.metrics_bytes,
                "seconds": self.elapsed(),
            },
        )

    def begin(self, directory: Path) -> None:
        """A fresh start: drop what a run that was killed before its first checkpoint has left.

        Raises:
            RunError: the directory cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for left in (directory / METRICS, *directory.glob(f".{CHECKPOINT}.*")):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {directory}: {error.strerror}; choose another directory") from error

    def restore(self, directory: Path) -> None:
        """Go back to the checkpoint; lines of metrics written after it are dropped.

        Raises:
            RunError: no checkpoint, a damaged one, another model's or of other settings; the model is left as it was.
        """
        path = directory / CHECKPOINT
        tensors, info = load_state(path)
        weights, best = without_prefix("model", tensors), without_prefix("best", tensors)
        try:
            if info["settings"] != self.settings():
                differ = ", ".join(
                    f"{key} {old!r} → {new!r}"
                    for key, new in self.settings().items()
                    if (old := info["settings"].get(key)) != new
                )
                raise RunError(f"{directory} was trained with other settings ({differ}): resume with the same ones")
            self.epoch, self.step_in_epoch = info["epoch"], info["step_in_epoch"]
            self.history.best_epoch, self.best_objective = info["best_epoch"], info["best_objective"]
            self.metrics_bytes, self._seconds_before = info["metrics_bytes"], info["seconds"]
        except (KeyError, AttributeError) as error:
            raise RunError(f"{path} is damaged ({error} is not in it); train again in another --run-dir") from None
        for part in (weights, best) if best else (weights,):
            check_weights(self.model, part, path)
        self.step.restore(without_prefix("step", tensors), path)
        self._restore_metrics(directory)
        load_weights(self.model, weights, path)
        self.best = {name: tensor.to(self.model.device) for name, tensor in best.items()}
        for left in directory.glob(f".{CHECKPOINT}.*"):  # of a kill while one was written
            left.unlink(missing_ok=True)

    def _restore_metrics(self, directory: Path) -> None:
        path = directory / METRICS
        if not self.metrics_bytes:
            path.unlink(missing_ok=True)
            return
        try:
            if path.stat().st_size < self.metrics_bytes:
                raise RunError(
                    f"{path} is shorter than when its checkpoint was written; train again in another --run-dir"
                )
            with path.open("rb+") as file:
                file.truncate(self.metrics_bytes)
        except OSError as error:
            raise RunError(f"cannot use {path}: {error.strerror}; train again in another --run-dir") from error
        self.history.epochs = read_metrics(directory)

    def finish(self, reporter: Reporter) -> History:
        """Leave the model with its best weights, in eval mode."""
        if not self.history.interrupted and self.best:
            load_weights(self.model, self.best, Path("best"))
        self.model.eval()
        if self.history.epochs and self.global_step >= self.anneal_steps:
            row = self.history.epochs[(self.history.best_epoch or 0) - 1]
            prefix = "validation/"
            measured = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
            self.history.warning = coupling_warning(measured, self.model.names)
            if self.history.warning:
                reporter.warn(self.history.warning)
        return self.history


def _placed(table: Table, device: torch.device) -> Table:
    """On a GPU, the whole table when half of the free memory holds it: batches then cost no transfer."""
    if device.type == "cuda" and table.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return table.to(device)
    return table


def check_settings(
    epochs: int,
    anneal_epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    checkpoint_seconds: float = 0,
) -> None:
    """Are the settings of `fit` in their ranges?

    Raises:
        SettingsError: naming the one that is not, and what it may be.
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("anneal_epochs", anneal_epochs, 0),
        ("batch_size", batch_size, 1),
        ("checkpoint_seconds", checkpoint_seconds, 0),
    ):
        if value < least:
            raise SettingsError(f"{name} must be at least {least}, not {value}")
    if not 0 < learning_rate < math.inf:
        raise SettingsError(f"learning_rate must be a positive number, not {learning_rate}")
    if not 0 <= seed < 2**31:  # (seed, epoch) make one seed of 63 bits
        raise SettingsError(f"seed must be between 0 and 2³¹ − 1, not {seed}")


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step in hand; a second one ends at once."""
    stopped = False

    def ask(number: int, _frame: object) -> None:
        nonlocal stopped
        if stopped:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stopped = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
