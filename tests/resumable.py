"""A small run, and a comparison of two runs, for the tests of stopping and resuming."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import RunError
from mvae.files import load_state, save_state
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.training.checkpoint import CHECKPOINT, read_metrics
from mvae.training.fit import History, fit
from mvae.training.progress import Reporter

ROWS, BATCH, STEPS, EPOCHS = 23, 5, 5, 4


def model(seed: int = 0, k: int = 1, class_weights: Sequence[float] | None = None) -> MVAE:
    torch.manual_seed(seed)
    return MVAE(
        {
            "image": Modality(mlp(4, 4, [6]), mlp(2, 4, [6]), likelihoods.Bernoulli()),
            "label": Modality(LabelEncoder(3, 4, 6), mlp(2, 3, [6]), "categorical", 5.0, class_weights=class_weights),
            "sound": Modality(mlp(3, 4, [6]), mlp(2, 3, [6]), likelihoods.Gaussian(learned=True)),
        },
        2,
        random_subsets=k,
        cross_from=(),
    )


def table(complete: bool = True, seed: int = 1) -> Table:
    g = torch.Generator().manual_seed(seed)
    data = {
        "image": torch.rand(ROWS, 4, generator=g),
        "label": torch.randint(0, 3, (ROWS,), generator=g),
        "sound": torch.randn(ROWS, 3, generator=g),
    }
    weight = {"importance": torch.rand(ROWS, generator=torch.Generator().manual_seed(seed + 100)) + 0.1}
    if complete:
        return Table(data | weight)
    present = {name: torch.rand(ROWS, generator=g) < 0.6 for name in data}
    present["label"] |= ~(present["image"] | present["sound"])
    return Table(data | weight, present)


def train(
    built: MVAE, directory: Path | None, complete: bool = True, data: Table | None = None, **changed: Any
) -> History:
    settings: dict[str, Any] = {
        "validation": table(complete, seed=2),
        "epochs": EPOCHS,
        "anneal_epochs": 2,
        "batch_size": BATCH,
        "learning_rate": 1e-2,
        "run_dir": directory,
        "callbacks": [],
    }
    return fit(built, table(complete) if data is None else data, **(settings | changed))


class Signals(Reporter):
    """Sends a signal to this process after step ``at`` of the run."""

    every = 0.0

    def __init__(self, at: int, number: signal.Signals = signal.SIGINT):
        super().__init__()
        self.at, self.number = at, number

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        if step == self.at:
            os.kill(os.getpid(), self.number)


@contextmanager
def handled(number: signal.Signals) -> Iterator[list[int]]:
    """Handle the signal inside the block, so that the process survives it; yield the numbers of signals received."""
    received: list[int] = []
    before = signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(number, before)


def stop(
    built: MVAE, directory: Path, complete: bool = True, *, at: int, number: signal.Signals = signal.SIGINT, **more: Any
) -> History:
    """Train until a signal comes after step ``at``; the caller's own handler lets the program continue."""
    with handled(number) as received:
        history = train(built, directory, complete, callbacks=[Signals(at, number)], **more)
    assert received == [number]
    assert history.interrupted
    return history


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def files(directory: Path) -> set[str]:
    """The names of the files in a run's directory."""
    return {file.name for file in directory.iterdir()}


def assert_same_run(one: Path, other: Path) -> None:
    """Check that weights, best weights, Adam's moments, generators, sums, progress and metrics are bit-identical."""
    (tensors, info), (others, other_info) = load_state(one / CHECKPOINT), load_state(other / CHECKPOINT)
    assert tensors.keys() == others.keys()
    assert {name for name in tensors if not torch.equal(tensors[name], others[name])} == set()
    progress = info.keys() - {"seconds", "metrics_bytes"}  # lines contain seconds, which may have more or fewer digits
    assert {name: info[name] for name in progress} == {name: other_info[name] for name in progress}
    assert untimed(read_metrics(one)) == untimed(read_metrics(other))


def assert_same_weights(one: MVAE, other: MVAE) -> None:
    for (name, value), found in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, found), name


def assert_spoilt_checkpoint_refused(
    directory: Path, spoil: Callable[[dict[str, Any], dict[str, Any]], object], message: str, epochs: int = EPOCHS
) -> None:
    """Resuming a run whose checkpoint was changed is refused in one line, and leaves the given model as it was."""
    train(model(), directory, epochs=epochs)
    tensors, info = load_state(directory / CHECKPOINT)
    spoil(tensors, info)
    save_state(directory / CHECKPOINT, tensors, info)
    fresh = model(seed=4)
    with pytest.raises(RunError, match=message) as caught:
        train(fresh, directory, resume=True)
    assert "\n" not in str(caught.value)
    assert_same_weights(fresh, model(seed=4))
