"""Training controls: each matches a naive reference, and resumes bit-for-bit."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler as schedules

from mvae.data.table import Table
from mvae.errors import RunError, SettingsError
from mvae.evaluation.prediction import prediction_accuracy
from mvae.files import load_state
from mvae.models.telbo import TELBO
from mvae.training.checkpoint import CHECKPOINT
from mvae.training.fit import fit
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step
from tests.models.common import parts
from tests.resumable import EPOCHS, STEPS, assert_same_run, assert_same_weights, model, stop, table, train
from tests.small_training import Each, Watched, columns

CONTROLS: list[dict[str, Any]] = [
    {"clip_norm": 0.5},
    {"weight_decay": 0.1},
    {"beta": 0.5},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "sgd"},
    {"optimizer": torch.optim.RMSprop},
    {"optimizer": torch.optim.NAdam},
    {"schedule": "cosine", "decay_epochs": 2},
    {"schedule": lambda optimizer: schedules.StepLR(optimizer, 1, 0.5)},
    {"schedule": lambda optimizer: schedules.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS + 1)},  # also the momentum
    {"schedule": lambda optimizer: schedules.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)},
    {"precision": "bfloat16"},
    {"row_weights": "importance"},
    {"patience": 1, "epochs": 30, "learning_rate": 0.3},
]


def named(control: dict[str, Any]) -> str:
    return "-".join(f"{key}={getattr(value, '__name__', value)}" for key, value in control.items())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights trained without a control."""
    learned = model()
    train(learned, tmp_path_factory.mktemp("plain"))
    return learned.state_dict()


@pytest.mark.parametrize("control", CONTROLS, ids=named)
def test_control_changes_the_run_and_resumes_exactly(
    control: dict[str, Any], plain: dict[str, Tensor], tmp_path: Path
) -> None:
    """Also within an epoch."""
    whole = model()
    train(whole, tmp_path / "whole", **control)
    for at in (7, STEPS * 3):
        parts = tmp_path / str(at)
        stop(model(), parts, at=at, **control)
        resumed = model(seed=9)
        train(resumed, parts, resume=True, **control)
        assert_same_run(parts, tmp_path / "whole")
        assert_same_weights(resumed, whole)
    shared = {name: value for name, value in control.items() if name in ("epochs", "decay_epochs", "learning_rate")}
    if shared:
        other = model()
        train(other, tmp_path / "other", **shared)
        plain = other.state_dict()
    assert any(not torch.equal(value, plain[name]) for name, value in whole.state_dict().items()), (
        "the control does nothing"
    )
    with pytest.raises(RunError, match="was trained with other settings"):
        train(model(), tmp_path / "whole", resume=True, **shared)


@pytest.mark.parametrize("at", [7, STEPS * 3])
def test_class_weights_resume_exactly_and_may_not_change(at: int, tmp_path: Path) -> None:
    whole, stopped, resumed = (model(seed, class_weights=[1, 9, 3]) for seed in (0, 0, 9))
    train(whole, tmp_path / "whole")
    stop(stopped, tmp_path / "parts", at=at)
    train(resumed, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert_same_weights(resumed, whole)
    for other in (None, [1, 9, 2]):
        with pytest.raises(RunError, match=r"other settings \(class_weights {'label': \[1\.0, 9\.0, 3\.0\]} → "):
            train(model(class_weights=other), tmp_path / "whole", resume=True)


def one_step(settings: TrainingSettings) -> dict[str, Tensor]:
    built = model(k=0).train()
    step = Step(built, Table(columns()), settings)
    step(torch.arange(9), 1.0, settings.learning_rate)
    return dict(built.named_parameters())


def gradients() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters before the step of `one_step`, and their gradients."""
    built = model(k=0).train()
    generator = torch.Generator().manual_seed(0)
    built(Table(columns()).take(torch.arange(9)), generator=generator).loss.backward()
    parameters = {name: p for name, p in built.named_parameters() if p.grad is not None}
    return {n: p.detach().double() for n, p in parameters.items()}, {n: p.grad.double() for n, p in parameters.items()}  # pyright: ignore


def test_gradients_are_clipped_by_their_common_norm() -> None:
    before, slopes = gradients()
    norm = math.sqrt(sum(float(g.square().sum()) for g in slopes.values()))
    for limit in (norm / 3, norm * 3):
        found = one_step(TrainingSettings(optimizer="sgd", learning_rate=0.1, clip_norm=limit))
        for name, value in before.items():
            expected = value - 0.1 * slopes[name] * min(1.0, limit / norm)
            torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-6)


def test_weight_decay_is_coupled_in_sgd_and_decoupled_in_adamw() -> None:
    before, slopes = gradients()
    for name in ("sgd", "adamw"):
        found = one_step(TrainingSettings(optimizer=name, learning_rate=0.01, weight_decay=0.2))
        for key, value in before.items():
            slope = slopes[key]
            if name == "sgd":
                expected = value - 0.01 * (slope + 0.2 * value)
            else:  # the first step of Adam is the sign of the gradient
                expected = value * (1 - 0.01 * 0.2) - 0.01 * slope / (slope.abs() + 1e-8)
            torch.testing.assert_close(found[key].double(), expected, rtol=1e-4, atol=2e-6)


def test_beta_is_annealed_to_its_value() -> None:
    watched = Watched()
    fit(watched, Table(columns()), epochs=4, anneal_epochs=2, batch_size=5, beta=0.25, callbacks=[])
    assert watched.betas == [0.25 * min(1.0, step / 10) for step in range(20)]


def test_cosine_schedule_falls_to_0() -> None:
    used = []

    class Watching(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    fit(
        model(),
        Table(columns()),
        epochs=4,
        decay_epochs=2,
        batch_size=5,
        learning_rate=0.01,
        schedule="cosine",
        optimizer=Watching,
        callbacks=[],
    )
    falling = [0.01 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert used == pytest.approx([0.01] * 10 + falling)


def test_too_short_schedule_is_reported() -> None:
    def short(optimizer: torch.optim.Optimizer) -> schedules.LRScheduler:
        return schedules.OneCycleLR(optimizer, 0.1, total_steps=1)

    with pytest.raises(SettingsError, match=r"schedule is stepped after each epoch, and failed: Tried to step 2 times"):
        fit(model(), table(), epochs=3, callbacks=[], schedule=short)


def test_own_schedule_is_stepped_after_each_epoch(tmp_path: Path) -> None:
    used: list[float] = []

    class Watching(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    control: dict[str, Any] = {
        "optimizer": Watching,
        "schedule": lambda optimizer: schedules.ReduceLROnPlateau(
            optimizer, factor=0.1, patience=0, threshold=1e9, threshold_mode="abs"
        ),
    }
    train(model(), None, learning_rate=1e-3, **control)  # never better than the first by that threshold
    assert used[::STEPS] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    refused: list[tuple[dict[str, Any], str]] = [
        (control | {"validation": None}, r"depends on the validation objective: give validation="),
        ({"schedule": lambda optimizer: 3}, r"schedule must make one of torch\.optim\.lr_scheduler, not int"),
        ({"schedule": lambda: 3}, "schedule is called with the optimizer, and failed"),
        ({"schedule": lambda optimizer: 3, "decay_epochs": 2}, "decay_epochs applies to the named schedules"),
        ({"schedule": "step"}, "schedule must be 'linear' or 'cosine'"),
    ]
    for wrong, message in refused:
        with pytest.raises(SettingsError, match=message):
            train(model(), None, **wrong)


# -- Early stopping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_patience_epochs_without_improvement(patience: int, tmp_path: Path) -> None:
    states: list[dict[str, Tensor]] = []
    built = model()
    watch = Each(epoch=lambda _: states.append({n: v.clone() for n, v in built.state_dict().items()}))
    history = train(built, tmp_path, epochs=60, learning_rate=0.1, patience=patience, callbacks=[watch])
    objectives = [row["validation/objective"] for row in history.epochs]
    best = min(range(1, len(objectives)), key=objectives.__getitem__)  # from the end of annealing on
    records = [e for e in range(1, len(objectives)) if objectives[e] == min(objectives[1 : e + 1])]
    assert len(objectives) == best + 1 + patience < 60
    assert all(later - earlier <= patience for earlier, later in itertools.pairwise(records))  # no earlier stop was due
    assert history.best_epoch == best + 1
    assert all(torch.equal(value, states[best][name]) for name, value in built.state_dict().items())
    assert load_state(tmp_path / CHECKPOINT)[1]["finished"]
    again = train(model(seed=3), tmp_path, epochs=100, learning_rate=0.1, patience=patience, resume=True)
    assert len(again.epochs) == len(history.epochs)  # it has ended, even if more epochs are allowed


def test_patience_needs_one_stage() -> None:
    rows = {"image": torch.rand(5, 4), "label": torch.arange(5) % 3}
    built = TELBO({name: part for name, part in parts().items() if name in rows}, 2)
    with pytest.raises(SettingsError, match="patience is for models that are trained in one stage"):
        fit(built, table(), validation=table(), epochs=EPOCHS, patience=1, callbacks=[])


# -- Precision -------------------------------------------------------------------------------------------------------


def test_surrounding_autocast_and_no_grad_change_nothing(tmp_path: Path) -> None:
    plain, cast, still = model(), model(), model()
    train(plain, tmp_path / "plain")
    with torch.autocast("cpu", torch.bfloat16):
        train(cast, tmp_path / "cast")
    with torch.no_grad():
        train(still, tmp_path / "still")
    for other in (cast, still):
        assert_same_weights(other, plain)
    half, inside = model(), model()
    train(half, tmp_path / "half", precision="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        train(inside, tmp_path / "inside", precision="bfloat16")
    assert_same_weights(inside, half)
    assert {value.dtype for value in half.parameters()} == {torch.float32}


def test_queries_inside_autocast_use_the_trained_weights(tmp_path: Path) -> None:
    """Autocast caches copies of weights, also those from before the training."""
    built, rows = model(), table()

    def answers() -> list[Tensor]:
        return [
            built.posterior(rows).mean,
            built.generate(rows, n=2, seed=0)["sound"],
            built.predict(rows, of="label"),
            built.log_likelihood(rows, ["label"], ["image"], samples=30).values,
            prediction_accuracy(built, rows, ["image"], "label")[""].right,
        ]

    with torch.autocast("cpu", torch.bfloat16):
        built(rows, generator=torch.Generator().manual_seed(0)).loss.backward()  # as in a user's own loop
        train(built, tmp_path, learning_rate=0.05)
        inside, loss = answers(), built(rows, generator=torch.Generator().manual_seed(0)).loss
    for one, other in zip(inside, answers(), strict=True):
        assert torch.equal(one, other)
    assert built(rows, generator=torch.Generator().manual_seed(0)).loss.item() == pytest.approx(loss.item(), rel=0.02)


def test_bfloat16_trains_nearly_the_same(tmp_path: Path) -> None:
    found = [train(model(), tmp_path / p, epochs=12, precision=p).epochs for p in ("float32", "bfloat16")]
    full, half = (rows[-1]["validation/objective"] for rows in found)
    assert half == pytest.approx(full, rel=0.02)
    assert full < found[0][0]["validation/objective"] - 1


def test_unusable_modes_and_optimizers_are_refused() -> None:
    with torch.inference_mode():
        with pytest.raises(SettingsError, match="inference_mode"):
            fit(model(), table(), epochs=1, callbacks=[])
        built = model()
    with pytest.raises(SettingsError, match="inference_mode"):
        fit(built, table(), epochs=1, callbacks=[])
    with pytest.raises(SettingsError, match="needs weights of float32"):
        fit(model().double(), table(), epochs=1, precision="bfloat16", callbacks=[])
    with pytest.raises(SettingsError, match=r"optimizer must make a torch\.optim\.Optimizer, not list"):
        fit(model(), table(), epochs=1, optimizer=lambda parameters, lr: [], callbacks=[])
    with pytest.raises(SettingsError, match="LBFGS evaluates the loss several times a step"):
        fit(model(), table(), epochs=1, optimizer=torch.optim.LBFGS, callbacks=[])
    with pytest.raises(SettingsError, match="failed: Invalid momentum"):
        fit(model(), table(), epochs=1, optimizer=partial(torch.optim.SGD, momentum=-1), callbacks=[])
    with pytest.raises(SettingsError, match="called with parameters and lr="):
        fit(model(), table(), epochs=1, optimizer=lambda parameters: None, callbacks=[])
