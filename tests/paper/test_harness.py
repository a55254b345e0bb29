"""Which runs of a sweep share a GPU as threads."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mvae.paper import harness
from mvae.paper.harness import Places, swept
from mvae.paper.settings import Settings


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
    jobs = {"run": Settings.of(dataset, model=model, **changed)}
    jobs["raw pixels"] = replace(jobs["run"], model="logreg")
    assert list(swept(lambda _: [], jobs, lambda job: job, 2, Places())) == []
    assert (asked["run"] is not None) == threads
    assert asked["raw pixels"] is None
    asked.clear()
    list(swept(lambda _: [], jobs, lambda job: job, 1, Places()))
    assert set(asked.values()) == {None}
