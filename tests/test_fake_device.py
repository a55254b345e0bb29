"""A fake GPU (`tests.fake_device`) trains, answers and refuses as the CPU does."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedules

from mvae import likelihoods, models
from mvae.data.table import Table
from mvae.errors import DataError, MvaeError, QueryError, SettingsError, TrainingError
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import MVAE
from mvae.models.plan import Experts, at_most_one
from mvae.models.terms import Terms, full
from mvae.networks.mlp import mlp
from mvae.runs.run import device_named
from mvae.training.fit import fit
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step, way_of
from tests import test_missing_cells as cells
from tests.fake_device import FakeTensor, fake_device
from tests.modality import test_columns
from tests.small_training import columns, incomplete, small

KINDS = ["MMVAE", "MoPoE", "MVTCAE", "BiVCCA", "JMVAE", "TELBO", "MMVAEPlus", "MMVM", "MVAEQ", "VAE"]
CONTROLS: list[dict[str, Any]] = [
    {"clip_norm": 0.5, "row_weights": "w"},
    {"optimizer": "sgd"},
    {"epochs": 2, "schedule": lambda optimizer: schedules.OneCycleLR(optimizer, 0.1, total_steps=4)},
]


def rows(data: Table) -> Table:
    """The table with a column of row weights."""
    weight = {"w": torch.linspace(0, 1, len(data))}
    return Table(dict(data.columns) | weight, {name: data.has(name) for name in data.names} | dict(data.observed))


def held(value: Any) -> Any:
    return value.held if isinstance(value, FakeTensor) else value


def assert_same_training(
    make: Callable[[], MultimodalVAE], data: Table, recorded: bool | None, folder: Path | None = None, **how: Any
) -> None:
    """Check that training on both devices gives the same weights up to rounding; with a folder, also resume it."""
    torch.manual_seed(0)
    on_cpu = make()
    how = {"epochs": 1, "batch_size": 5, "callbacks": []} | how
    expected = fit(on_cpu, data, **how).epochs[-1]
    with fake_device("cuda") as device:
        torch.manual_seed(0)
        on_gpu = make().to(device)
        settings = TrainingSettings(**{n: v for n, v in how.items() if n in TrainingSettings.model_fields})
        assert recorded is None or (way_of(on_gpu, data.to(device), settings, 10) == "recorded") == recorded
        found = fit(on_gpu, data, run_dir=folder, **how).epochs[-1]
        if folder is not None:
            torch.manual_seed(1)
            resumed = make().to(device)
            fit(resumed, data, run_dir=folder, resume=True, **how)
            for name, value in on_gpu.state_dict().items():
                assert torch.equal(held(resumed.state_dict()[name]), held(value))
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-5)
    for name, value in on_cpu.state_dict().items():
        torch.testing.assert_close(held(on_gpu.state_dict()[name]), value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_models_train_as_on_the_cpu(kind: str) -> None:
    of, chosen = getattr(models, kind), ["image"] if kind == "VAE" else ["image", "label"]
    data = Table(columns()) if of.needs_complete else incomplete()
    data = data.take(torch.stack([data.has(name) for name in chosen]).any(0))
    assert_same_training(lambda: of({name: small()[name] for name in chosen}, 2), data, None)


@pytest.mark.parametrize("control", [{}, *CONTROLS], ids=lambda control: "-".join(control) or "plain")
def test_controls_train_as_on_the_cpu(control: dict[str, Any], tmp_path: Path) -> None:
    named, plain = control.get("optimizer", "adam") == "adam", not control
    folder, watched = (tmp_path, {"validation": incomplete()}) if plain else (None, {})
    assert_same_training(lambda: MVAE(small(), 2), rows(incomplete()), named, folder, **control, **watched)


def test_model_variants_train_as_on_the_cpu() -> None:
    assert_same_training(lambda: MVAE(small(), 2, random_subsets=1), rows(incomplete()), False)
    guessing = lambda: MVAE(small(), 2, cross_from=["image"], pseudo_labels=["label"])  # noqa: E731
    assert_same_training(guessing, rows(incomplete()), True)
    fields = lambda: MVAE({"t": test_columns.modality(augment=[])}, test_columns.LATENT)  # noqa: E731
    assert_same_training(fields, test_columns.table(), None)

    def lasting() -> MVAE:
        long = Modality(mlp(1, 4, [4]), mlp(2, 1, [4]), Duration())
        return MVAE({"long": long, "sound": small()["sound"]}, 2)

    has = torch.arange(23) % 2 == 0
    data = Table({"long": (columns()["sound"][:, :1]).exp(), "sound": columns()["sound"]}, {"long": has})
    assert_same_training(lasting, data, True)


class Duration(likelihoods.Likelihood):
    """Log-normal: at 0 its density is 0 and its gradient NaN, even where the value has no weight."""

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        return ~(x > 0), "numbers above 0"

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        return -0.5 * (x.log() - params).square() - x.log() - 0.5 * math.log(2 * math.pi)

    def mean(self, params: Tensor) -> Tensor:
        return (params + 0.5).exp()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (params + torch.randn(params.shape, generator=generator, device=params.device)).exp()


QUERIES = {"impute", "log_likelihood", "prediction_accuracy", "source_gap", "validate", "coherence_by_number",
             "fit_prior", "generate", "posterior", "predict", "forward"}  # fmt: skip


@pytest.mark.parametrize("function", [f for f in cells.CALLS if f.__name__ in QUERIES], ids=lambda f: f.__qualname__)
def test_queries_answer_as_on_the_cpu(function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, make = cells.table("zeros"), cells.model

    def classifier() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    monkeypatch.setattr(cells, "CLASSIFIER", classifier())
    expected = flat(cells.CALLS[function](data, tmp_path))
    with fake_device("cuda") as device:
        monkeypatch.setattr(cells, "model", lambda: make().to(device))
        monkeypatch.setattr(cells, "CLASSIFIER", classifier().to(device))
        found = flat(cells.CALLS[function](data, tmp_path))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


def flat(value: Any) -> list[Tensor]:
    """Every number of an answer."""
    if isinstance(value, Tensor):
        return [held(value)]
    if isinstance(value, int | float):
        return [torch.tensor(float(value))]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    parts = parts or (list(vars(value).values()) if hasattr(value, "__dict__") else [])
    return [one for part in parts for one in flat(part)]


# -- Errors ----------------------------------------------------------------------------------------------------------


class Bad(MVAE):
    """Plans terms for which it has no posterior: given both modalities, in rows that have both."""

    @property
    def encoders(self) -> tuple[Experts, ...]:
        return (Experts(self.combine, at_most_one),)

    def terms(self, present: Tensor, generator: torch.Generator | None = None) -> Terms:
        return full(present, self.names)


def last_complete() -> Table:
    """Rows with one modality each, and a complete last row."""
    data, row = columns(), torch.arange(23)
    return Table(
        {n: data[n] for n in ("image", "sound")}, {"image": row % 2 == 0, "sound": (row % 2 == 1) | (row == 22)}
    )


def take_steps(model: MultimodalVAE, data: Table, device: torch.device) -> None:
    step = Step(model.train(), data if device.type == "cpu" else data.to(device), TrainingSettings(batch_size=4))
    step.plan(10)
    for index in torch.arange(23, device=device).split(4):
        step(index, 1.0, 1e-3)


def query_untrained(model: MultimodalVAE, device: torch.device) -> None:
    fit(model, Table({"image": columns()["image"]}), epochs=1, callbacks=[])
    model.posterior({"label": torch.tensor([1])})


def trained_on(**changed: Tensor) -> Callable[[MultimodalVAE, torch.device], object]:
    return lambda model, device: fit(model, columns() | changed, epochs=1, batch_size=5, callbacks=[])


REFUSED: dict[str, tuple[Callable[[MultimodalVAE, torch.device], object], type[MvaeError], str]] = {
    "class": (trained_on(label=torch.full((23,), 7)), DataError, "modality 'label', row 0: class numbers 0 to 2"),
    "shape": (
        trained_on(sound=torch.zeros(23, 5)),
        DataError,
        r"modality 'sound': the decoder gives 3 values per row",
    ),
    "infinite": (trained_on(sound=torch.full((23, 3), math.inf)), DataError, "modality 'sound', row 0: finite numbers"),
    "diverges": (
        lambda model, _: fit(model, columns(), epochs=3, learning_rate=1e30, callbacks=[]),
        TrainingError,
        r"is not finite in epoch \d",
    ),
    "untrained": (query_untrained, QueryError, "no training row had label"),
    "unknown": (lambda model, _: model.posterior(columns(), ["smell"]), QueryError, "no modality 'smell'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_are_those_of_the_cpu(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call(MVAE(small(), 2), torch.device("cpu"))
    with fake_device("cuda") as device, pytest.raises(error, match=message):
        call(MVAE(small(), 2).to(device), device)


def test_subset_without_posterior_is_refused_in_any_row() -> None:
    """A recorded step cannot check this, and would use the prior instead."""
    chosen = {name: part for name, part in small().items() if name != "label"}
    with pytest.raises(QueryError, match="no posterior given several modalities"):
        take_steps(Bad(chosen, 2), last_complete(), torch.device("cpu"))
    with fake_device("cuda") as device, pytest.raises(QueryError, match="no posterior given several modalities"):
        take_steps(Bad(chosen, 2).to(device), last_complete(), device)


def test_device_without_float64_is_refused() -> None:
    message = "the device 'mps' has no float64, which is needed: use 'cpu'"
    for name in ("mps", "mps:0"):
        with pytest.raises(SettingsError, match=message):
            device_named(name)
    with fake_device("mps") as device:
        with pytest.raises(SettingsError, match=message):
            MVAE(small(), 2).to(device)
        with pytest.raises(SettingsError, match=message):
            MVAE({"x": Modality(nn.Linear(3, 4).to(device), nn.Linear(2, 3).to(device), "bernoulli")}, 2)
