"""The commands in unusual surroundings: an ASCII locale, odd names and cells, changed files, damaged runs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import assert_refused, mvae
from tests.patients import csv_of, patients

pd = pytest.importorskip("pandas")

ASKED = ("--rows", 5, "--samples", 20, "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run of it."""
    here = tmp_path_factory.mktemp("surroundings")
    trained = mvae("train", csv_of(patients(), here), "--epochs", 1, "--run-dir", here / "run", "--json")
    assert trained.code == 0, trained.err
    return here


def test_commands_work_in_an_ascii_locale(folder: Path) -> None:
    """The package itself could not be imported."""
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "mvae", "info", str(folder / "run"), "--json"]
    done = subprocess.run(command, env={**os.environ, **ascii_only}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["progress"]["epoch"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is that of Linux")
def test_too_little_memory_to_load_pytorch_is_said_in_one_line(folder: Path) -> None:
    command = f"ulimit -v 300000; exec {shlex.quote(sys.executable)} -m mvae info {shlex.quote(str(folder / 'run'))}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["mvae: this needs more memory than there is: ask for less at once"],
    )


def test_name_that_is_not_utf_8_is_refused_at_once(tmp_path: Path) -> None:
    """Training went on until the first checkpoint, and ended in a traceback."""
    source = csv_of(patients(), tmp_path, "andr\udce9.csv")
    assert_refused(mvae("train", source, "--run-dir", tmp_path / "run"), "is not UTF-8: use a UTF-8 terminal")
    assert not (tmp_path / "run").exists()


def test_declaration_of_cells_and_names_with_line_breaks_can_be_read(tmp_path: Path) -> None:
    frame = patients().assign(sex=lambda all: all["sex"].map({"f": "f\nemale", "m": "m\x07ale"}), clinic="north\nwest")
    source = csv_of(frame, tmp_path, "two\nlines.csv")
    assert mvae("describe", source, "-o", tmp_path / "run.toml").code == 0
    declared = tomllib.loads((tmp_path / "run.toml").read_text(encoding="utf-8"))
    assert declared["data"]["source"] == str(source)
    assert declared["modalities"]["two\nlines"]["kinds"]["sex"] == "binary"


def _rename(layout: dict[str, Any]) -> None:
    layout["columns"][1]["name"] = "zz"


def _repeat(layout: dict[str, Any]) -> None:
    layout["columns"].append(layout["columns"][1])


def _unhashable(layout: dict[str, Any]) -> None:
    layout["modalities"]["patients"][0] = ["hb"]


@pytest.mark.parametrize(
    "damage",
    [
        _rename,
        _repeat,
        _unhashable,
        lambda layout: layout["columns"][1].update(resolution=float("inf")),
        lambda layout: layout["columns"][1].update(classes=10**9),
        lambda layout: layout["columns"][1].update(dtype=["f", "m"]),
        lambda layout: layout["columns"].__setitem__(0, 2.5),
    ],
)
@pytest.mark.parametrize("command", ["impute", "evaluate", "report"])
def test_damaged_description_of_columns_is_refused(
    command: str, damage: Callable[[dict[str, Any]], None], folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(folder / "run", tmp_path / "run")
    stored = json.loads((run / "run.json").read_text(encoding="utf-8"))
    damage(stored["layout"])
    (run / "run.json").write_text(json.dumps(stored), encoding="utf-8")
    words = [folder / "patients.csv"] if command == "impute" else ASKED[:4]
    assert_refused(mvae(command, run, *words), "run.json is damaged")


def test_run_whose_file_has_lost_a_column_can_be_evaluated(tmp_path: Path) -> None:
    source = csv_of(patients(), tmp_path)
    assert mvae("train", source, "--epochs", 1, "--run-dir", tmp_path / "run", "--json").code == 0
    csv_of(patients().drop(columns="hb"), tmp_path)
    evaluated = mvae("evaluate", tmp_path / "run", *ASKED)
    assert evaluated.code == 0, evaluated.err
    assert "hb" not in {cell["column"] for cell in evaluated.json()["cells"]}


def test_failure_after_training_says_that_the_run_is_saved(tmp_path: Path) -> None:
    (tmp_path / "run" / "samples.png").mkdir(parents=True)
    failed = mvae("train", "digits", "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu", "--json")
    assert (failed.code, failed.out) == (2, "")
    assert f"all is saved: mvae evaluate {tmp_path / 'run'}" in failed.err
    assert "samples.png: it is a directory" in failed.err
