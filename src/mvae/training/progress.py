"""Where progress goes: a bar on a terminal, plain lines elsewhere, TensorBoard beside either."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Bar", "Lines", "Reporter", "Silent", "TensorBoard", "reporter_for", "shown", "tensorboard"]

NAMED = 6  # modalities that a line has room for
LINE_SECONDS = 60  # between lines of `shown`


class Reporter:
    """The events of `fit`; a subclass shows what it likes. Values are shown at most ``every`` seconds apart."""

    every = 1.0

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, epochs: int, steps_per_epoch: int, done: int, batch_size: int) -> None:
        """Training begins, with ``done`` steps behind it where it is resumed."""

    def due(self) -> bool:
        """Is it time for an `update`? (Reading metrics from the device costs something.)"""
        now = time.monotonic()
        if now - self._shown < self.every:
            return False
        self._shown = now
        return True

    def update(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """The means of the (0-based) epoch so far, and β, after ``step`` steps in all."""

    def epoch(self, values: dict[str, float]) -> None:
        """An epoch has ended, with these metrics."""

    def warn(self, message: str) -> None:
        """Something the user should know."""
        print(f"warning: {message}", file=sys.stderr, flush=True)


class Silent(Reporter):
    """Nothing at all, but warnings."""


def describe(values: dict[str, float]) -> str:
    """Loss, reconstruction of each modality and KL, in nats, as one short line.

    >>> describe({"loss": 9.0, "reconstruction/image": 5.0, "reconstruction/label": 0.25, "kl/full": 2.0})
    'loss 9.00  image 5.00  label 0.25  KL 2.00'

    Of many modalities the first, and the sum of the others:

    >>> describe({"reconstruction/image": 5.0, **{f"reconstruction/{i}": 0.25 for i in range(18)}})
    'image 5.00  18 others 4.50'
    """
    parts = [f"loss {values['loss']:.2f}"] if "loss" in values else []
    lost = [(k.removeprefix("reconstruction/"), v) for k, v in values.items() if k.startswith("reconstruction/")]
    shown, others = (lost, []) if len(lost) <= NAMED else (lost[:1], lost[1:])
    parts += [f"{name} {value:.2f}" for name, value in shown]
    if others:
        parts.append(f"{len(others)} others {sum(value for _, value in others):.2f}")
    divergences = [v for k, v in values.items() if k.startswith("kl/")]  # the full posterior's, or a lone modality's
    if divergences:
        parts.append(f"KL {divergences[0]:.2f}")
    return "  ".join(parts)


class Lines(Reporter):
    """One plain line an epoch (at most one a second when epochs are short), for logs and pipes."""

    def start(self, epochs: int, steps_per_epoch: int, done: int, batch_size: int) -> None:
        """Remember the totals."""
        self._epochs, self._steps, self._rows = epochs, steps_per_epoch, batch_size
        self._began, self._done, self._last = time.monotonic(), done, 0.0

    def epoch(self, values: dict[str, float]) -> None:
        """Print the epoch's metrics."""
        now, number = time.monotonic(), int(values["epoch"])
        if now - self._last < 1 and number != self._epochs:
            return
        self._last = now
        train = {k.removeprefix("train/"): v for k, v in values.items() if k.startswith("train/")}
        step = number * self._steps
        rate = (step - self._done) * self._rows / max(now - self._began, 1e-9)
        left = (self._epochs * self._steps - step) * self._rows / max(rate, 1e-9)
        line = f"epoch {number}/{self._epochs}  {describe(train)}  beta {values['beta']:.2f}"
        if "validation/objective" in values:
            line += f"  validation {values['validation/objective']:.2f}"
        if "validation/coupling" in values:
            line += f"  coupling {values['validation/coupling']:.2f}"
        print(f"{line}  {rate:.0f} examples/s  {left / 60:.1f} min left", flush=True)


class Bar(Reporter):
    """A progress bar by rich, with the same numbers."""

    every = 0.25

    def __enter__(self) -> "Reporter":
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def start(self, epochs: int, steps_per_epoch: int, done: int, batch_size: int) -> None:
        """Set the total."""
        self._epochs, self._steps, self._rows, self._done = epochs, steps_per_epoch, batch_size, done
        self._began, self._validation = time.monotonic(), ""
        self._task: Any = self._progress.add_task(
            "train", total=epochs * steps_per_epoch, completed=done, epoch="epoch 1", text="", rate=""
        )

    def update(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Move the bar."""
        rate = (step - self._done) * self._rows / max(time.monotonic() - self._began, 1e-9)
        self._progress.update(
            self._task,
            completed=step,
            epoch=f"epoch {epoch + 1}/{self._epochs}",
            text=f"{describe(values)}  β {values['beta']:.2f}{self._validation}",
            rate=f"{rate:.0f} examples/s",
        )

    def epoch(self, values: dict[str, float]) -> None:
        """Move the bar to the epoch's end and remember the validation objective."""
        if "validation/objective" in values:
            self._validation = f"  validation {values['validation/objective']:.2f}"
        train = {k.removeprefix("train/"): v for k, v in values.items() if k.startswith("train/")}
        self.update(int(values["epoch"]) - 1, int(values["epoch"]) * self._steps, train | {"beta": values["beta"]})

    def warn(self, message: str) -> None:
        """Print above the bar."""
        from rich.text import Text

        self._progress.console.print(Text("warning: ", "yellow") + Text(message), soft_wrap=True)


@contextmanager
def shown(what: str) -> Iterator[Callable[[float], None]]:
    """A call that is told what share of some work is done: a bar on a terminal, elsewhere a line a minute."""
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
    """A bar where standard error and output are a terminal, plain lines elsewhere."""
    return Bar() if sys.stdout.isatty() and sys.stderr.isatty() else Lines()


class TensorBoard:
    """Every metric of every epoch as a TensorBoard curve, beside the run's other files."""

    def __init__(self, directory: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory))

    def epoch(self, values: dict[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, int(values["epoch"]))

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


@contextmanager
def tensorboard(directory: Path | None) -> Iterator[TensorBoard | None]:
    """A `TensorBoard` for a run directory, where the package is installed; nothing elsewhere."""
    if directory is None or importlib.util.find_spec("tensorboard") is None:
        yield None
        return
    board = TensorBoard(directory)
    try:
        yield board
    finally:
        board.close()
