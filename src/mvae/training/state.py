"""The state of a run of `fit`: what a checkpoint holds, and how it is saved, restored and brought to its end."""

import json
import logging
import math
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from mvae.data.blocks import ReadAhead
from mvae.data.fingerprint import fingerprint
from mvae.data.table import Table
from mvae.errors import RunError, TrainingError
from mvae.evaluation.coupling_warnings import coupling_warning
from mvae.files import check_weights, copied, load_state, load_weights, prefixed, save_state, without_prefix
from mvae.networks.products import Products, choose, gain_of_bfloat16, take
from mvae.training.callbacks import History
from mvae.training.checkpoint import CHECKPOINT, METRICS, Header, read_metrics
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

    It begins with `start`, which makes a fresh start or goes back to a checkpoint.
    """

    step: Step
    schedule: Schedule | None = None

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
        self.saved = False  # is there a checkpoint?
        self._seconds_before, self._started = 0.0, time.monotonic()

    # -- Where it stands -----------------------------------------------------------------------------------

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

    @property
    def finished(self) -> bool:
        """Have all epochs ended, or the last ones without a better validation objective (early stopping)?"""
        if self.epoch >= self.stages.all_epochs:
            return True
        patience, best = self.settings.patience, self.history.best_epoch
        return patience is not None and best is not None and not self.step_in_epoch and self.epoch - best >= patience

    def beta(self) -> float:
        """Linear in the stage's step: 0 at the first, its final value at step `anneal_steps` and ever after."""
        share = min(1.0, self.stage_step / self.anneal_steps) if self.anneal_steps else 1.0
        return self.settings.beta * share

    def rate(self) -> float:
        """The learning rate: constant, and over the last `decay_steps` of a stage falling to 0 after them.

        Where a schedule of the user's own sets it, what the step began with.
        """
        if self.schedule is not None:
            return self.settings.learning_rate
        left = self.steps_per_stage - self.stage_step
        share = min(1.0, left / self.decay_steps) if self.decay_steps else 1.0
        if self.settings.schedule == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.settings.learning_rate * share

    def elapsed(self) -> float:
        """Seconds of training, those before a resumption included."""
        return self._seconds_before + time.monotonic() - self._started

    # -- Training ------------------------------------------------------------------------------------------

    def begin_stage(self, number: int) -> None:
        """Fresh optimizer, fresh annealing and fresh selection, for a stage of the model."""
        self.stage = number
        self.stages.enter(number)
        self.step = Step(self.model, self.table, self.settings, self.seed + (number << 31))
        self.step.plan(self.steps_per_stage)
        make = self.settings.schedule
        self.schedule = None if isinstance(make, str) else Schedule(make, self.step.optimizer)
        self.best, self.best_objective, self.history.best_epoch = {}, math.inf, None

    def batches(self) -> Iterator[Tensor]:
        """The rows of each step that is left of this epoch; their order depends on (seed, epoch) alone."""
        order = row_order(self.table, self.seed, self.epoch)
        ahead, order = ReadAhead(self.table, order), order.to(self.step.index_device)
        while self.step_in_epoch < self.steps_per_epoch:
            start = self.step_in_epoch * self.settings.batch_size
            ahead.reach(start)
            yield order[start : start + self.settings.batch_size]

    def take_step(self, index: Tensor) -> None:
        """One step on these rows, by the schedules of β and of the learning rate."""
        number = self.global_step * self.processes.count + self.processes.rank
        with own_randomness(self.model.device, self.seed, number):
            self.step(index, self.beta(), self.rate())
        self.step_in_epoch += 1

    def means(self) -> dict[str, float]:
        """Training metrics of the epoch so far: loss, reconstruction of each modality, KL of each term."""
        return self.step.means()

    def require_finite(self, values: dict[str, float] | None = None) -> None:
        """Stop before a loss that is not finite is believed; ``values``: others than the epoch's so far."""
        bad = [name for name, value in (values or self.means()).items() if not math.isfinite(value)]
        if bad:
            # A modality's own KL says more than its reconstruction, which in the full term depends on all experts.
            own = [f"{part}/{name}" for part in ("kl", "reconstruction") for name in self.model.names]
            where = next((name for name in own if name in bad), bad[0])
            self._stop(where if values is None else f"validation/{where}")

    def require_finite_weights(self) -> None:
        """Stop before weights are saved that a gradient which is not finite has spoilt (the loss may look well yet)."""
        state = self.model.state_dict().items()
        bad = [name for name, value in state if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            self._stop(bad[0].removeprefix("_modalities."))

    def _stop(self, where: str) -> NoReturn:
        kept = "; the last checkpoint is kept" if self.saved else ""
        raise TrainingError(
            f"{where} is not finite in epoch {self.epoch + 1}, step {self.step_in_epoch}: lower the learning rate "
            f"or look at that modality's values and likelihood{kept}"
        )

    def select(self, objective: float) -> None:
        """Keep the best weights, once annealing has ended: before that the objective is another one."""
        if not self.model.keeps_best:
            return
        if self.stage_step >= self.anneal_steps and objective < self.best_objective:
            self.require_finite_weights()
            self.best_objective, self.best = objective, copied(self.model)
            self.history.best_epoch = self.epoch + 1

    def end_epoch(self, values: dict[str, float]) -> None:
        """Write the epoch's line of metrics; go on to the next epoch and, where one begins, to the next stage."""
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
            with path.open("a") as file:
                file.write(line)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error
        self.metrics_bytes += len(line.encode())

    def use_best(self) -> None:
        """The stage's best weights by validation; where none were chosen, they are simply the last."""
        if self.best:
            load_weights(self.model, self.best, Path("best"))

    def finish(self) -> History:
        """Leave the model with its best weights (where it has come to its end), in eval mode."""
        if not self.history.interrupted:
            self.use_best()
        self.model.eval()
        if self.history.epochs and self.stage_step >= self.anneal_steps:
            row = self.history.epochs[(self.history.best_epoch or 0) - 1]
            measured = without_prefix("validation", row)
            self.history.warning = coupling_warning(measured, self.model.names, bool(self.model.cross_from))
            if self.history.warning:
                _log.warning(self.history.warning)
        return self.history

    # -- Starting, saving, going on ------------------------------------------------------------------------

    def start(self, resume: bool) -> None:
        """A fresh start, or go back to the checkpoint.

        Raises:
            RunError: a run stands in the directory already, or (to resume) none that is the same run.
        """
        if not resume:
            self.products = self.processes.of_first(self._best_products)
            take(self.products)
        with self.processes.first_before():
            if resume and self.directory is not None:
                self._restore(self.directory)
            else:
                if self.directory is not None:
                    self._clear(self.directory)
                self.model.fit_scalings(self.table)
                self.begin_stage(0)
        self.processes.same_start(self.model)

    def _best_products(self) -> Products:
        """How matrix products are taken (`mvae.networks.products`); a step sends three examples through each layer."""
        rows = min(self.settings.batch_size, len(self.table))
        if self.settings.precision == "float32":
            return choose(self.model, rows, 3 * self.stages.all_epochs * len(self.table))
        if (gain := gain_of_bfloat16(self.model, rows)) < 1:
            _log.warning("products in bfloat16 are %.1f times slower here than in float32, and less accurate", 1 / gain)
        return "highest"

    def identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        default, now = TrainingSettings().model_dump(), self.settings.model_dump()
        own = ("schedule", "beta", "optimizer", "weight_decay", "clip_norm", "patience", "precision", "row_weights")
        changed = {name: now[name] for name in own if now[name] != default[name]}
        of_class = {
            n: m.class_weights.tolist() for n, m in self.model.modalities.items() if m.class_weights is not None
        }
        if of_class:
            changed["class_weights"] = of_class
        several = {"epochs of a stage": self.stages.epochs} if len(self.stages.names) > 1 else {}
        decay = {"steps": self.steps_per_stage, "decay_steps": self.decay_steps} if self.decay_steps else {}
        return {
            **several,
            **decay,
            **changed,
            "model": type(self.model).__name__,
            "seed": self.seed,
            "batch_size": self.settings.batch_size,
            "rows": len(self.table),
            "table": self._fingerprint,
            "anneal_steps": self.anneal_steps,
            "learning_rate": self.settings.learning_rate,
            "weights": list(self.model.weights),
        }

    @cached_property
    def _fingerprint(self) -> str:
        weights = [] if self.settings.row_weights is None else [self.settings.row_weights]
        return fingerprint(self.table, [*self.model.names, *self.model.covariates, *weights])

    def save(self) -> None:
        """Write the checkpoint, whole or not at all; nothing where there is no run directory.

        Of several processes, which all stand at the same point, the first one writes.
        """
        if self.directory is None or not self.processes.first:
            return
        if not self.directory.is_dir():  # writing would make it anew, without run.json
            raise RunError(f"cannot write {self.directory}: it was deleted during training. Start again")
        self.require_finite()
        self.require_finite_weights()
        step = self.step.state()
        header = Header(
            settings=self.identity(),
            epoch=self.epoch,
            step_in_epoch=self.step_in_epoch,
            stage=self.model.stage,
            best_epoch=self.history.best_epoch,
            best_objective=self.best_objective,
            metrics_bytes=self.metrics_bytes,
            seconds=self.elapsed(),
            optimizer_tensors=len(without_prefix("optimizer", step)),
            untrained=list(self.model.untrained or ()),
            finished=self.finished,
            products=self.products,
            schedule=None if self.schedule is None else self.schedule.state(),
        )
        tensors = prefixed("model", self.model.state_dict()) | prefixed("best", self.best) | prefixed("step", step)
        try:
            save_state(self.directory / CHECKPOINT, tensors, header.model_dump())
        except RunError as error:
            kept = ". The last checkpoint is kept: resume from it" if self.saved else ""
            raise RunError(f"{error}{kept}") from error
        self.saved = True

    def _clear(self, directory: Path) -> None:
        """Drop what a run that ended before its first checkpoint has left."""
        if (directory / CHECKPOINT).exists():
            raise RunError(f"{directory} holds a run already: resume it, or choose another directory")
        try:
            for left in (directory / METRICS, *_half_written(directory)):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {directory}: {error.strerror}; choose another directory") from error

    def _restore(self, directory: Path) -> None:
        """Go back to the checkpoint; lines of metrics written after it are dropped.

        Raises:
            RunError: no checkpoint, a damaged one, another model's or of other settings; the model is left as it was.
        """
        path = directory / CHECKPOINT
        tensors, info = load_state(path)
        header = Header.read(info, path)
        parts = {name: without_prefix(name, tensors) for name in ("model", "best", "step")}
        self._require_same_run(header.settings)
        self._require_possible(header, parts, path)
        for name in ("model", "best") if parts["best"] else ("model",):
            check_weights(self.model, parts[name], path)
        self.epoch, self.step_in_epoch = header.epoch, header.step_in_epoch
        self.products = header.products
        take(self.products, self.model, min(self.settings.batch_size, len(self.table)))
        self.begin_stage(self.stages.of(self.epoch))
        self.step.restore(parts["step"], path)
        if self.schedule is not None:
            self.schedule.restore(header.schedule, path)
        self.model.untrained = tuple(header.untrained)
        self.history.best_epoch, self.best_objective = header.best_epoch, header.best_objective
        self.metrics_bytes, self._seconds_before = header.metrics_bytes, header.seconds
        self._restore_metrics(directory)
        load_weights(self.model, parts["model"], path)
        self.best = {name: tensor.to(self.model.device) for name, tensor in parts["best"].items()}
        self.saved = True
        for left in _half_written(directory):
            left.unlink(missing_ok=True)

    def _require_same_run(self, before: dict[str, Any]) -> None:
        now = self.identity()
        before = {"model": now["model"], "table": now["table"], **before}  # older checkpoints do not say it
        keys = [key for key in dict.fromkeys([*now, *before]) if key != "table" and before.get(key) != now.get(key)]
        if keys:
            differ = ", ".join(f"{key} {before.get(key)!r} → {now.get(key)!r}" for key in keys)
            raise RunError(f"{self.directory} was trained with other settings ({differ}): resume with the same ones")
        if before["table"] != now["table"]:
            raise RunError(f"{self.directory} was trained on other rows: resume with the same table, or train anew")

    def _require_possible(self, header: Header, parts: dict[str, dict[str, Tensor]], path: Path) -> None:
        """Do header and tensors of a checkpoint agree with each other and with the model?"""
        stage = self.stages.names[self.stages.of(header.epoch)]
        moments = len(without_prefix("optimizer", parts["step"]))
        faults = {
            f"stage {header.stage!r} in epoch {header.epoch}": header.stage != stage,
            f"step {header.step_in_epoch} of {self.steps_per_epoch}": header.step_in_epoch > self.steps_per_epoch,
            f"weights of the best epoch {header.best_epoch}": (header.best_epoch is None) != (not parts["best"]),
            f"{moments} tensors of the optimizer, not {header.optimizer_tensors}": moments != header.optimizer_tensors,
        }
        if found := [fault for fault, is_there in faults.items() if is_there]:
            raise RunError(f"{path} is damaged ({found[0]}); train again in another --run-dir")

    def _restore_metrics(self, directory: Path) -> None:
        path = directory / METRICS
        if not self.metrics_bytes:
            path.unlink(missing_ok=True)
        else:
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
        found = [row.get("epoch") for row in self.history.epochs]
        if len(found) != self.epoch or found != list(range(1, self.epoch + 1)):
            raise RunError(
                f"{path} has other epochs ({len(found)}) than its checkpoint ({self.epoch}); train again in "
                "another --run-dir"
            )


def _half_written(directory: Path) -> list[Path]:
    """What a kill in the middle of a checkpoint leaves behind: our temporary file, and safetensors' own."""
    return [*directory.glob(f".{CHECKPOINT}.*"), *directory.glob(".tmp*")]
