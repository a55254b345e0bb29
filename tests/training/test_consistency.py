"""A run directory is consistent, belongs to one training, and is refused otherwise."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import RunError, TrainingError
from mvae.files import load_state, locked
from mvae.models.mvae import MVAE
from mvae.training.callbacks import Callback, Plan
from mvae.training.checkpoint import CHECKPOINT, METRICS
from mvae.training.fit import fit
from tests.resumable import assert_same_weights, assert_spoilt_checkpoint_refused, model, train
from tests.small_training import BATCH, columns, small, weights
from tests.small_training import model as fresh

# -- One training per directory --------------------------------------------------------------------------------------


class SecondTraining(Callback):
    """Starts another training in the same directory while this one runs."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.refusals: list[str] = []

    def on_start(self, plan: Plan) -> None:
        for resume in (False, True):
            script = (
                "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
                "from mvae.errors import RunError; from tests.resumable import model, train\n"
                f"try: train(model(), Path(sys.argv[2]), resume={resume})\n"
                "except RunError as error: print(error)"
            )
            command = [sys.executable, "-c", script, str(Path(__file__).parents[2]), str(self.directory)]
            self.refusals.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_directory_in_use_is_refused_to_another_process(tmp_path: Path) -> None:
    other = SecondTraining(tmp_path / "run")
    train(model(), tmp_path / "run", callbacks=[other])
    for refusal in other.refusals:
        assert refusal == f"another process is training in {tmp_path / 'run'}: wait, or choose another directory\n"
    train(model(), tmp_path / "run", resume=True)  # it is free afterwards
    train(model(), tmp_path / "alone")


def test_lock_may_be_nested_in_a_thread(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        train(model(), tmp_path / "run", epochs=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*Not a directory"), locked(tmp_path / "file" / "run"):
        pass


# -- Headers, metrics and tensors ------------------------------------------------------------------------------------


def without_optimizer(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("step/optimizer/")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, i: i.update(epoch=-5), "epoch: Input should be greater than or equal to 0"),
        (lambda t, i: i.update(epoch=10**9), r"other epochs \(4\) than its checkpoint \(1000000000\)"),
        (lambda t, i: i.update(epoch=True), "epoch: Input should be a valid integer"),
        (lambda t, i: i.update(epoch="3"), "epoch: Input should be a valid integer"),
        (lambda t, i: i.update(step_in_epoch=99), "step 99 of 5"),
        (lambda t, i: i.update(best_epoch=99), "best_epoch 99 of 4 epochs"),
        (lambda t, i: i.update(best_epoch=None), "weights of the best epoch None"),
        (lambda t, i: i.update(stage="odd"), "stage 'odd' in epoch 4"),
        (lambda t, i: i.update(seconds=math.nan), "seconds: Input should be a finite number"),
        (lambda t, i: i.update(odd=1), "odd: Extra inputs are not permitted"),
        (lambda t, i: without_optimizer(t), "0 tensors of the optimizer, not 78"),
        (lambda t, i: t["model/_modalities.image.encoder.1.bias"].fill_(math.nan), "not finite in _modalities.image"),
        (lambda t, i: t["best/_modalities.image.encoder.1.bias"].fill_(math.inf), "not finite in _modalities.image"),
        (
            lambda t, i: t.update({"model/_modalities.image.encoder.1.bias": torch.zeros(6, dtype=torch.int8)}),
            r"encoder.1.bias of torch.int8 where the model's is of torch.float32",
        ),
        (
            lambda t, i: t["step/optimizer/_modalities.image.encoder.1.bias/exp_avg"].fill_(math.nan),
            "exp_avg of _modalities.image.encoder.1.bias is not finite",
        ),
    ],
)
def test_inconsistent_checkpoint_is_refused(spoil, message: str, tmp_path: Path) -> None:
    assert_spoilt_checkpoint_refused(tmp_path, spoil, message)


def test_metrics_of_another_epoch_are_refused(tmp_path: Path) -> None:
    train(model(), tmp_path)
    path = tmp_path / METRICS
    path.write_text(path.read_text().replace('"epoch": 2.0', '"epoch": 7.0'))
    with pytest.raises(RunError, match=r"other epochs \(4\) than its checkpoint \(4\)"):
        train(model(), tmp_path, resume=True)


# -- NaN, and modalities that no row has -------------------------------------------------------------------------------


class NanInEvaluation(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * (1.0 if self.training else math.nan)


def test_nan_in_validation_stops_training(tmp_path: Path) -> None:
    parts = small()
    parts["sound"].decoder = NanInEvaluation(parts["sound"].decoder)
    built = MVAE(parts, 2)
    rows = Table(columns())
    with pytest.raises(TrainingError, match=r"^validation/reconstruction/sound is not finite in epoch 1") as caught:
        fit(built, rows, validation=rows, epochs=3, run_dir=tmp_path, callbacks=[])
    assert "is kept" not in str(caught.value)  # there is no checkpoint
    assert not (tmp_path / CHECKPOINT).exists()


def test_directory_can_be_used_again_after_a_failed_first_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(model(), tmp_path, epochs=3, learning_rate=1e30)
    corrected, plain = model(), model()
    train(corrected, tmp_path)
    train(plain, tmp_path / "other")
    assert_same_weights(corrected, plain)


def test_modality_without_rows_is_named_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = columns()
    present = {"label": torch.zeros(23, dtype=torch.bool)}
    for number, rows in enumerate((Table(data, present), Table({n: x for n, x in data.items() if n != "label"}))):
        caplog.clear()
        history = fit(fresh(), rows, epochs=1, batch_size=BATCH, run_dir=tmp_path / str(number), callbacks=[])
        assert history.untrained == ("label",)
        assert "no training example has label" in caplog.text
        assert load_state(tmp_path / str(number) / CHECKPOINT)[1]["untrained"] == ["label"]


def test_training_without_selection_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    train(model(), None, epochs=2, anneal_epochs=3)
    assert "no weights are selected by validation" in caplog.text
    caplog.clear()
    train(model(), None, epochs=3, anneal_epochs=3)
    train(model(), None, epochs=2, anneal_epochs=3, validation=None)
    assert "no weights are selected" not in caplog.text


# -- What the user has frozen ------------------------------------------------------------------------------------------


def test_frozen_batch_norm_stays_frozen() -> None:
    """Frozen by eval(), with or without parameters, or by requires_grad_(False)."""
    norms = [nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False), nn.BatchNorm1d(6), nn.BatchNorm1d(6)]
    parts = small()
    parts["image"].encoder = nn.Sequential(nn.Linear(4, 6), *norms, nn.Linear(6, 4))
    built = MVAE(parts, 2)
    norms[0].eval()
    norms[1].eval()
    norms[2].requires_grad_(False)
    before = weights(built)
    fit(built, Table(columns()), validation=Table(columns()), epochs=2, batch_size=BATCH, callbacks=[])
    for number, norm in enumerate(norms):
        moved = not torch.equal(before[f"_modalities.image.encoder.{number + 1}.running_mean"], norm.running_mean)  # pyright: ignore
        assert moved == (number == 3), number


def test_fit_accepts_a_mapping() -> None:
    one, other = fresh(), fresh()
    fit(one, Table(columns()), epochs=1, callbacks=[])
    fit(other, columns(), validation=columns(), epochs=1, callbacks=[])
    assert_same_weights(one, other)
