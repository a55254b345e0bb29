"""Callbacks of training: a base class with three events, and one for TensorBoard."""

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

    ``best_epoch`` is the (1-based) epoch whose weights the model now has, or None if it has the last weights. In a
    model with several stages it belongs to the last stage (each stage starts from the best weights of the one before).
    ``interrupted``: a signal stopped training, and the caller's own handler of that signal let the program go on.
    ``warning`` is set where the modalities are not coupled (see `mvae.evaluation.validation`). ``untrained`` names the
    modalities that no training example has (`mvae.MVAE.untrained` names those that the model has never seen).
    """

    epochs: list[dict[str, float]] = field(default_factory=list, repr=False)
    best_epoch: int | None = None
    interrupted: bool = False
    warning: str | None = None
    untrained: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The extent of a training; ``steps_done`` is the number of steps already taken where it is resumed.

    ``model`` is the model in training, for inspection between steps. A callback's changes to its weights are kept.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    steps_done: int = 0
    model: "MultimodalVAE | None" = field(default=None, compare=False, repr=False)


class Callback:
    """The events of `fit`; a subclass overrides those that it needs.

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
        """An epoch has ended with these metrics (a line of metrics.jsonl)."""

    def on_end(self) -> None:
        """Training has ended, for whatever reason; called once for each `on_start`."""


@contextmanager
def started(callbacks: Sequence[Callback], plan: Plan) -> Iterator[None]:
    """A block in which training runs: each callback that is notified of its start is notified of its end."""
    with ExitStack() as ends:  # in reverse order, and all of them even if one fails
        for callback in callbacks:
            callback.on_start(plan)
            ends.callback(callback.on_end)
        yield


class TensorBoard(Callback):
    """Writes every metric of every epoch as a TensorBoard curve to a directory (usually the run's).

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
        """Open the event file."""
        self._writer = self._make(self._directory)

    def on_epoch(self, values: dict[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, int(values["epoch"]))

    def on_end(self) -> None:
        """Write buffered events."""
        self._writer.close()


def tensorboard_where_installed(directory: str | Path) -> list[Callback]:
    """A list with a `TensorBoard` for a directory, or an empty one where the package is not installed."""
    return [TensorBoard(directory)] if importlib.util.find_spec("tensorboard") else []
