"""Shows progress: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mvae.files import without_prefix
from mvae.training.callbacks import Callback, Plan

__all__ = ["Bar", "Lines", "Reporter", "reporter_for", "shown"]

NAMED = 6  # the most modalities that a line has room for
LINE_SECONDS = 60  # seconds between lines in a long epoch, and those of `shown`


class Reporter(Callback):
    """A callback that is also notified of steps within an epoch, at most every ``every`` seconds."""

    every = 1.0

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def due(self) -> bool:
        """Is it time for `on_step`? (Reading metrics from the device takes time.)"""
        now = time.monotonic()
        if now - self._shown < self.every:
            return False
        self._shown = now
        return True

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """A step was taken, the ``step``-th in all; ``values`` are the means of the (0-based) epoch so far, and β."""


def describe(values: dict[str, float]) -> str:
    """Loss, reconstruction of each modality and KL, in nats, as one short line.

    >>> describe({"loss": 9.0, "reconstruction/image": 5.0, "reconstruction/label": 0.25, "kl/full": 2.0})
    'loss 9.00  image 5.00  label 0.25  KL 2.00'

    With many modalities, the first one and the sum of the others:

    >>> describe({"reconstruction/image": 5.0, **{f"reconstruction/{i}": 0.25 for i in range(18)}})
    'image 5.00  18 others 4.50'
    """
    parts = [f"loss {values['loss']:.2f}"] if "loss" in values else []
    lost = [(k.removeprefix("reconstruction/"), v) for k, v in values.items() if k.startswith("reconstruction/")]
    shown, others = (lost, []) if len(lost) <= NAMED else (lost[:1], lost[1:])
    parts += [f"{name} {value:.2f}" for name, value in shown]
    if others:
        parts.append(f"{len(others)} others {sum(value for _, value in others):.2f}")
    divergences = [v for k, v in values.items() if k.startswith("kl/")]  # the full posterior's, or a single modality's
    if divergences:
        parts.append(f"KL {divergences[0]:.2f}")
    return "  ".join(parts)


class Lines(Reporter):
    """One plain line per epoch (at most one per second), and per minute in long epochs, for logs and pipes."""

    def on_start(self, plan: Plan) -> None:
        """Remember the totals."""
        self._plan, self._began, self._last, self._last_epoch = plan, time.monotonic(), 0.0, 0.0

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Print the metrics of a long epoch so far."""
        if time.monotonic() - max(self._last, self._began) >= LINE_SECONDS:
            share = step / self._plan.steps_per_epoch - epoch
            self._print(f"{epoch + 1}/{self._plan.epochs} ({share:.0%})", step, describe(values), values["beta"])

    def on_epoch(self, values: dict[str, float]) -> None:
        """Print the epoch's metrics."""
        number, plan = int(values["epoch"]), self._plan
        if time.monotonic() - self._last_epoch < 1 and number != plan.epochs:
            return
        self._last_epoch = time.monotonic()
        said = describe(without_prefix("train", values))
        named = (("validation", "validation/objective"), ("coupling", "validation/coupling"))
        found = "".join(f"  {name} {values[key]:.2f}" for name, key in named if key in values)
        self._print(f"{number}/{plan.epochs}", number * plan.steps_per_epoch, said, values["beta"], found)

    def _print(self, epoch: str, step: int, said: str, beta: float, found: str = "") -> None:
        now, plan = time.monotonic(), self._plan
        self._last = now
        rate = (step - plan.steps_done) * plan.batch_size / max(now - self._began, 1e-9)
        left = (plan.epochs * plan.steps_per_epoch - step) * plan.batch_size / max(rate, 1e-9)
        print(
            f"epoch {epoch}  {said}  beta {beta:.2f}{found}  {rate:.0f} examples/s  {left / 60:.1f} min left",
            flush=True,
        )


class Bar(Reporter):
    """A progress bar of rich, with the same numbers."""

    every = 0.25

    def on_start(self, plan: Plan) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._plan, self._began, self._validation = plan, time.monotonic(), ""
        self._progress = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        total = plan.epochs * plan.steps_per_epoch
        self._task = self._progress.add_task(
            "train", total=total, completed=plan.steps_done, epoch="epoch 1", text="", rate=""
        )

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Move the bar."""
        plan = self._plan
        rate = (step - plan.steps_done) * plan.batch_size / max(time.monotonic() - self._began, 1e-9)
        self._progress.update(
            self._task,
            completed=step,
            epoch=f"epoch {epoch + 1}/{plan.epochs}",
            text=f"{describe(values)}  β {values['beta']:.2f}{self._validation}",
            rate=f"{rate:.0f} examples/s",
        )

    def on_epoch(self, values: dict[str, float]) -> None:
        """Move the bar to the epoch's end and remember the validation objective."""
        if "validation/objective" in values:
            self._validation = f"  validation {values['validation/objective']:.2f}"
        number, means = int(values["epoch"]), without_prefix("train", values) | {"beta": values["beta"]}
        self.on_step(number - 1, number * self._plan.steps_per_epoch, means)

    def on_end(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


@contextmanager
def shown(what: str) -> Iterator[Callable[[float], None]]:
    """A function that shows the share of some work that is done: a bar on a terminal, else a line per minute."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=1.0)
            yield lambda share: bar.update(task, completed=share)
        return
    said = time.monotonic()

    def line(share: float) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            print(f"{what} … {share:.0%}", file=sys.stderr, flush=True)

    yield line


def reporter_for() -> Reporter:
    """A bar where standard output and error are terminals, plain lines elsewhere."""
    return Bar() if sys.stdout.isatty() and sys.stderr.isatty() else Lines()
