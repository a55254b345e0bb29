"""fit(): the training loop (Sec. 2.2, App. A), with validation, selection, checkpoints and exact resumption.

Randomness has two sources, both seeded, both saved: the order of the rows of epoch e depends on (seed, e) alone,
and one generator gives the noise and the random subsets. A run that is stopped anywhere and resumed therefore
passes through the same bits as one that never stopped (on a CPU with the same number of threads).
"""

import ctypes
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mvae.data.table import Table
from mvae.errors import RunError, SettingsError
from mvae.evaluation.validation import validate
from mvae.models.base import MultimodalVAE
from mvae.training.checkpoint import CHECKPOINT
from mvae.training.progress import Reporter, TensorBoard, reporter_for, tensorboard
from mvae.training.stages import Stages
from mvae.training.state import History, RunState

__all__ = ["History", "check_settings", "fit", "flushed_denormals", "keep_freed_memory", "stop_signals"]

_STOPPED = threading.Event()  # what the main thread was asked; fits in other threads stop, too
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def fit(
    model: MultimodalVAE,
    table: Table,
    *,
    epochs: int,
    validation: Table | None = None,
    anneal_epochs: int = 0,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    decay_epochs: int = 0,
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
        epochs: passes over the table, in each of the model's stages (all models but TELBO have one).
        validation: rows for model selection, never the test rows. Every epoch their objective is measured (β = 1,
            full and single terms, fixed noise), and the best weights *after annealing has ended* are kept (of a
            stage, before the next one begins).
        anneal_epochs: β rises linearly by step from 0 to exactly 1 over this many epochs of each stage (App. A).
        batch_size: rows a step; the last batch of an epoch may be smaller.
        learning_rate: of Adam.
        decay_epochs: over the last this many epochs of each stage the learning rate falls linearly by step towards 0;
            the noise of Adam's steps falls with it, which is worth a nat of log p(x1) on MNIST.
        seed: of the order of rows, the noise and the random subsets (not of the model's initial weights).
        run_dir: where metrics.jsonl and the checkpoint go, and TensorBoard's events where it is installed; None keeps
            nothing on disk.
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
    check_settings(epochs, anneal_epochs, batch_size, learning_rate, decay_epochs, seed, checkpoint_seconds)
    if resume and run_dir is None:
        raise SettingsError("resume=True needs run_dir=..., the directory of the run to go on with")
    for part in (table, validation):
        if part is not None:
            model.check(part)
    stages = Stages(model, epochs)
    with flushed_denormals(), stages:
        table = _placed(table, model.device)
        run = RunState(stages, table, seed, batch_size, anneal_epochs, learning_rate, decay_epochs)
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
        with stop_signals() as stopped, reporter, tensorboard(directory) as board:
            _train(run, validation, directory, checkpoint_seconds, reporter, board, stopped)
        return run.finish(reporter)


def _train(
    run: RunState,
    validation: Table | None,
    directory: Path | None,
    checkpoint_seconds: float,
    reporter: Reporter,
    board: TensorBoard | None,
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

    epochs = run.stages.all_epochs
    reporter.start(epochs, run.steps_per_epoch, run.global_step, run.batch_size)
    while run.epoch < epochs:
        run.stages.train()
        for _ in run.remaining_steps():
            if run.model.device.type == "cpu":
                run.require_finite()  # at each step, so that the modality is named in which it began
            if reporter.due():
                run.require_finite()
                reporter.update(run.epoch, run.global_step, run.means() | {"beta": run.beta()})
            if stopped():
                save()
                run.history.interrupted = True
                return
            if time.monotonic() - saved > checkpoint_seconds:
                save()
        run.require_finite()
        values: dict[str, float] = {
            "epoch": float(run.epoch + 1),
            "beta": run.beta(),
            "seconds": round(run.elapsed(), 3),
        }
        if len(run.stages.names) > 1:
            values["stage"] = float(run.stage + 1)
        values |= {f"train/{name}": value for name, value in run.means().items()}
        if validation is not None:
            measured = validate(run.model, validation, run.validation_chunk)
            values |= {f"validation/{name}": value for name, value in measured.items()}
            run.select(measured["objective"])
        run.end_epoch(values, directory)
        reporter.epoch(values)
        if board is not None:
            board.epoch(values)
        if time.monotonic() - saved > checkpoint_seconds or run.epoch == epochs:
            save()


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero inside the block: saturated likelihoods are full of them, and slow a CPU fourfold.

    Worker threads inherit the setting when PyTorch starts them, at the first parallel work of a process; a script that
    does such work before `fit` calls ``torch.set_flush_denormal(True)`` at its top.
    """
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    before = bool(tiny * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step: giving large tensors back to the system and getting them
    again takes a tenth of a convolutional step. For a process that trains and ends; nothing where it is not glibc.
    """
    try:
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_MAX, 0)
        c_library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError, TypeError):
        pass


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
    decay_epochs: int = 0,
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
        ("decay_epochs", decay_epochs, 0),
        ("checkpoint_seconds", checkpoint_seconds, 0),
    ):
        if value < least:
            raise SettingsError(f"{name} must be at least {least}, not {value}")
    if decay_epochs > epochs:
        raise SettingsError(f"decay_epochs must be at most the number of epochs, {epochs}, not {decay_epochs}")
    if not 0 < learning_rate < math.inf:
        raise SettingsError(f"learning_rate must be a positive number, not {learning_rate}")
    if not 0 <= seed < 2**31:  # (seed, epoch) make one seed of 63 bits
        raise SettingsError(f"seed must be between 0 and 2³¹ − 1, not {seed}")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step in hand; a second one ends at once.

    Signals reach the main thread only: one that has others train does so inside this block, and they stop with it.
    """

    def ask(number: int, _frame: object) -> None:
        if _STOPPED.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _STOPPED.set()

    if threading.current_thread() is not threading.main_thread():
        yield _STOPPED.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield _STOPPED.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _STOPPED.clear()
