"""Training stages: TELBO's two, each with its own annealing, optimiser and selection, stopped and resumed anywhere."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import RunError
from mvae.evaluation.validation import validate
from mvae.files import load_state
from mvae.models.telbo import TELBO
from mvae.training.callbacks import Callback, Plan
from mvae.training.checkpoint import CHECKPOINT, read_metrics
from mvae.training.fit import History, fit
from mvae.training.progress import Reporter
from tests.models.common import complete, incomplete, parts
from tests.resumable import Signals, assert_same_run, untimed

ROWS, BATCH, STEPS, EPOCHS = 11, 4, 3, 3  # epochs of each stage


def model() -> TELBO:
    return TELBO(parts(), 2)


def other_start() -> TELBO:
    """The same model with other initial weights, which must not matter to a resumed run."""
    built = model()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_()
    return built


def tables(make=complete) -> tuple[Table, Table]:
    torch.manual_seed(5)
    return make(ROWS), make(6)


def train(built: TELBO, make=complete, **changed: Any) -> History:
    table, validation = tables(make)
    settings: dict[str, Any] = {
        "validation": validation,
        "epochs": EPOCHS,
        "anneal_epochs": 1,
        "batch_size": BATCH,
        "learning_rate": 1e-2,
        "callbacks": [],
    }
    return fit(built, table, **(settings | changed))


def weights(built: TELBO) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in built.state_dict().items()}


class Snapshots(Callback):
    """Records the weights at each epoch's end; at a stage's end its best weights."""

    def __init__(self, built: TELBO):
        super().__init__()
        self.built = built
        self.at: list[dict[str, Tensor]] = []

    def on_epoch(self, values: dict[str, float]) -> None:
        self.at.append(weights(self.built))


class Watched(TELBO):
    """Records the stage and the β of every step."""

    def batch_objective(self, batch, terms=None, *, beta=1.0, generator=None, noise=None):
        self.__dict__.setdefault("steps", []).append((self.stage, float(beta)))
        return super().batch_objective(batch, terms, beta=beta, generator=generator, noise=noise)


def test_each_stage_is_trained_for_all_epochs_with_its_own_annealing() -> None:
    built = Watched(parts(), 2)
    history = train(built, anneal_epochs=2)
    betas = [min(1.0, step / (2 * STEPS)) for step in range(EPOCHS * STEPS)]
    assert built.steps == [("joint", beta) for beta in betas] + [("unimodal", beta) for beta in betas]
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert [row["stage"] for row in history.epochs] == [1, 1, 1, 2, 2, 2]
    assert [row["beta"] for row in history.epochs] == [0.5, 1, 1, 0.5, 1, 1]
    assert "train/kl/full" in history.epochs[2]
    assert "train/kl/image" in history.epochs[3]
    assert built.stage == "unimodal"
    assert not built.training


def test_model_of_one_stage_has_no_stage_in_its_metrics() -> None:
    from mvae.models.mvae import MVAE

    history = fit(MVAE(parts(), 2, cross_from=()), complete(5), epochs=1, callbacks=[])
    assert "stage" not in history.epochs[0]


@pytest.mark.parametrize("make", [complete, incomplete])
def test_stage_changes_only_its_own_parameters(make) -> None:
    built = model()
    snapshots = Snapshots(built)
    start = weights(built)
    train(built, make, callbacks=[snapshots], validation=None)
    for name, value in start.items():
        own = name.startswith("unimodal.")
        assert torch.equal(snapshots.at[EPOCHS - 1][name], value) == own
        assert torch.equal(snapshots.at[-1][name], snapshots.at[EPOCHS - 1][name]) != own
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_frozen_parameters_stay_frozen_in_every_stage() -> None:
    built = model()
    frozen = [built.modalities["image"].decoder, built.unimodal["label"]]
    for network in frozen:
        network.requires_grad_(False)
    before = weights(built)
    train(built)
    for name, value in weights(built).items():
        stays = name.startswith(("_modalities.image.decoder", "unimodal.label"))
        assert torch.equal(value, before[name]) == stays, name
    assert all(not p.requires_grad for network in frozen for p in network.parameters())
    assert all(p.requires_grad for p in built.unimodal["image"].parameters())


def test_each_stage_starts_from_the_best_weights_of_the_previous_one() -> None:
    """The learning rate is so high that the last epoch of a stage is not its best."""
    built = model()
    snapshots = Snapshots(built)
    history = train(built, epochs=4, learning_rate=0.4, callbacks=[snapshots])
    objective = [row["validation/objective"] for row in history.epochs]
    first, second = (min(epochs, key=objective.__getitem__) for epochs in (range(4), range(4, 8)))
    assert first != 3, "the test needs a stage whose last epoch is not its best"
    assert second != 7, "the test needs a stage whose last epoch is not its best"
    assert history.best_epoch == second + 1
    for name, value in weights(built).items():
        best = first if name.startswith("_modalities.") else second
        assert torch.equal(value, snapshots.at[best][name]), name
    assert validate(built, tables()[1])["objective"] == pytest.approx(objective[second], rel=1e-12)


def test_stages_draw_different_noise() -> None:
    drawn: list[tuple[float, ...]] = []

    class Listening(TELBO):
        def batch_objective(self, batch, terms=None, *, beta=1.0, generator=None, noise=None):
            assert isinstance(noise, torch.Tensor)
            drawn.append(tuple(noise.flatten().tolist()))
            return super().batch_objective(batch, terms, beta=beta, generator=generator, noise=noise)

    train(Listening(parts(), 2))
    assert len(set(drawn)) == 2 * EPOCHS * STEPS


# -- Stopping and resuming -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TELBO, History]:
    built, directory = model(), tmp_path_factory.mktemp("whole")
    return directory, built, train(built, incomplete, run_dir=directory)


END = EPOCHS * STEPS  # the last step of stage one


@pytest.mark.parametrize("at", [1, 4, END - 1, END, END + 1, END + 4, 2 * END])
def test_run_stopped_in_either_stage_resumes_exactly(uninterrupted, at: int, tmp_path: Path) -> None:
    whole, expected, history = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        train(model(), incomplete, run_dir=tmp_path, callbacks=[Signals(at)])
    _, info = load_state(tmp_path / CHECKPOINT)
    assert info["stage"] == ("joint" if at <= END else "unimodal")
    other = other_start()
    resumed = train(other, incomplete, run_dir=tmp_path, resume=True)
    assert_same_run(tmp_path, whole)
    for name, value in weights(other).items():
        assert torch.equal(value, expected.state_dict()[name]), name
    assert untimed(resumed.epochs) == untimed(history.epochs) == untimed(read_metrics(tmp_path))
    assert (resumed.best_epoch, other.stage) == (history.best_epoch, "unimodal")


def test_run_killed_between_stages_resumes_with_the_second(uninterrupted, tmp_path: Path) -> None:
    """The checkpoint at the end of stage one is that of the beginning of stage two."""

    class Dies(Reporter):
        def on_start(self, plan: Plan) -> None:
            self.left = EPOCHS

        def due(self) -> bool:
            if not self.left:
                raise KeyboardInterrupt  # in the first step after the checkpoint
            return False

        def on_epoch(self, values: dict[str, float]) -> None:
            self.left -= 1

    built = model()
    with pytest.raises(KeyboardInterrupt):
        train(built, incomplete, run_dir=tmp_path, callbacks=[Dies()], checkpoint_seconds=0.0)
    tensors, info = load_state(tmp_path / CHECKPOINT)
    assert (info["epoch"], info["step_in_epoch"], info["stage"]) == (EPOCHS, 0, "unimodal")
    assert not any(name.startswith("best/") for name in tensors)
    assert info["best_objective"] == math.inf
    assert all(parameter.requires_grad for parameter in built.parameters())
    resumed = other_start()
    train(resumed, incomplete, run_dir=tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[0])


def test_resume_with_another_stage_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(model(), run_dir=tmp_path, callbacks=[Signals(2)])
    with pytest.raises(RunError, match="epochs of a stage 3 → 4"):
        train(model(), run_dir=tmp_path, epochs=4, resume=True)
