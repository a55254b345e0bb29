"""Errors that stop fit(), and what is kept."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import DataError, RunError, SettingsError, TrainingError
from mvae.files import load_state
from mvae.models.mvae import MVAE
from mvae.training.checkpoint import CHECKPOINT, METRICS
from mvae.training.fit import fit
from tests.small_training import BATCH, STEPS, Watched, columns, model, same, small, weights


class Breaks(nn.Module):
    """A network whose output is NaN from its n-th training call on."""

    def __init__(self, inner: nn.Module, at: int):
        super().__init__()
        self.inner, self.left = inner, at

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.left -= 1
        return self.inner(x) * (math.nan if self.left < 0 else 1.0)


def assert_fails(trained: MVAE, run_dir: Path, message: str, epochs: int = 9) -> None:
    """Training stops with this message; every step before it was saved."""
    with pytest.raises(TrainingError, match=message):
        fit(
            trained,
            Table(columns()),
            epochs=epochs,
            batch_size=BATCH,
            callbacks=[],
            run_dir=run_dir,
            checkpoint_seconds=0.0,
        )


@pytest.mark.parametrize("name", ["image", "label", "sound"])
def test_non_finite_loss_stops_training_and_keeps_the_last_good_checkpoint(name: str, tmp_path: Path) -> None:
    parts = small()
    parts[name].decoder = Breaks(parts[name].decoder, at=7)  # in the second epoch
    message = rf"^\w+/{name} is not finite in epoch 2, step 3: .*checkpoint is kept"
    assert_fails(MVAE(parts, 2, cross_from=()), tmp_path, message)
    tensors, info = load_state(tmp_path / CHECKPOINT)
    assert (info["epoch"], info["step_in_epoch"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1


def test_nan_from_an_encoder_stops_training(tmp_path: Path) -> None:
    parts = small()
    parts["label"].encoder = Breaks(parts["label"].encoder, at=2)
    assert_fails(MVAE(parts, 2, cross_from=()), tmp_path, "is not finite in epoch 1, step 3")


@pytest.mark.parametrize("at", [3, STEPS])
def test_non_finite_weights_are_never_saved(at: int, tmp_path: Path) -> None:
    """The loss of the step is finite, but the weights after it are not."""
    trained, calls = model(), [0]

    def spoil(gradient: Tensor) -> Tensor:
        calls[0] += 1
        return gradient * math.nan if calls[0] == at else gradient

    trained.get_parameter("_modalities.label.decoder.1.weight").register_hook(spoil)
    assert_fails(trained, tmp_path, "label.decoder.1.weight is not finite", epochs=1)
    tensors, _ = load_state(tmp_path / CHECKPOINT)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"anneal_epochs": -1}, "anneal_epochs must be at least 0, not -1"),
        ({"decay_epochs": -1}, "decay_epochs must be at least 0, not -1"),
        ({"decay_epochs": 2}, "decay_epochs must be at most epochs, 1, not 2"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must be at least 0, not -1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number, not inf"),
        ({"epochs": 2.5}, "epochs must be a whole number, not 2.5"),
        ({"epochs": math.nan}, "epochs must be a finite number, not nan"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"learning_rate": True}, "learning_rate must be a number, not True"),
        ({"optimizer": "adagrad"}, "optimizer must be 'adam', 'adamw' or 'sgd', not 'adagrad'"),
        ({"epoch": 3}, "there is no setting 'epoch' (did you mean 'epochs'?)"),
        ({"seed": -1}, "seed must be a whole number between 0 and 2³¹ − 1, not -1"),
        ({"seed": 2**31}, "seed must be a whole number between 0 and 2³¹ − 1"),
        ({"patience": 2}, "patience needs validation="),
        ({"resume": True}, "resume=True needs run_dir"),
    ],
)
def test_invalid_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        fit(model(), Table(columns()), **({"epochs": 1, "callbacks": []} | changed))


def test_unknown_setting_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    unknown: Any = {"epoch": 3}
    with pytest.raises(SettingsError, match="there is no setting 'epoch'"):
        fit(model(), Table(columns()), run_dir=tmp_path / "run", callbacks=[], **unknown)
    assert not (tmp_path / "run").exists()


def test_seed_may_be_a_numpy_integer() -> None:
    seed: Any = np.int64(7)
    one, other = model(), model()
    fit(one, Table(columns()), epochs=1, seed=seed, callbacks=[])
    fit(other, Table(columns()), epochs=1, seed=7, callbacks=[])
    assert same(weights(one), weights(other))


def test_pseudo_labels_without_effect_are_refused() -> None:
    guessing = MVAE(small(), 2, cross_from=("image",), pseudo_labels=("label",))
    with pytest.raises(SettingsError, match=r"pseudo_labels take effect once β is 1, which beta=0\.2 never reaches"):
        fit(guessing, Table(columns()), epochs=1, beta=0.2, callbacks=[])


def test_model_with_nothing_to_train_is_refused() -> None:
    frozen = model()
    frozen.requires_grad_(False)
    with pytest.raises(SettingsError, match="no parameters to train"):
        fit(frozen, Table(columns()), epochs=1, callbacks=[])


def test_only_frozen_parameters_stay() -> None:
    partly = model()
    partly.modalities["image"].encoder.requires_grad_(False)
    before = weights(partly)
    fit(partly, Table(columns()), epochs=1, batch_size=BATCH, callbacks=[])
    for name, value in partly.named_parameters():
        assert torch.equal(value, before[name]) == ("image.encoder" in name)


def test_invalid_rows_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    wrong = columns()
    wrong["label"][4] = 3
    for table, validation in ((Table(wrong), None), (Table(columns()), Table(wrong))):
        with pytest.raises(DataError, match="modality 'label', row 4: class numbers 0 to 2"):
            fit(model(), table, validation=validation, epochs=1, run_dir=tmp_path / "run", callbacks=[])
    assert not (tmp_path / "run").exists()


def test_unwritable_run_directory_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    watched = Watched()
    with pytest.raises(RunError, match=r"cannot write .*Not a directory") as caught:
        fit(watched, Table(columns()), epochs=1, run_dir=tmp_path / "file" / "run", callbacks=[])
    assert "\n" not in str(caught.value)
    assert watched.betas == []
