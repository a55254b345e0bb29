"""The runs of a sweep that share a GPU as threads, and jobs sent to other processes."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvae.paper import harness
from mvae.paper.cell import Cell, cell_of
from mvae.paper.harness import directory_of, finished_run, swept
from mvae.paper.item import Job, Options, Paths
from mvae.paper.items import ITEMS
from mvae.training.checkpoint import CHECKPOINT


@pytest.mark.parametrize(
    ("dataset", "model", "changed", "threads"),
    [
        ("mnist", "mvae", {"pairs": 0.1}, True),
        ("multimnist", "mvae", {}, True),
        ("multimnist", "mvae", {"pairs": 0.1}, False),  # batch norm on rows without the image
        ("multimnist", "mvae", {"pairs": 1.0}, True),
        ("multimnist", "nn", {"pairs": 0.1}, True),  # trained on pairs only
        ("celeba", "mvae", {"kept": 0.1}, False),
    ],
)
def test_gpu_threads_train_recordable_runs_and_processes_the_rest(
    dataset: str, model: str, changed: dict[str, Any], threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice is tested without a GPU."""
    chosen: dict[str, Any] = {}

    def sweep(work: Any, jobs: dict[str, Any], workers: int, engine: str | None, threads_on: Any) -> Any:
        chosen.update(dict.fromkeys(jobs, threads_on))
        return iter(())

    monkeypatch.setattr(harness, "sweep", sweep)
    monkeypatch.setattr(harness, "device_named", lambda _: torch.device("cuda"))
    cell = Cell.of(dataset, model=model, **changed)
    cells = {"run": cell, "raw pixels": replace(cell, model="logreg")}
    jobs = {name: Job(ITEMS["table8"], (cell,), "smoke", Paths()) for name, cell in cells.items()}
    assert list(swept(lambda _: [], jobs, 2, Paths())) == []
    assert (chosen["run"] is not None) == threads
    assert chosen["raw pixels"] is None
    chosen.clear()
    list(swept(lambda _: [], jobs, 1, Paths()))
    assert set(chosen.values()) == {None}


def test_image_model_for_spreading_is_trained_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell.of("digits", pairs=0.05, epochs=2, spread=3)
    monkeypatch.chdir(tmp_path)
    run = finished_run(cell, Paths(runs=Path("runs"), callbacks=()))
    first = directory_of(cell.first, Paths(runs=Path("runs")))
    assert run.config.data.spread == {"label": str(first)}
    assert {path.name for path in Path("runs").iterdir()} == {first.name, run.directory.name}
    assert cell_of(run.config) == cell
    assert directory_of(cell.but(spread=0), Paths()) != directory_of(cell, Paths())
    twice = finished_run(cell.but(spread_rounds=2), Paths(runs=Path("runs"), callbacks=()))
    assert twice.config.data.spread == {"label": str(run.directory)}
    assert cell_of(twice.config) == cell.but(spread_rounds=2)
    assert len(list(Path("runs").iterdir())) == 3
    (run.directory / CHECKPOINT).unlink()
    again = finished_run(cell, Paths(runs=tmp_path / "runs", callbacks=()))
    assert all(torch.equal(*pair) for pair in zip(run.model.parameters(), again.model.parameters(), strict=True))


def test_every_job_can_be_pickled() -> None:
    for item in ITEMS.values():
        if item.cells is not None:
            options = item.completed(Options(budget="smoke"))
            cells = tuple(item.cells(options, item.budgets["smoke"]))
            job = pickle.loads(pickle.dumps(Job(item, cells, "smoke", Paths())))
            assert job.cells == cells
            assert job.origin().command.startswith(f"mvae reproduce {item.name} --")
