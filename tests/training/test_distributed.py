"""Two processes train as one does, stop together, resume bit-for-bit, and do not wait for a dead one."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mvae.data.table import Table
from mvae.files import load_state
from mvae.models.mvae import MVAE
from mvae.training.checkpoint import CHECKPOINT, METRICS, read_metrics
from mvae.training.distributed import Processes
from mvae.training.fit import fit
from tests.resumable import assert_same_run, untimed
from tests.small_training import columns, incomplete, model, small

#: The model, the table and settings of each case. With one row per batch, the second process gets none.
CASES: dict[str, dict[str, Any]] = {
    "complete, k = 1": {"model": lambda: model(k=1), "table": lambda: Table(columns())},
    "incomplete, cross terms": {"model": lambda: MVAE(small(), 2, random_subsets=2), "table": lambda: incomplete()},
    "a row in a batch": {"model": model, "table": lambda: incomplete(), "batch_size": 1},
    "few have a modality, clipped": {
        "model": model,
        "table": lambda: Table(columns(), {"sound": torch.arange(23) % 9 == 0}),
        "clip_norm": 0.5,
        "anneal_epochs": 1,
    },
}

TOGETHER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import tests.resumable as one
from mvae.cli.main import cli
from mvae.errors import TrainingError
from mvae.training.distributed import joined
from tests.training.test_distributed import CASES, trained

place = Path(sys.argv[2])

class Stops(one.MVAE):
    steps = 0
    def batch_objective(self, *given, **named):
        self.steps += torch.is_grad_enabled()
        if self.steps == 7 and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch_objective(*given, **named)

def of(kind):
    built = one.model()
    built.__class__ = kind
    return built

with joined() as processes:
    for name in CASES:
        trained(name, place / name)
    one.train(one.model(), place / "whole", complete=False)
    with one.handled(signal.SIGTERM) as came:
        history = one.train(of(one.MVAE if processes.first else Stops), place / "stopped", complete=False)
    assert history.interrupted and len(came) == processes.rank
    history = one.train(one.model(seed=3), place / "stopped", complete=False, resume=True)
    assert len(history.epochs) == one.EPOCHS and not history.interrupted
    cli(["train", "digits", "--epochs", "1", "--set", "evaluation.samples=2", "--set", "data.rows=100", "--run-dir",
         str(place / "digits")], standalone_mode=False)

    class Dies(Stops):
        def batch_objective(self, *given, **named):
            if self.steps == 3:
                os._exit(7)
            return super().batch_objective(*given, **named)

    with one.handled(signal.SIGTERM):  # torchrun sends it to the others, perhaps before they notice
        try:
            one.train(one.model() if processes.first else of(Dies), place / "died")
        except TrainingError as error:
            (place / "error").write_text(str(error))
"""


def trained(name: str, directory: Path) -> None:
    """Train one of the cases in float64, with a run directory."""
    chosen = {"batch_size": 5, "epochs": 2, "learning_rate": 1e-2} | CASES[name]
    built, table = chosen.pop("model")().double(), chosen.pop("table")()
    torch.set_num_threads(1)
    fit(built, table, validation=Table(columns(seed=5)), run_dir=directory, callbacks=[], **chosen)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder that two processes wrote to, and what they printed."""
    place, script = tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("script") / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    root = Path(__file__).parents[2]
    return place, subprocess.run([*command, str(root), str(place)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, together, tmp_path: Path) -> None:
    """Equal up to float64's rounding: weights, metrics and Adam's moments (of the parameters with a gradient)."""
    trained(name, tmp_path)
    (tensors, info), (others, other_info) = (load_state(path / CHECKPOINT) for path in (tmp_path, together[0] / name))
    assert info["optimizer_tensors"] == other_info["optimizer_tensors"]
    assert tensors.keys() == others.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(
            others[key], tensor, rtol=1e-9, atol=1e-11, msg=lambda text, key=key: f"{key} {text}"
        )
    for row, other in zip(*(untimed(read_metrics(path)) for path in (tmp_path, together[0] / name)), strict=True):
        assert other == pytest.approx(row, rel=1e-9, abs=1e-11)


def test_stopping_one_process_stops_all_and_they_resume_exactly(together) -> None:
    assert_same_run(together[0] / "stopped", together[0] / "whole")


def test_command_trains_in_all_processes_and_one_prints(together) -> None:
    place, done = together
    assert len(re.findall(r"^epoch 1/1 ", done.stdout, re.MULTILINE)) == 1, done.stderr[-2000:]
    assert done.stdout.count("try next: mvae sample") == 1
    assert len(read_metrics(place / "digits")) == 1
    assert {METRICS, CHECKPOINT, "run.json", "samples.png"} <= {file.name for file in (place / "digits").iterdir()}


def test_dead_process_ends_the_others_and_the_command_fails(together) -> None:
    place, done = together
    assert done.returncode == 1
    assert (place / "error").read_text().startswith("another process of this training ended; its output says why (")


def test_each_row_of_a_batch_belongs_to_one_process() -> None:
    for rows in (1, 2, 5, 8):
        parts = [Processes(rank, 3).part(rows) for rank in range(3)]
        assert sum(share for _, share in parts) == pytest.approx(1)
        assert [row for part, share in parts if share for row in range(rows)[part]] == list(range(rows))
