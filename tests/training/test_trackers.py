"""Adapters of tracking services, tested with the services that are installed, in a local folder."""

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from mvae.errors import MissingDependencyError
from mvae.training import trackers
from tests.resumable import EPOCHS, model, train

CONFIG = {"model": {"name": "mvae", "a<b>": 1}}


@pytest.mark.parametrize("name", ["WandB", "MLflow", "Trackio"])
def test_missing_service_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> Any:
        raise ImportError

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match="pip install"):
        getattr(trackers, name)("project")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_records_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    train(model(), tmp_path / "run", callbacks=[trackers.MLflow("mvae", "first", CONFIG)])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mvae")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.name": "mvae", "model.a_b_": "1"}
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [
        *range(1, EPOCHS + 1)
    ]


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_records_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = trackers.WandB("mvae", "first", CONFIG, mode="offline", dir=str(tmp_path))
    train(model(), tmp_path / "run", callbacks=[tracker])
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    for _ in range(200):  # the service's own process writes it
        if b"train/loss" in log.read_bytes():
            break
        time.sleep(0.1)
    assert b"train/loss" in log.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_trackio_records_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    train(model(), tmp_path / "run", callbacks=[trackers.Trackio("mvae", "first", CONFIG, embed=False)])
    assert list((tmp_path / "trackio").glob("mvae*"))
