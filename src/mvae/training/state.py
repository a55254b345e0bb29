"""The state of a run of `fit`: its position in training, its steps and epochs, and the best weights so far."""

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from mvae.data.blocks import ReadAhead
from mvae.data.table import Table
from mvae.errors import RunError, TrainingError
from mvae.evaluation.coupling_warnings import coupling_warning
from mvae.files import copied, load_weights, not_finite, without_prefix
from mvae.networks.products import Products
from mvae.training.callbacks import History
from mvae.training.checkpoint import METRICS
from mvae.training.distributed import Processes
from mvae.training.randomness import own_randomness, row_order
from mvae.training.schedule import Schedule
from mvae.training.settings import TrainingSettings
from mvae.training.stages import Stages
from mvae.training.step import Step

__all__ = ["RunState"]

_log = logging.getLogger("mvae")


class RunState:
    """The state of a run: everything that a checkpoint holds, and nothing else that changes.

    It begins with `mvae.training.resumption.start`, which starts afresh or goes back to a checkpoint.

    Attributes:
        identity: what must be equal for a resumed run to be the same run.
        products: PyTorch's setting for matrix products.
        saved: whether there is a checkpoint.
    """

    step: Step
    schedule: Schedule | None = None
    identity: dict[str, Any]

    def __init__(self, stages: Stages, table: Table, settings: TrainingSettings, seed: int, directory: Path | None):
        self.stages, self.model, self.table = stages, stages.model, table
        self.settings, self.seed, self.directory = settings, seed, directory
        self.processes = Processes.here()
        self.products: Products = "highest"
        self.steps_per_epoch = math.ceil(len(table) / settings.batch_size)
        self.anneal_steps = settings.anneal_epochs * self.steps_per_epoch
        self.decay_steps = settings.decay_epochs * self.steps_per_epoch
        self.epoch = self.step_in_epoch = self.stage = 0
        self.best: dict[str, Tensor] = {}
        self.best_objective = math.inf
        self.history = History()
        self.metrics_bytes = 0
        self.saved = False
        self.seconds_before, self._started = 0.0, time.monotonic()

    # -- Position in training ------------------------------------------------------------------------------

    @property
    def steps_per_stage(self) -> int:
        """The number of steps of each stage."""
        return self.stages.epochs * self.steps_per_epoch

    @property
    def global_step(self) -> int:
        """The number of steps taken since the beginning."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    @property
    def stage_step(self) -> int:
        """The number of steps taken in the current stage."""
        return self.global_step - self.stage * self.steps_per_stage

    @property
    def finished(self) -> bool:
        """Have all epochs ended, or has early stopping ended the training?"""
        if self.epoch >= self.stages.all_epochs:
            return True
        patience, best = self.settings.patience, self.history.best_epoch
        return patience is not None and best is not None and not self.step_in_epoch and self.epoch - best >= patience

    def beta(self) -> float:
        """β, linear in the stage's step: 0 at the first, its final value from step `anneal_steps` on."""
        share = min(1.0, self.stage_step / self.anneal_steps) if self.anneal_steps else 1.0
        return self.settings.beta * share

    def rate(self) -> float:
        """The learning rate: constant, then falling over the last `decay_steps` of a stage, to 0 after them.

        With a schedule of the user's own, which sets the rate itself, the initial one.
        """
        if self.schedule is not None:
            return self.settings.learning_rate
        left = self.steps_per_stage - self.stage_step
        share = min(1.0, left / self.decay_steps) if self.decay_steps else 1.0
        if self.settings.schedule == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.settings.learning_rate * share

    def elapsed(self) -> float:
        """Seconds of training, including those before a resumption."""
        return self.seconds_before + time.monotonic() - self._started

    # -- Training ------------------------------------------------------------------------------------------

    def begin_stage(self, number: int) -> None:
        """Begin a stage of the model with a fresh optimizer, annealing and selection."""
        self.stage = number
        self.stages.enter(number)
        self.step = Step(self.model, self.table, self.settings, self.seed + (number << 31))
        self.step.plan(self.steps_per_stage)
        make = self.settings.schedule
        self.schedule = None if isinstance(make, str) else Schedule(make, self.step.optimizer)
        self.best, self.best_objective, self.history.best_epoch = {}, math.inf, None

    def batches(self) -> Iterator[Tensor]:
        """The rows of each remaining step of this epoch; their order depends on (seed, epoch) alone."""
        order = row_order(self.table, self.seed, self.epoch)
        ahead, order = ReadAhead(self.table, order), order.to(self.step.index_device)
        while self.step_in_epoch < self.steps_per_epoch:
            start = self.step_in_epoch * self.settings.batch_size
            ahead.reach(start)
            yield order[start : start + self.settings.batch_size]

    def take_step(self, index: Tensor) -> None:
        """Take a step on these rows, with β and the learning rate by their schedules."""
        number = self.global_step * self.processes.count + self.processes.rank
        with own_randomness(self.step.device, self.seed, number):
            self.step(index, self.beta(), self.rate())
        self.step_in_epoch += 1

    def means(self) -> dict[str, float]:
        """Training metrics of the epoch so far: loss, reconstruction of each modality, KL of each term."""
        return self.step.means()

    def require_finite(self, values: dict[str, float] | None = None) -> None:
        """Stop training if a metric is not finite; ``values``: metrics to check, default the epoch's so far."""
        bad = [name for name, value in (values or self.means()).items() if not math.isfinite(value)]
        if bad:
            # A modality's own KL says more than its reconstruction, which in the full term depends on all experts.
            own = [f"{part}/{name}" for part in ("kl", "reconstruction") for name in self.model.names]
            where = next((name for name in own if name in bad), bad[0])
            self._stop(where if values is None else f"validation/{where}")

    def require_finite_weights(self) -> None:
        """Stop before saving weights that a non-finite gradient has spoilt (the loss may still look fine)."""
        if bad := not_finite(self.model.state_dict()):
            self._stop(bad[0].removeprefix("_modalities."))

    def _stop(self, where: str) -> NoReturn:
        kept = "; the last checkpoint is kept" if self.saved else ""
        raise TrainingError(
            f"{where} is not finite in epoch {self.epoch + 1}, step {self.step_in_epoch}: lower the learning rate "
            f"or look at that modality's values and likelihood{kept}"
        )

    def select(self, objective: float) -> None:
        """Keep the best weights once annealing has ended; before that, a different objective is trained."""
        if not self.model.keeps_best:
            return
        if self.stage_step >= self.anneal_steps and objective < self.best_objective:
            self.require_finite_weights()
            self.best_objective, self.best = objective, copied(self.model)
            self.history.best_epoch = self.epoch + 1

    def end_epoch(self, values: dict[str, float]) -> None:
        """Write the epoch's line of metrics; go on to the next epoch and, if one begins, to the next stage."""
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.step.reset_means()
        if self.schedule is not None:
            self.schedule.step(values.get("validation/objective"))
        self.history.epochs.append(values)
        if self.directory is not None and self.processes.first:
            self._write_metrics(self.directory / METRICS, json.dumps(values) + "\n")
        if (following := self.stages.of(self.epoch)) != self.stage:
            self.use_best()
            self.begin_stage(following)

    def _write_metrics(self, path: Path, line: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error
        self.metrics_bytes += len(line.encode())

    def use_best(self) -> None:
        """Load the stage's best weights by validation; if none were selected, the last ones stay."""
        if self.best:
            load_weights(self.model, self.best, Path("best"))

    def finish(self) -> History:
        """Give the model its best weights unless training was interrupted; return the history."""
        if not self.history.interrupted:
            self.use_best()
        if self.history.epochs and self.stage_step >= self.anneal_steps:
            row = self.history.epochs[(self.history.best_epoch or 0) - 1]
            measured = without_prefix("validation", row)
            self.history.warning = coupling_warning(measured, self.model.names, self.model.cross_from)
            if self.history.warning:
                _log.warning(self.history.warning)
        return self.history
