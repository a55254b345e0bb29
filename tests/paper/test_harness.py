"""Which runs of a sweep share a GPU as threads; what crosses to another process."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

from mvae.paper import harness
from mvae.paper.cell import Cell
from mvae.paper.harness import swept
from mvae.paper.item import Job, Options, Paths
from mvae.paper.items import ITEMS


@pytest.mark.parametrize(
    ("dataset", "model", "changed", "threads"),
    [
        ("mnist", "mvae", {"pairs": 0.1}, True),
        ("multimnist", "mvae", {}, True),
        ("multimnist", "mvae", {"pairs": 0.1}, False),  # batch norm on rows that lack the image
        ("multimnist", "mvae", {"pairs": 1.0}, True),
        ("multimnist", "nn", {"pairs": 0.1}, True),  # of pairs alone
        ("celeba", "mvae", {"kept": 0.1}, False),
    ],
)
def test_on_a_gpu_threads_train_what_can_be_recorded_and_processes_the_rest(
    dataset: str, model: str, changed: dict[str, Any], threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed to see who would be asked."""
    asked: dict[str, Any] = {}

    def sweep(work: Any, jobs: dict[str, Any], workers: int, engine: str | None, threads_on: Any) -> Any:
        asked.update(dict.fromkeys(jobs, threads_on))
        return iter(())

    monkeypatch.setattr(harness, "sweep", sweep)
    monkeypatch.setattr(harness, "device_named", lambda _: torch.device("cuda"))
    cell = Cell.of(dataset, model=model, **changed)
    cells = {"run": cell, "raw pixels": replace(cell, model="logreg")}
    jobs = {name: Job(ITEMS["table8"], (cell,), "smoke", Paths()) for name, cell in cells.items()}
    assert list(swept(lambda _: [], jobs, 2, Paths())) == []
    assert (asked["run"] is not None) == threads
    assert asked["raw pixels"] is None
    asked.clear()
    list(swept(lambda _: [], jobs, 1, Paths()))
    assert set(asked.values()) == {None}


def test_every_job_can_be_measured_in_another_process() -> None:
    for item in ITEMS.values():
        if item.cells is not None:
            options = item.completed(Options(budget="smoke"))
            cells = tuple(item.cells(options, item.budgets["smoke"]))
            job = pickle.loads(pickle.dumps(Job(item, cells, "smoke", Paths())))
            assert job.cells == cells
            assert job.origin().command.startswith(f"mvae reproduce {item.name} --")
