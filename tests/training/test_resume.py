"""fit(): a run stopped anywhere resumes bit-for-bit."""

import json
import re
import signal
import threading
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import RunError
from mvae.files import load_state
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.models.mvtcae import MVTCAE
from mvae.networks.mlp import mlp
from mvae.training.checkpoint import CHECKPOINT, METRICS
from mvae.training.fit import History, fit
from tests.resumable import (
    BATCH,
    EPOCHS,
    STEPS,
    assert_same_run,
    assert_same_weights,
    assert_spoilt_checkpoint_refused,
    model,
    stop,
    table,
    train,
    untimed,
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[bool, int], tuple[Path, MVAE, History]]:
    """Uninterrupted runs by (complete table, k)."""
    runs = {}
    for complete in (True, False):
        for k in (0, 1):
            built, directory = model(k=k), tmp_path_factory.mktemp("whole")
            runs[complete, k] = directory, built, train(built, directory, complete)
    return runs


# -- Stopping and resuming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("complete", "k", "number"),
    [(True, 0, signal.SIGINT), (True, 1, signal.SIGTERM), (False, 0, signal.SIGTERM), (False, 1, signal.SIGINT)],
)
@pytest.mark.parametrize("at", [1, 7, STEPS, STEPS * EPOCHS])  # the first, mid-epoch, an epoch's last, the very last
def test_run_stopped_at_any_step_resumes_exactly(
    uninterrupted, complete: bool, k: int, number: signal.Signals, at: int, tmp_path: Path
) -> None:
    whole, expected, history = uninterrupted[complete, k]
    stopped = stop(model(k=k), tmp_path, complete, at=at, number=number)
    assert load_state(tmp_path / CHECKPOINT)[1]["epoch"] == (at - 1) // STEPS
    assert len(stopped.epochs) == (at - 1) // STEPS
    other_start = model(seed=99, k=k)  # the new process's initial weights must not matter
    resumed = train(other_start, tmp_path, complete, resume=True)
    assert not resumed.interrupted
    assert_same_run(tmp_path, whole)
    assert_same_weights(other_start, expected)
    assert untimed(resumed.epochs) == untimed(history.epochs)
    assert (resumed.best_epoch, resumed.warning) == (history.best_epoch, history.warning)


def test_dropout_resumes_exactly_and_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    def built(seed: int) -> MVAE:
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        return MVAE({"image": Modality(encoder, mlp(2, 4, [6]), likelihoods.Bernoulli())}, 2, cross_from=())

    whole, resumed = built(0), built(0)
    before = torch.get_rng_state()
    train(whole, tmp_path / "whole")
    assert torch.equal(torch.get_rng_state(), before)
    stop(resumed, tmp_path / "parts", at=7)
    torch.manual_seed(1234)
    train(resumed, tmp_path / "parts", resume=True)
    assert_same_weights(resumed, whole)
    one, other = built(0), built(0)  # dropout matters: without it the result differs
    cast("nn.Sequential", other.modalities["image"].encoder)[1] = nn.Identity()
    for each, name in ((one, "one"), (other, "other")):
        train(each, tmp_path / name, epochs=1)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


@pytest.mark.parametrize("at", [9, 12])  # before the learning rate falls, and while it does
def test_run_with_a_falling_learning_rate_resumes_exactly(at: int, tmp_path: Path) -> None:
    whole, resumed, constant = model(), model(), model()
    train(whole, tmp_path / "whole", decay_epochs=2)
    stop(resumed, tmp_path / "parts", at=at, decay_epochs=2)
    train(resumed, tmp_path / "parts", decay_epochs=2, resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert_same_weights(resumed, whole)
    train(constant, tmp_path / "constant")
    assert not torch.equal(next(constant.parameters()), next(whole.parameters()))
    with pytest.raises(RunError, match="steps 20 → None, decay_steps 10 → None"):
        train(model(), tmp_path / "whole", resume=True)


def test_run_stopped_after_every_step_resumes_exactly(uninterrupted, tmp_path: Path) -> None:
    whole, expected, _ = uninterrupted[False, 1]
    built = model()
    for step in range(1, STEPS * EPOCHS + 1):
        built = model(seed=step)
        stop(built if step > 1 else model(), tmp_path, False, at=step, resume=step > 1)
    train(built, tmp_path, False, resume=True)
    assert_same_run(tmp_path, whole)
    assert_same_weights(built, expected)


def test_same_seed_gives_the_same_run_and_another_seed_does_not(uninterrupted, tmp_path: Path) -> None:
    whole, expected, _ = uninterrupted[True, 1]
    torch.manual_seed(1234)  # the global generator has no influence
    built = model()
    torch.manual_seed(4321)
    train(built, tmp_path / "same")
    assert_same_run(tmp_path / "same", whole)
    other = model()
    train(other, tmp_path / "other", seed=1)
    assert not torch.equal(next(iter(other.state_dict().values())), next(iter(expected.state_dict().values())))


def test_signal_handlers_are_restored(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    train(model(), tmp_path, epochs=1)
    assert {number: signal.getsignal(number) for number in before} == before


def test_fit_works_outside_the_main_thread(uninterrupted, tmp_path: Path) -> None:
    """Python allows no signal handlers there."""
    built = model()
    thread = threading.Thread(target=train, args=(built, tmp_path))
    thread.start()
    thread.join()
    assert_same_run(tmp_path, uninterrupted[True, 1][0])


def test_finished_run_is_unchanged_when_resumed(uninterrupted, tmp_path: Path) -> None:
    train(model(), tmp_path)
    built = model(seed=5)
    history = train(built, tmp_path, resume=True)
    whole, expected, first = uninterrupted[True, 1]
    assert untimed(history.epochs) == untimed(first.epochs)
    assert history.best_epoch == first.best_epoch
    assert_same_run(tmp_path, whole)
    assert_same_weights(built, expected)


def test_finished_run_resumes_for_more_epochs(uninterrupted, tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=2)
    train(model(), tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted[True, 1][0])


# -- Refusals --------------------------------------------------------------------------------------------------------


def test_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(RunError, match="holds a run already: resume it, or choose another directory"):
        train(model(), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_resume_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no checkpoint at .*the run has not saved one yet"):
        train(model(), tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 3}, "seed 0 → 3"),
        ({"batch_size": 6}, "batch_size 5 → 6, anneal_steps 10 → 8"),
        ({"learning_rate": 0.1}, "learning_rate 0.01 → 0.1"),
        ({"anneal_epochs": 3}, "anneal_steps 10 → 15"),
        ({"decay_epochs": 1}, "steps None → 20, decay_steps None → 5"),
    ],
)
def test_resume_with_other_settings_is_refused_by_name(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=1)
    fresh = model(seed=4)
    with pytest.raises(RunError, match=re.escape(f"was trained with other settings ({message})")):
        train(fresh, tmp_path, resume=True, **changed)
    assert_same_weights(fresh, model(seed=4))


def test_resume_with_another_class_is_refused(tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=1)
    fresh: Any = MVTCAE(dict(model().modalities), 2)
    with pytest.raises(RunError, match=r"other settings \(model 'MVAE' → 'MVTCAE'\)"):
        train(fresh, tmp_path, resume=True)


def test_resume_with_other_observed_values_is_refused(tmp_path: Path) -> None:
    own = table(complete=False)
    train(model(), tmp_path, data=own, epochs=1)
    has, image = own.has("image"), torch.as_tensor(own["image"]).clone()
    assert not has.all()
    image[~has] = 0.5
    present = {name: own.has(name) for name in own.names}
    train(model(), tmp_path, data=Table(dict(own.columns) | {"image": image}, present), epochs=2, resume=True)
    image[has.nonzero()[0]] = 0.5
    with pytest.raises(RunError, match="trained on other rows: resume with the same table, or train anew"):
        train(model(), tmp_path, data=Table(dict(own.columns) | {"image": image}, present), epochs=3, resume=True)


def test_resume_with_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=1)
    with pytest.raises(RunError, match="rows 23 → 20"):
        fit(
            model(),
            table().take(slice(0, 20)),
            epochs=1,
            anneal_epochs=2,
            batch_size=BATCH,
            learning_rate=1e-2,
            run_dir=tmp_path,
            resume=True,
            callbacks=[],
        )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, i: t.pop("model/_modalities.image.encoder.1.bias"), "lacks _modalities.image.encoder.1.bias"),
        (lambda t, i: t.pop("best/_modalities.image.encoder.1.bias"), "lacks _modalities.image.encoder.1.bias"),
        (lambda t, i: t.update({"model/odd": torch.zeros(1)}), "has the unknown odd"),
        (lambda t, i: t.pop("step/generator"), "is damaged .*generator"),
        (
            lambda t, i: t.update({"step/optimizer/_modalities.label.decoder.1.bias/exp_avg": torch.zeros(9)}),
            "the optimizer's exp_avg of _modalities.label.decoder.1.bias has another shape",
        ),
        (lambda t, i: i.pop("epoch"), "is damaged .*'epoch' is not in it"),
        (lambda t, i: i.update(settings=None), "is damaged"),
    ],
)
def test_mismatched_checkpoint_is_refused(spoil, message: str, tmp_path: Path) -> None:
    assert_spoilt_checkpoint_refused(tmp_path, spoil, message, epochs=3)
    assert len((tmp_path / METRICS).read_text().splitlines()) == 3


def test_metrics_have_one_json_line_per_epoch(tmp_path: Path) -> None:
    history = train(model(), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines == history.epochs
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
