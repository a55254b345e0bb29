"""The state of a run of `fit`: what a checkpoint holds, and how it is saved, restored and brought to its end."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import RunError, TrainingError
from mvae.evaluation.validation import coupling_warning
from mvae.files import check_weights, copied, load_state, load_weights, prefixed, save_state, without_prefix
from mvae.training.checkpoint import CHECKPOINT, METRICS, read_metrics
from mvae.training.progress import Reporter
from mvae.training.stages import Stages
from mvae.training.step import RECORDING, Step

__all__ = ["History", "RunState"]


@dataclass
class History:
    """What `fit` did: one dict of metrics an epoch, and how it ended.

    ``best_epoch`` is the (1-based) epoch whose weights the model now has, None where they are simply the last; of a
    model with several stages it is the last stage's (each stage goes on from the best weights of the one before).
    ``warning`` is set where the modalities have not met (see `mvae.evaluation.validation`).
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    interrupted: bool = False
    warning: str | None = None


class RunState:
    """The state of a run: everything that a checkpoint holds, and nothing else that changes."""

    def __init__(
        self,
        stages: Stages,
        table: Table,
        seed: int,
        batch_size: int,
        anneal_epochs: int,
        learning_rate: float,
        decay_epochs: int = 0,
    ):
        self.stages, self.model, self.table = stages, stages.model, table
        self.seed, self.batch_size, self.learning_rate = seed, batch_size, learning_rate
        self.steps_per_epoch = math.ceil(len(table) / batch_size)
        self.anneal_steps = anneal_epochs * self.steps_per_epoch
        self.decay_steps = decay_epochs * self.steps_per_epoch
        self.validation_chunk = 1000 if self.model.device.type == "cpu" else 10_000
        self.epoch = self.step_in_epoch = 0
        self.best: dict[str, Tensor]
        self.best_objective: float
        self.history = History()
        self.metrics_bytes = 0
        self._seconds_before, self._started = 0.0, time.monotonic()
        self.begin_stage(0)

    def begin_stage(self, number: int) -> None:
        """Fresh optimiser, fresh annealing and fresh selection, for a stage of the model."""
        self.stage = number
        self.stages.enter(number)
        self.step = Step(
            self.model,
            self.table,
            self.learning_rate,
            self.seed + (number << 31),
            self.batch_size,
            self.steps_per_stage,
        )
        self.best, self.best_objective, self.history.best_epoch = {}, math.inf, None

    @property
    def steps_per_stage(self) -> int:
        """Steps of each stage."""
        return self.stages.epochs * self.steps_per_epoch

    @property
    def global_step(self) -> int:
        """Steps taken since the beginning."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    @property
    def stage_step(self) -> int:
        """Steps taken of the stage in hand."""
        return self.global_step - self.stage * self.steps_per_stage

    def beta(self) -> float:
        """Linear in the stage's step: 0 at the first, 1 at step `anneal_steps` and ever after (no jump at the end)."""
        return min(1.0, self.stage_step / self.anneal_steps) if self.anneal_steps else 1.0

    def rate(self) -> float:
        """The learning rate: constant, then linear in the stage's step over the last `decay_steps`, to 0 after them."""
        left = self.steps_per_stage - self.stage_step
        return self.learning_rate * (min(1.0, left / self.decay_steps) if self.decay_steps else 1.0)

    def elapsed(self) -> float:
        """Seconds of training, those before a resumption included."""
        return self._seconds_before + time.monotonic() - self._started

    def remaining_steps(self) -> Iterator[None]:
        """Take the steps that are left of this epoch; the order of its rows depends on (seed, epoch) alone."""
        shuffle = torch.Generator().manual_seed((self.seed << 32) + self.epoch)
        order = torch.randperm(len(self.table), generator=shuffle).to(self.step.index_device)
        while self.step_in_epoch < self.steps_per_epoch:
            start = self.step_in_epoch * self.batch_size
            with self._own_randomness():
                self.step(order[start : start + self.batch_size], self.beta(), self.rate())
            self.step_in_epoch += 1
            yield

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """What networks draw by themselves (dropout) depends on (seed, step) alone, so a resumed run draws the same."""
        device, own = self.model.device, torch.default_generator
        if device.type == "cuda":
            own = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        with RECORDING:
            before = own.get_state()
            own.manual_seed((self.seed << 32) + self.global_step)
        try:
            yield
        finally:
            with RECORDING:
                own.set_state(before)

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
        if not self.model.keeps_best:
            return
        if self.stage_step >= self.anneal_steps and objective < self.best_objective:
            self.best_objective, self.best = objective, copied(self.model)
            self.history.best_epoch = self.epoch + 1

    def end_epoch(self, values: dict[str, float], directory: Path | None) -> None:
        """Write the epoch's line of metrics; go on to the next epoch and, where one begins, to the next stage."""
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
        if (following := self.stages.of(self.epoch)) != self.stage:
            self.use_best()
            self.begin_stage(following)

    def use_best(self) -> None:
        """The stage's best weights by validation; where none were chosen, they are simply the last."""
        if self.best:
            load_weights(self.model, self.best, Path("best"))

    def settings(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        several = {"epochs of a stage": self.stages.epochs} if len(self.stages.names) > 1 else {}
        decay = {"steps": self.steps_per_stage, "decay_steps": self.decay_steps} if self.decay_steps else {}
        return {
            **several,
            **decay,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "rows": len(self.table),
            "anneal_steps": self.anneal_steps,
            "learning_rate": self.learning_rate,
            "weights": list(self.model.weights),
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
                "stage": self.model.stage,
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
            for left in (directory / METRICS, *_half_written(directory)):
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
            if (before := info["settings"]) != (now := self.settings()):
                keys = dict.fromkeys([*now, *before])
                differ = ", ".join(
                    f"{key} {before.get(key)!r} → {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)
                )
                raise RunError(f"{directory} was trained with other settings ({differ}): resume with the same ones")
            self.epoch, self.step_in_epoch = info["epoch"], info["step_in_epoch"]
            if (stage := self.stages.of(self.epoch)) != self.stage:
                self.begin_stage(stage)
            self.history.best_epoch, self.best_objective = info["best_epoch"], info["best_objective"]
            self.metrics_bytes, self._seconds_before = info["metrics_bytes"], info["seconds"]
        except (KeyError, AttributeError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error} is not in it); train again in another --run-dir") from None
        for part in (weights, best) if best else (weights,):
            check_weights(self.model, part, path)
        self.step.restore(without_prefix("step", tensors), path)
        self._restore_metrics(directory)
        load_weights(self.model, weights, path)
        self.best = {name: tensor.to(self.model.device) for name, tensor in best.items()}
        for left in _half_written(directory):
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
        if not self.history.interrupted:
            self.use_best()
        self.model.eval()
        if self.history.epochs and self.stage_step >= self.anneal_steps:
            row = self.history.epochs[(self.history.best_epoch or 0) - 1]
            prefix = "validation/"
            measured = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
            self.history.warning = coupling_warning(measured, self.model.names, bool(self.model.cross_from))
            if self.history.warning:
                reporter.warn(self.history.warning)
        return self.history


def _half_written(directory: Path) -> list[Path]:
    """What a kill in the middle of a checkpoint leaves behind: our temporary file, and safetensors' own."""
    return [*directory.glob(f".{CHECKPOINT}.*"), *directory.glob(".tmp*")]
