"""fit(): the β schedule, selection, missing data, metrics, and what stops it (how it goes on: test_resume.py)."""

import gc
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.checkpoint import CHECKPOINT, METRICS, load_state
from mvae.data.table import Table
from mvae.errors import DataError, RunError, SettingsError, TrainingError
from mvae.metrics import validate
from mvae.modality import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.progress import Reporter, Silent
from mvae.steps import Step
from mvae.training import fit

ROWS, BATCH = 23, 5
STEPS = 5  # an epoch: four full batches and one of three rows


def small(seed: int = 0) -> dict[str, Modality]:
    torch.manual_seed(seed)
    return {
        "image": Modality(mlp(4, 4, [6]), mlp(2, 4, [6]), likelihoods.Bernoulli()),
        "label": Modality(LabelEncoder(3, 4, 6), mlp(2, 3, [6]), likelihoods.Categorical(), weight=5.0),
        "sound": Modality(mlp(3, 4, [6]), mlp(2, 3, [6]), likelihoods.Gaussian()),
    }


def model(seed: int = 0, k: int = 0) -> MVAE:
    return MVAE(small(seed), 2, random_subsets=k)


def columns(rows: int = ROWS, seed: int = 1) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (rows,), generator=g)
    image = (torch.rand(rows, 4, generator=g) + label[:, None] / 2) / 2
    return {"image": image, "label": label, "sound": torch.randn(rows, 3, generator=g) + label[:, None]}


def incomplete(filling: float = math.nan) -> Table:
    """A third of the cells missing, with nonsense in them."""
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
    """Calls something at every step, or at every epoch's end."""

    every = 0.0

    def __init__(
        self, step: Callable[[int], Any] | None = None, epoch: Callable[[dict[str, float]], Any] | None = None
    ):
        super().__init__()
        self._on_step, self._on_epoch, self.warnings = step, epoch, []

    def update(self, epoch: int, step: int, values: dict[str, float]) -> None:
        if self._on_step:
            self._on_step(step)

    def epoch(self, values: dict[str, float]) -> None:
        if self._on_epoch:
            self._on_epoch(values)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Watched(MVAE):
    """Remembers the β and the rows of every step."""

    def __init__(self) -> None:
        super().__init__(small(), 2)
        self.betas: list[float] = []
        self.seen: list[list[float]] = []

    def loss(self, batch: Table, terms=None, *, beta=1.0, generator=None, noise=None):
        if torch.is_grad_enabled():
            self.betas.append(float(beta))
            self.seen.append(torch.as_tensor(batch.columns["image"])[:, 0].tolist())
        return super().loss(batch, terms, beta=beta, generator=generator, noise=noise)


# -- The schedule and the batches ------------------------------------------------------------------------------


@pytest.mark.parametrize("anneal_epochs", [0, 1, 3, 7])
def test_beta_rises_linearly_by_step_from_0_to_exactly_1_and_stays(anneal_epochs: int) -> None:
    watched = Watched()
    history = fit(watched, Table(columns()), epochs=5, anneal_epochs=anneal_epochs, batch_size=BATCH, reporter=Silent())
    steps = anneal_epochs * STEPS
    assert watched.betas == [min(1.0, step / steps) if steps else 1.0 for step in range(5 * STEPS)]
    assert [row["beta"] for row in history.epochs] == [
        min(1.0, epoch / anneal_epochs) if anneal_epochs else 1.0 for epoch in range(1, 6)
    ]


@pytest.mark.parametrize(("decay_epochs", "epochs"), [(0, 5), (1, 5), (3, 5), (5, 5)])
def test_the_learning_rate_is_constant_and_then_falls_linearly_by_step_to_0(
    decay_epochs: int, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Watching(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watching)
    fit(
        model(),
        Table(columns()),
        epochs=epochs,
        decay_epochs=decay_epochs,
        batch_size=BATCH,
        learning_rate=0.01,
        reporter=Silent(),
    )
    last, decay = epochs * STEPS, decay_epochs * STEPS
    assert used == [0.01 * min(1.0, (last - step) / decay) if decay else 0.01 for step in range(last)]
    assert used[-1] == (0.01 / decay if decay else 0.01)


def test_every_row_is_seen_once_an_epoch_the_last_partial_batch_included_in_an_order_of_its_own() -> None:
    watched, table = Watched(), Table(columns())
    fit(watched, table, epochs=2, batch_size=BATCH, reporter=Silent())
    assert [len(batch) for batch in watched.seen] == [5, 5, 5, 5, 3] * 2
    epochs = [[row for batch in watched.seen[i : i + STEPS] for row in batch] for i in (0, STEPS)]
    every = torch.as_tensor(table.columns["image"])[:, 0].tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(every)
    assert epochs[0] != epochs[1] != every


def test_a_batch_bigger_than_the_table_is_the_table() -> None:
    watched = Watched()
    fit(watched, Table(columns()), epochs=2, batch_size=1000, reporter=Silent())
    assert [len(batch) for batch in watched.seen] == [ROWS, ROWS]


def test_training_lowers_the_loss_and_leaves_the_model_in_eval_mode() -> None:
    trained = model()
    history = fit(trained, Table(columns()), epochs=12, batch_size=BATCH, learning_rate=2e-2, reporter=Silent())
    assert history.epochs[-1]["train/loss"] < history.epochs[0]["train/loss"] - 1
    assert not trained.training
    assert not history.interrupted
    assert history.best_epoch is None


def test_metrics_are_means_over_rows_and_over_the_terms_that_score_them(tmp_path: Path) -> None:
    """One batch, nothing learned: the logged numbers are those of the objective itself."""
    fresh, table = model(), incomplete()
    history = fit(
        fresh, table, epochs=1, batch_size=100, learning_rate=1e-30, reporter=Silent(), run_dir=tmp_path / "run"
    )
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    batch = table.take(order)
    result = model().loss(batch, generator=torch.Generator().manual_seed(0))
    row = history.epochs[0]
    assert row["train/loss"] == pytest.approx(result.loss.item(), rel=1e-5)
    counted = result.terms.weight > 0
    for i, name in enumerate(fresh.names):
        scored = counted & result.terms.of[..., i]
        assert row[f"train/reconstruction/{name}"] == pytest.approx(-result.log_prob[i][scored].mean().item(), rel=1e-5)
    for t, name in enumerate(result.terms.names):
        assert row[f"train/kl/{name}"] == pytest.approx(result.kl[t][counted[t]].mean().item(), rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert lines == history.epochs


# -- Missing data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, BATCH, 100])
@pytest.mark.parametrize("k", [0, 1])
def test_incomplete_tables_train_and_no_missing_value_leaves_a_trace(batch_size: int, k: int) -> None:
    """With one row a batch, every batch lacks whole modalities."""
    trained = []
    for filling in (math.nan, 0.5):
        trained.append(model(k=k))
        table = incomplete(filling)
        history = fit(
            trained[-1], table, validation=table, epochs=2, batch_size=batch_size, learning_rate=1e-2, reporter=Silent()
        )
        assert all(math.isfinite(value) for row in history.epochs for value in row.values())
    assert same(weights(trained[0]), weights(trained[1]))
    assert not same(weights(trained[0]), weights(model(k=k)))


def test_unpaired_data_trains_every_modality() -> None:
    """No row has two modalities."""
    part = torch.arange(ROWS) % 3
    table = Table(columns(), {"image": part == 0, "label": part == 1, "sound": part == 2})
    trained = model(k=1)
    history = fit(trained, table, validation=table, epochs=2, batch_size=4, reporter=Silent())
    assert history.warning is None  # nothing can be said about coupling without complete rows
    before = weights(model())
    for name in trained.names:
        for part in ("encoder", "decoder"):
            prefix = f"_modalities.{name}.{part}"
            assert any(not torch.equal(v, before[n]) for n, v in weights(trained).items() if n.startswith(prefix))


def test_a_modality_without_a_column_is_left_as_it_was() -> None:
    data = columns()
    del data["label"]
    trained, table = model(k=1), Table(data)
    history = fit(trained, table, validation=table, epochs=2, batch_size=BATCH, reporter=Silent())
    before = weights(model())
    for name, value in weights(trained).items():
        if "label" in name:
            assert torch.equal(value, before[name])
    assert not torch.equal(
        weights(trained)["_modalities.image.decoder.1.weight"], before["_modalities.image.decoder.1.weight"]
    )
    assert all(math.isfinite(value) for row in history.epochs for value in row.values())
    assert not any("label" in key for key in history.epochs[0])  # no number is made up for it


# -- Validation and selection ------------------------------------------------------------------------------------


def worsening() -> tuple[Table, Table]:
    """Training rows, and validation rows that are the less likely the more is learned of those."""
    train, other = columns(), columns(9, seed=5)
    other["sound"] = -4 - other["sound"]
    return Table(train), Table(other)


def test_the_best_weights_by_validation_are_kept_but_only_from_the_end_of_annealing_on() -> None:
    trained, (table, validation) = model(), worsening()
    states: list[dict[str, Tensor]] = []
    history = fit(
        trained,
        table,
        validation=validation,
        epochs=8,
        anneal_epochs=3,
        batch_size=BATCH,
        learning_rate=1e-2,
        reporter=Each(epoch=lambda _: states.append(weights(trained))),
    )
    objectives = [row["validation/objective"] for row in history.epochs]
    allowed = range(2, 8)  # 0-based epochs that end with β = 1
    best = min(allowed, key=objectives.__getitem__)
    assert min(objectives) < objectives[best], "the test needs an epoch before the end of annealing that is better"
    assert best != 7, "the test needs a best epoch that is not the last"
    assert history.best_epoch == best + 1
    assert same(weights(trained), states[best])


def test_without_an_epoch_after_annealing_the_last_weights_stay() -> None:
    trained, (table, validation) = model(), worsening()
    states: list[dict[str, Tensor]] = []
    history = fit(
        trained,
        table,
        validation=validation,
        epochs=3,
        anneal_epochs=9,
        batch_size=BATCH,
        reporter=Each(epoch=lambda _: states.append(weights(trained))),
    )
    assert history.best_epoch is None
    assert history.warning is None  # while β < 1 little can be expected of the codes
    assert same(weights(trained), states[-1])


def test_selection_looks_at_the_validation_rows_only_and_leaves_no_trace_in_training() -> None:
    plain, watched, (table, validation) = model(), model(), worsening()
    measured: list[dict[str, float]] = []
    fit(plain, table, epochs=3, anneal_epochs=9, batch_size=BATCH, reporter=Silent())
    history = fit(
        watched,
        table,
        validation=validation,
        epochs=3,
        anneal_epochs=9,
        batch_size=BATCH,
        reporter=Each(epoch=lambda _: measured.append(validate(watched, validation))),
    )
    assert same(weights(plain), weights(watched))
    for row, expected in zip(history.epochs, measured, strict=True):
        found = {k.removeprefix("validation/"): v for k, v in row.items() if k.startswith("validation/")}
        assert found == expected


class Says(nn.Module):
    """An encoder that says as many nats about its input in chosen latents as asked, and nothing in the others."""

    def __init__(self, latents: list[int], precision: float):
        super().__init__()
        self.latents, self.precision = latents, precision
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = torch.zeros(len(x), 2), torch.full((len(x), 2), 20.0)
        mean[:, self.latents] = x[:, :1]
        log_var[:, self.latents] = -math.log(self.precision)
        return mean * self.scale, log_var


@pytest.mark.parametrize(
    ("latents", "precision", "expected"),
    [([0], 50.0, None), ([1], 50.0, "the modalities have not met: coupling C = "), ([1], 1e-6, "expert of b is dead")],
)
def test_fit_warns_of_modalities_that_have_not_met(latents: list[int], precision: float, expected: str | None) -> None:
    built = MVAE(
        {
            "a": Modality(Says([0], 50.0), nn.Linear(2, 1), likelihoods.Gaussian()),
            "b": Modality(Says(latents, precision), nn.Linear(2, 1), likelihoods.Gaussian()),
        },
        2,
    )
    x = torch.randn(ROWS, 1, generator=torch.Generator().manual_seed(0))
    table, reporter = Table({"a": x, "b": x}), Each()
    history = fit(built, table, validation=table, epochs=1, learning_rate=1e-30, reporter=reporter)
    if expected is None:
        assert history.warning is None
        assert reporter.warnings == []
    else:
        assert reporter.warnings == [history.warning]
        assert history.warning is not None
        assert expected in history.warning
        built.cross_from = ("a",)
        crossed = fit(built, table, validation=table, epochs=1, learning_rate=1e-30, reporter=reporter).warning
        assert "Use the recipe 'coupled'" not in str(crossed)


# -- Memory ------------------------------------------------------------------------------------------------------


def test_metrics_do_not_keep_the_graph() -> None:
    step = Step(model(k=1), incomplete(), 1e-3, 0)
    for _ in range(3):
        step(torch.arange(ROWS), 1.0, 1e-3)
    assert all(t.grad_fn is None and not t.requires_grad for t in (*step.sums.values(), *step.counts.values()))


def test_memory_does_not_grow_from_epoch_to_epoch() -> None:
    live: list[int] = []

    def count(_: object) -> None:
        gc.collect()
        live.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))

    fit(model(), Table(columns()), validation=Table(columns()), epochs=5, batch_size=BATCH, reporter=Each(epoch=count))
    assert len(set(live[2:])) == 1, live


# -- What stops it -------------------------------------------------------------------------------------------------


class Breaks(nn.Module):
    """A network whose output is NaN from its n-th training call on."""

    def __init__(self, inner: nn.Module, at: int):
        super().__init__()
        self.inner, self.left = inner, at

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.left -= 1
        return self.inner(x) * (math.nan if self.left < 0 else 1.0)


@pytest.mark.parametrize("name", ["image", "label", "sound"])
def test_a_loss_that_is_not_finite_stops_training_with_the_modality_and_keeps_the_last_good_checkpoint(
    name: str, tmp_path: Path
) -> None:
    parts = small()
    parts[name].decoder = Breaks(parts[name].decoder, at=7)  # in the second epoch
    with pytest.raises(TrainingError, match=rf"^\w+/{name} is not finite in epoch 2, step 3: .*checkpoint is kept"):
        fit(
            MVAE(parts, 2),
            Table(columns()),
            epochs=9,
            batch_size=BATCH,
            reporter=Silent(),
            run_dir=tmp_path,
            checkpoint_seconds=0.0,
        )
    tensors, info = load_state(tmp_path / CHECKPOINT)
    assert (info["epoch"], info["step_in_epoch"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1


def test_an_encoder_that_gives_nan_stops_training_too(tmp_path: Path) -> None:
    parts = small()
    parts["label"].encoder = Breaks(parts["label"].encoder, at=2)
    with pytest.raises(TrainingError, match="is not finite in epoch 1, step 3"):
        fit(MVAE(parts, 2), Table(columns()), epochs=9, batch_size=BATCH, reporter=Silent(), run_dir=tmp_path)


@pytest.mark.parametrize("at", [3, STEPS])
def test_weights_spoilt_by_a_gradient_are_never_saved(at: int, tmp_path: Path) -> None:
    """The loss of the step itself is finite; only after it are the weights not."""
    trained, calls = model(), [0]

    def spoil(gradient: Tensor) -> Tensor:
        calls[0] += 1
        return gradient * math.nan if calls[0] == at else gradient

    trained.get_parameter("_modalities.label.decoder.1.weight").register_hook(spoil)
    with pytest.raises(TrainingError, match=r"label.decoder.1.weight is not finite"):
        fit(
            trained,
            Table(columns()),
            epochs=1,
            batch_size=BATCH,
            reporter=Silent(),
            run_dir=tmp_path,
            checkpoint_seconds=0.0,
        )
    tensors, _ = load_state(tmp_path / CHECKPOINT)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"anneal_epochs": -1}, "anneal_epochs must be at least 0, not -1"),
        ({"decay_epochs": -1}, "decay_epochs must be at least 0, not -1"),
        ({"decay_epochs": 2}, "decay_epochs must be at most the number of epochs, 1, not 2"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must be at least 0, not -1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be a positive number, not inf"),
        ({"seed": -1}, "seed must be between 0 and 2³¹ − 1, not -1"),
        ({"seed": 2**31}, "seed must be between 0 and 2³¹ − 1"),
        ({"resume": True}, "resume=True needs run_dir"),
    ],
)
def test_settings_outside_their_range_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        fit(model(), Table(columns()), **({"epochs": 1, "reporter": Silent()} | changed))


def test_a_model_with_nothing_to_train_is_refused() -> None:
    frozen = model()
    frozen.requires_grad_(False)
    with pytest.raises(SettingsError, match="no parameters to train"):
        fit(frozen, Table(columns()), epochs=1, reporter=Silent())


def test_frozen_parameters_stay_and_the_others_learn() -> None:
    partly = model()
    partly.modalities["image"].encoder.requires_grad_(False)
    before = weights(partly)
    fit(partly, Table(columns()), epochs=1, batch_size=BATCH, reporter=Silent())
    for name, value in partly.named_parameters():
        assert torch.equal(value, before[name]) == ("image.encoder" in name)


def test_rows_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    wrong = columns()
    wrong["label"][4] = 3
    for table, validation in ((Table(wrong), None), (Table(columns()), Table(wrong))):
        with pytest.raises(DataError, match="modality 'label', row 4: class numbers 0 to 2"):
            fit(model(), table, validation=validation, epochs=1, run_dir=tmp_path / "run", reporter=Silent())
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_cannot_be_made_is_an_error_of_one_line_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    watched = Watched()
    with pytest.raises(RunError, match=r"cannot write .*Not a directory") as caught:
        fit(watched, Table(columns()), epochs=1, run_dir=tmp_path / "file" / "run", reporter=Silent())
    assert "\n" not in str(caught.value)
    assert watched.betas == []
