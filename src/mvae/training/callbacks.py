"""Callbacks of a training: a base class of three events, and TensorBoard as one of them."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mvae.errors import MissingDependencyError

if TYPE_CHECKING:
    from mvae.models.base import MultimodalVAE

__all__ = ["Callback", "History", "Plan", "TensorBoard", "started", "tensorboard_where_installed"]


@dataclass
class History:
    """What `fit` did: one dict of metrics per epoch, and how it ended.

    ``best_epoch`` is the (1-based) epoch whose weights the model now has, None where they are simply the last; of a
    model with several stages it is the last stage's (each stage goes on from the best weights of the one before).
    ``interrupted``: a signal stopped it, and the caller's own handler of that signal let the program go on.
    ``warning`` is set where the modalities are not coupled (see `mvae.evaluation.validation`). ``untrained`` names the
    modalities that no training example has (what the model has never seen: `mvae.MVAE.untrained`).
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    interrupted: bool = False
    warning: str | None = None
    untrained: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a training has before it: ``steps_done`` of its steps are behind it where it is resumed.

    ``model`` is what is trained, to be looked at between steps: what a callback does to its weights is trained on.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    steps_done: int = 0
    model: "MultimodalVAE | None" = field(default=None, compare=False, repr=False)


class Callback:
    """The events of `fit`; a subclass overrides what it needs.

    >>> class Losses(Callback):
    ...     def on_start(self, plan):
    ...         self.losses = []
    ...
    ...     def on_epoch(self, values):
    ...         self.losses.append(values["train/loss"])
    """

    def on_start(self, plan: Plan) -> None:
        """Training begins."""

    def on_epoch(self, values: dict[str, float]) -> None:
        """An epoch has ended, with these metrics (a line of metrics.jsonl)."""

    def on_end(self) -> None:
        """Training has ended, for whatever reason; called once for each `on_start`."""


@contextmanager
def started(callbacks: Sequence[Callback], plan: Plan) -> Iterator[None]:
    """Training goes on inside the block: each callback that was notified of its start is notified of its end."""
    with ExitStack() as ends:  # in reverse, and all of them, also where one fails
        for callback in callbacks:
            callback.on_start(plan)
            ends.callback(callback.on_end)
        yield


class TensorBoard(Callback):
    """Every metric of every epoch as a TensorBoard curve, in a directory (usually the run's).

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, directory: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingDependencyError("TensorBoard is not installed: pip install 'mvae[tensorboard]'") from None
        self._make, self._directory = SummaryWriter, str(directory)

    def on_start(self, plan: Plan) -> None:
        """Open the file of events."""
        self._writer = self._make(self._directory)

    def on_epoch(self, values: dict[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, int(values["epoch"]))

    def on_end(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def tensorboard_where_installed(directory: str | Path) -> list[Callback]:
    """A `TensorBoard` for a directory, or nothing where the package is not installed."""
    return [TensorBoard(directory)] if importlib.util.find_spec("tensorboard") else []
