"""Three small modalities, their rows, and reporters, for the tests of fit()."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.training.progress import Reporter

ROWS, BATCH = 23, 5
STEPS = 5  # per epoch: four full batches and one of three rows


def small(seed: int = 0) -> dict[str, Modality]:
    torch.manual_seed(seed)
    return {
        "image": Modality(mlp(4, 4, [6]), mlp(2, 4, [6]), likelihoods.Bernoulli()),
        "label": Modality(LabelEncoder(3, 4, 6), mlp(2, 3, [6]), likelihoods.Categorical(), weight=5.0),
        "sound": Modality(mlp(3, 4, [6]), mlp(2, 3, [6]), likelihoods.Gaussian()),
    }


def model(seed: int = 0, k: int = 0) -> MVAE:
    return MVAE(small(seed), 2, random_subsets=k, cross_from=())


def columns(rows: int = ROWS, seed: int = 1) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (rows,), generator=g)
    image = (torch.rand(rows, 4, generator=g) + label[:, None] / 2) / 2
    return {"image": image, "label": label, "sound": torch.randn(rows, 3, generator=g) + label[:, None]}


def incomplete(filling: float = math.nan) -> Table:
    """A table with a third of the cells missing, which contain nonsense."""
    data = columns()
    g = torch.Generator().manual_seed(2)
    present = {name: torch.rand(ROWS, generator=g) < 0.67 for name in data}
    present["image"] |= ~(present["label"] | present["sound"])
    data["image"][~present["image"]] = filling
    data["sound"][~present["sound"]] = filling
    data["label"][~present["label"]] = -9
    return Table(data, present)


def weights(trained: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Each(Reporter):
    """Calls a function at every step, or at the end of every epoch."""

    every = 0.0

    def __init__(
        self, step: Callable[[int], Any] | None = None, epoch: Callable[[dict[str, float]], Any] | None = None
    ):
        super().__init__()
        self._on_step, self._on_epoch = step, epoch

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        if self._on_step:
            self._on_step(step)

    def on_epoch(self, values: dict[str, float]) -> None:
        if self._on_epoch:
            self._on_epoch(values)


class Watched(MVAE):
    """Records the β and the rows of every step."""

    def __init__(self) -> None:
        super().__init__(small(), 2)
        self.betas: list[float] = []
        self.seen: list[list[float]] = []

    def batch_objective(self, batch, terms=None, *, beta=1.0, generator=None, noise=None):
        if torch.is_grad_enabled():
            self.betas.append(float(beta))
            self.seen.append(torch.as_tensor(batch.columns["image"])[:, 0].tolist())
        return super().batch_objective(batch, terms, beta=beta, generator=generator, noise=noise)
