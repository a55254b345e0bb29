"""fit(): the β schedule, selection, missing data, metrics (see also test_fit_errors.py and test_resume.py)."""

import gc
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.evaluation.validation import validate
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.models.recipe import Recipe
from mvae.training.checkpoint import METRICS
from mvae.training.fit import fit
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step
from tests.small_training import BATCH, ROWS, STEPS, Each, Watched, columns, incomplete, model, same, weights

# -- The schedule and the batches ------------------------------------------------------------------------------


@pytest.mark.parametrize("anneal_epochs", [0, 1, 3, 7])
def test_beta_rises_linearly_to_1_and_stays(anneal_epochs: int) -> None:
    watched = Watched()
    history = fit(watched, Table(columns()), epochs=5, anneal_epochs=anneal_epochs, batch_size=BATCH, callbacks=[])
    steps = anneal_epochs * STEPS
    assert watched.betas == [min(1.0, step / steps) if steps else 1.0 for step in range(5 * STEPS)]
    assert [row["beta"] for row in history.epochs] == [
        min(1.0, epoch / anneal_epochs) if anneal_epochs else 1.0 for epoch in range(1, 6)
    ]


@pytest.mark.parametrize(("decay_epochs", "epochs"), [(0, 5), (1, 5), (3, 5), (5, 5)])
def test_learning_rate_is_constant_and_then_falls_linearly_to_0(
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
        callbacks=[],
    )
    last, decay = epochs * STEPS, decay_epochs * STEPS
    assert used == [0.01 * min(1.0, (last - step) / decay) if decay else 0.01 for step in range(last)]
    assert used[-1] == (0.01 / decay if decay else 0.01)


def test_every_row_is_seen_once_per_epoch_in_a_new_order() -> None:
    watched, table = Watched(), Table(columns())
    fit(watched, table, epochs=2, batch_size=BATCH, callbacks=[])
    assert [len(batch) for batch in watched.seen] == [5, 5, 5, 5, 3] * 2
    epochs = [[row for batch in watched.seen[i : i + STEPS] for row in batch] for i in (0, STEPS)]
    every = torch.as_tensor(table.columns["image"])[:, 0].tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(every)
    assert epochs[0] != epochs[1] != every


def test_batch_larger_than_the_table_is_the_table() -> None:
    watched = Watched()
    fit(watched, Table(columns()), epochs=2, batch_size=1000, callbacks=[])
    assert [len(batch) for batch in watched.seen] == [ROWS, ROWS]


def test_training_lowers_the_loss_and_ends_in_eval_mode() -> None:
    trained = model()
    history = fit(trained, Table(columns()), epochs=12, batch_size=BATCH, learning_rate=2e-2, callbacks=[])
    assert history.epochs[-1]["train/loss"] < history.epochs[0]["train/loss"] - 1
    assert not trained.training
    assert not history.interrupted
    assert history.best_epoch is None


def test_metrics_are_means_over_rows_and_terms(tmp_path: Path) -> None:
    """One batch, nothing learned: the logged numbers are those of the objective itself."""
    fresh, table = model(), incomplete()
    history = fit(fresh, table, epochs=1, batch_size=100, learning_rate=1e-30, callbacks=[], run_dir=tmp_path / "run")
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    batch = table.take(order)
    same_weights = model()
    same_weights.load_state_dict(fresh.state_dict())  # with the statistics of the training values
    result = same_weights(batch, generator=torch.Generator().manual_seed(0))
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
def test_contents_of_missing_cells_do_not_affect_training(batch_size: int, k: int) -> None:
    """With one row per batch, batches are missing whole modalities."""
    trained = []
    for filling in (math.nan, 0.5):
        trained.append(model(k=k))
        table = incomplete(filling)
        history = fit(
            trained[-1], table, validation=table, epochs=2, batch_size=batch_size, learning_rate=1e-2, callbacks=[]
        )
        assert all(math.isfinite(value) for row in history.epochs for value in row.values())
    assert same(weights(trained[0]), weights(trained[1]))
    assert not same(weights(trained[0]), weights(model(k=k)))


def test_unpaired_data_trains_every_modality(caplog: pytest.LogCaptureFixture) -> None:
    """No row has two modalities."""
    part = torch.arange(ROWS) % 3
    table = Table(columns(), {"image": part == 0, "label": part == 1, "sound": part == 2})
    trained = model(k=1)
    fit(trained, table, validation=table, epochs=2, batch_size=4, callbacks=[])
    assert "no row has both image and label" in caplog.text
    before = weights(model())
    for name in trained.names:
        for part in ("encoder", "decoder"):
            prefix = f"_modalities.{name}.{part}"
            assert any(not torch.equal(v, before[n]) for n, v in weights(trained).items() if n.startswith(prefix))


def test_modality_without_a_column_stays_unchanged() -> None:
    data = columns()
    del data["label"]
    trained, table = model(k=1), Table(data)
    history = fit(trained, table, validation=table, epochs=2, batch_size=BATCH, callbacks=[])
    before = weights(model())
    for name, value in weights(trained).items():
        if "label" in name:
            assert torch.equal(value, before[name])
    assert not torch.equal(
        weights(trained)["_modalities.image.decoder.1.weight"], before["_modalities.image.decoder.1.weight"]
    )
    assert all(math.isfinite(value) for row in history.epochs for value in row.values())
    assert not any("label" in key for key in history.epochs[0])  # it gets no made-up number


# -- Validation and selection ------------------------------------------------------------------------------------


def worsening() -> tuple[Table, Table]:
    """Training rows, and validation rows whose likelihood falls while the model learns."""
    train, other = columns(), columns(9, seed=5)
    other["sound"] = 4 * other["sound"].flip(0)
    return Table(train), Table(other)


def test_best_weights_are_selected_once_annealing_has_ended() -> None:
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
        callbacks=[Each(epoch=lambda _: states.append(weights(trained)))],
    )
    objectives = [row["validation/objective"] for row in history.epochs]
    allowed = range(2, 8)  # 0-based epochs that end with β = 1
    best = min(allowed, key=objectives.__getitem__)
    assert min(objectives) < objectives[best], "the test needs an epoch before the end of annealing that is better"
    assert best != 7, "the test needs a best epoch that is not the last"
    assert history.best_epoch == best + 1
    assert same(weights(trained), states[best])


def test_last_weights_stay_if_annealing_does_not_end() -> None:
    trained, (table, validation) = model(), worsening()
    states: list[dict[str, Tensor]] = []
    history = fit(
        trained,
        table,
        validation=validation,
        epochs=3,
        anneal_epochs=9,
        batch_size=BATCH,
        callbacks=[Each(epoch=lambda _: states.append(weights(trained)))],
    )
    assert history.best_epoch is None
    assert history.warning is None  # no warning while β < 1
    assert same(weights(trained), states[-1])


def test_selection_uses_only_validation_rows_and_does_not_affect_training() -> None:
    plain, watched, (table, validation) = model(), model(), worsening()
    measured: list[dict[str, float]] = []
    fit(plain, table, epochs=3, anneal_epochs=9, batch_size=BATCH, callbacks=[])
    history = fit(
        watched,
        table,
        validation=validation,
        epochs=3,
        anneal_epochs=9,
        batch_size=BATCH,
        callbacks=[Each(epoch=lambda _: measured.append(validate(watched, validation)))],
    )
    assert same(weights(plain), weights(watched))
    for row, expected in zip(history.epochs, measured, strict=True):
        found = {k.removeprefix("validation/"): v for k, v in row.items() if k.startswith("validation/")}
        assert found == expected


class PreciseEncoder(nn.Module):
    """An encoder of its input with a given precision in chosen latents, and no information in the others."""

    def __init__(self, latents: list[int], precision: float):
        super().__init__()
        self.latents, self.precision = latents, precision
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = torch.zeros(len(x), 2), torch.full((len(x), 2), 20.0)
        mean[:, self.latents] = x[:, :1]
        log_var[:, self.latents] = -math.log(self.precision)
        return mean * self.scale, log_var


def decoder_of_first(sign: float) -> nn.Linear:
    """A decoder of the first latent, with the right sign or the wrong one."""
    decoder = nn.Linear(2, 1)
    with torch.no_grad():
        decoder.weight.copy_(torch.tensor([[sign, 0.0]]))
        decoder.bias.zero_()
    return decoder


@pytest.mark.parametrize(
    ("sign", "precision", "expected"),
    [(1.0, 50.0, None), (-1.0, 50.0, "b cannot be predicted from other"), (1.0, 1e-6, "expert of b is dead")],
)
def test_fit_warns_of_uncoupled_modalities(
    sign: float, precision: float, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    built = MVAE(
        {
            "a": Modality(PreciseEncoder([0], 50.0), decoder_of_first(1.0), likelihoods.Gaussian()),
            "b": Modality(PreciseEncoder([0], precision), decoder_of_first(sign), likelihoods.Gaussian()),
        },
        2,
        cross_from=(),
    )
    x = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))  # fewer than 50 are not evaluated
    table = Table({"a": x, "b": x})
    history = fit(built, table, validation=table, epochs=1, learning_rate=1e-30, callbacks=[])
    if expected is None:
        assert history.warning is None
        assert caplog.messages == []
    else:
        assert caplog.messages == [history.warning]
        assert history.warning is not None
        assert expected in history.warning
        built.recipe = Recipe(("a",))
        crossed = fit(built, table, validation=table, epochs=1, learning_rate=1e-30, callbacks=[]).warning
        assert "cross_from" not in str(crossed)


# -- Memory ------------------------------------------------------------------------------------------------------


def test_metrics_do_not_keep_the_graph() -> None:
    step = Step(model(k=1), incomplete(), TrainingSettings())
    for _ in range(3):
        step(torch.arange(ROWS), 1.0, 1e-3)
    assert all(t.grad_fn is None and not t.requires_grad for t in (*step.sums.values(), *step.counts.values()))


def test_memory_does_not_grow_from_epoch_to_epoch() -> None:
    live: list[int] = []

    def count(_: object) -> None:
        gc.collect()
        live.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))

    fit(
        model(),
        Table(columns()),
        validation=Table(columns()),
        epochs=5,
        batch_size=BATCH,
        callbacks=[Each(epoch=count)],
    )
    assert len(set(live[2:])) == 1, live


def test_fits_in_two_threads_match_sequential_ones() -> None:
    def built() -> MVAE:
        x = Modality(nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 4)), nn.Linear(2, 4), "gaussian")
        noisy = Modality(nn.Linear(4, 4), nn.Linear(2, 4), "gaussian", augment={"name": "noise", "std": 0.5})
        own = MVAE({"x": x, "y": noisy}, 2)
        with torch.no_grad():
            for parameter in own.parameters():
                parameter.fill_(0.1)
        return own

    def train(own: MVAE, seed: int, results: dict[int, dict[str, Tensor]]) -> None:
        rows = torch.linspace(-1, 1, 400).reshape(100, 4)
        fit(own, Table({"x": rows, "y": rows}), epochs=4, batch_size=10, seed=seed, callbacks=[])
        results[seed] = weights(own)

    alone: dict[int, dict[str, Tensor]] = {}
    together: dict[int, dict[str, Tensor]] = {}
    before = torch.default_generator.get_state()
    for seed in (0, 1):
        train(built(), seed, alone)
    torch.default_generator.set_state(before)
    models = [built(), built()]  # not in the threads: initial weights come from the one generator of all threads
    threads = [threading.Thread(target=train, args=(models[seed], seed, together)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        assert same(together[seed], alone[seed])


def test_numpy_keeps_its_smallest_numbers_after_training() -> None:
    """NumPy 1 measures them once; denormal numbers are flushed to zero while a model trains."""
    code = """import numpy, torch, mvae
network = torch.nn.Linear
model = mvae.MVAE({"x": mvae.Modality(network(3, 4), network(2, 3), "gaussian")}, latent_dim=2)
mvae.fit(model, mvae.Table({"x": torch.randn(50, 3)}), epochs=1, callbacks=[])
assert numpy.finfo(float).smallest_subnormal > 0 and numpy.finfo(numpy.float32).smallest_subnormal > 0"""
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
