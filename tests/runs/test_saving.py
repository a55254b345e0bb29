"""A saved model is loaded only into the same model, and not into another whose weights happen to fit."""

from pathlib import Path
from typing import Any

import pytest
import torch

import mvae
from mvae.errors import RunError
from mvae.networks.mlp import mlp


def model(kind: Any = mvae.MVAE, likelihood: str = "gaussian") -> Any:
    return kind({"x": mvae.Modality(mlp(3, 4), mlp(2, 3), likelihood)}, latent_dim=2)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: model(mvae.models.MoPoE), "is of the class MVAE, not MoPoE"),
        (lambda: model(likelihood="laplace"), "has the likelihoods Gaussian, not Laplace"),
    ],
)
def test_weights_are_not_loaded_into_another_model(tmp_path: Path, other: Any, message: str) -> None:
    own = model()
    mvae.save(own, tmp_path / "x.mvae")
    found = mvae.load(tmp_path / "x.mvae", model())
    x = {"x": torch.randn(5, 3)}
    assert torch.equal(found.posterior(x).mean, own.posterior(x).mean)
    with pytest.raises(RunError, match=message):
        mvae.load(tmp_path / "x.mvae", other())


def test_foreign_and_missing_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"x\.csv is damaged, or not a file that mvae\.save wrote"):
        mvae.load(tmp_path / "x.csv")
    with pytest.raises(RunError, match=r"x\.csv is a table, not a model"):
        mvae.load_table(tmp_path / "x.csv")
    with pytest.raises(RunError, match=r"there is no .*absent: give the file that mvae\.save wrote"):
        mvae.load(tmp_path / "absent")


def test_invalid_weights_are_not_saved(tmp_path: Path) -> None:
    own, path = model(), tmp_path / "x.mvae"
    mvae.save(own, path)
    before = path.read_bytes()
    with torch.no_grad():
        next(own.parameters())[0] = float("nan")
    with pytest.raises(RunError, match=r"cannot write .*x\.mvae: .*encoder.* of the model is not finite"):
        mvae.save(own, path)
    assert path.read_bytes() == before
