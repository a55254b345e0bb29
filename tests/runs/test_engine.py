"""Sweeps through an engine: submitit's local executor if it is installed, and the errors if it is not."""

import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mvae.errors import MissingDependencyError, RunError, SettingsError
from mvae.paper.harness import reproduce
from mvae.paper.item import Options, Paths
from mvae.paper.items import ITEMS
from mvae.paper.results import read_rows
from mvae.runs.sweep import sweep


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)  # the engine's files are below the working directory
    return "local"


def test_failure_does_not_stop_other_jobs(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = sweep(math.sqrt, {"four": 4.0, "minus": -1.0, "nine": 9.0}, workers=2, engine=engine)
    assert sorted([next(results), next(results)]) == [("four", 2.0), ("nine", 3.0)]
    with pytest.raises(RunError, match=r"job \d+ failed \(ValueError: math domain error\); its log is .*runs/engine/"):
        next(results)
    lines = capsys.readouterr().err.splitlines()
    assert sum("minus  (failed: job" in line for line in lines) == 1
    assert sum(line.startswith(("[1/3]", "[2/3]", "[3/3]")) for line in lines) == 3


def test_results_come_as_jobs_end_and_remaining_jobs_are_cancelled(engine: str) -> None:
    results = sweep(time.sleep, {"long": 300.0, "short": 0.0}, workers=2, engine=engine)
    assert next(results) == ("short", None)
    jobs = {int(file.name.split("_")[0]) for file in Path("runs/engine").glob("*_submitted.pkl")}  # process ids
    assert len(jobs) == 2
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    for pid in jobs:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_empty_sweep_needs_no_engine() -> None:
    assert list(sweep(math.sqrt, {}, engine="slurm")) == []


def test_engine_makes_the_same_table(engine: str, tmp_path: Path) -> None:
    def made(folder: str, engine: str | None) -> list[dict[str, Any]]:
        options = Options(models=("logreg",), levels=(0.05, 0.1), budget="smoke", jobs=2 if engine else 1)
        paths = Paths(tmp_path / folder, tmp_path / "runs", device="cpu", engine=engine)
        return reproduce(ITEMS["table8"], options, paths)

    rows = made("a", None), made("b", engine)
    assert [row["value"] for row in rows[0]] == [row["value"] for row in rows[1]]
    assert len(read_rows(tmp_path / "b" / "table8.json")) == 2


def test_unavailable_engine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="no engine 'ray'; there are slurm, local"):
        list(sweep(math.sqrt, {"four": 4.0}, engine="ray"))
    if not shutil.which("srun"):
        pytest.importorskip("submitit")
        with pytest.raises(SettingsError, match=r"no slurm here \(.*\): start the sweep where jobs are submitted from"):
            list(sweep(math.sqrt, {"four": 4.0}, engine="slurm"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingDependencyError, match=r"need submitit: pip install 'mvae\[cluster\]'"):
        list(sweep(math.sqrt, {"four": 4.0}, engine="local"))
