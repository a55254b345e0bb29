"""A run that is killed at any moment, or whose disk fills up, resumes bit-for-bit."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

import mvae.files
from mvae.errors import RunError
from mvae.training.callbacks import Plan
from mvae.training.checkpoint import CHECKPOINT, METRICS
from mvae.training.progress import Reporter
from tests.resumable import (
    STEPS,
    assert_same_run,
    files,
    model,
    stop,
    train,
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    train(model(), directory)
    return directory


# -- Kills -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from mvae.files import load_state
from mvae.training.checkpoint import read_metrics
from mvae.training.progress import Reporter
from tests.resumable import assert_same_run, files, model, train

directory, whole = Path(sys.argv[2]), Path(sys.argv[3])
chance, steps = random.Random(), []

class Twice(Reporter):
    every = 0.0
    def on_step(self, epoch, step, values):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

def fork(target):
    child = os.fork()
    if child == 0:
        target()
        os._exit(0)
    return child

def go():
    train(model(), directory, epochs=10**9, resume=path.exists(), checkpoint_seconds=0.0)

def written():
    return path.stat().st_mtime_ns if path.exists() else 0

train(model(), whole / "warm", epochs=1)  # the first step imports half of torch
path = directory / "checkpoint.safetensors"
for attempt in range(8):
    before = written()
    child = fork(go)
    while attempt % 2 == 0 and written() == before:
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.2))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    tensors, info = load_state(path)
    assert len(read_metrics(directory)) >= info["epoch"]
    steps.append(info["epoch"] * 5 + info["step_in_epoch"])
assert steps == sorted(steps) and steps[-1] > steps[0], steps
epochs = info["epoch"] + 1
train(model(seed=7), directory, epochs=epochs, resume=True)
train(model(), whole / "run", epochs=epochs)
assert_same_run(directory, whole / "run")
assert files(directory) == {"checkpoint.safetensors", "metrics.jsonl"}, files(directory)

child = fork(lambda: train(model(), whole / "twice", callbacks=[Twice()]))
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
"""


def test_killed_run_resumes_exactly_and_second_signal_ends_at_once(
    tmp_path: Path,
) -> None:
    """One process imports PyTorch once, and kills its own children."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(root), str(tmp_path / "killed"), str(tmp_path / "whole")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_run_killed_before_its_first_checkpoint_starts_over(uninterrupted, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"epoch": 2}\n')  # as left by such a run
    for half in (f".{CHECKPOINT}.123", ".tmpBbpF9d"):  # this library's temporary file, and that of safetensors
        (tmp_path / half).write_bytes(b"half of one")
    train(model(), tmp_path)
    assert_same_run(tmp_path, uninterrupted)
    assert files(tmp_path) == {CHECKPOINT, METRICS}


def test_metrics_written_after_the_checkpoint_are_dropped(uninterrupted, tmp_path: Path) -> None:
    stop(model(), tmp_path, at=STEPS + 2)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"epoch": 2}\n{"epoch": 3, "los')
    (tmp_path / ".tmpBbpF9d").write_bytes(b"half of a checkpoint")
    train(model(), tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted)
    assert files(tmp_path) == {CHECKPOINT, METRICS}


def test_missing_or_shortened_metrics_are_refused(tmp_path: Path) -> None:
    train(model(), tmp_path, epochs=2)
    (tmp_path / METRICS).write_text("")
    with pytest.raises(RunError, match=r"metrics.jsonl is shorter than when its checkpoint was written"):
        train(model(), tmp_path, resume=True)
    (tmp_path / METRICS).unlink()
    with pytest.raises(RunError, match=r"cannot use .*metrics.jsonl: No such file"):
        train(model(), tmp_path, resume=True)


# -- Full disks ------------------------------------------------------------------------------------------------------


def test_full_disk_keeps_the_old_checkpoint(monkeypatch: pytest.MonkeyPatch, uninterrupted, tmp_path: Path) -> None:
    stop(model(), tmp_path, at=7)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(mvae.files, "save_file", full)
        message = r"cannot write .*checkpoint.safetensors: No space left on device. Free .*is kept: resume from it"
        with pytest.raises(RunError, match=message):
            train(model(), tmp_path, resume=True, checkpoint_seconds=0.0)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert files(tmp_path) == {CHECKPOINT, METRICS}
    train(model(), tmp_path, resume=True)
    assert_same_run(tmp_path, uninterrupted)


class FullDevice(Reporter):
    """Puts metrics.jsonl on a device that is always full."""

    def __init__(self, directory: Path):
        super().__init__()
        self.directory = directory

    def on_start(self, plan: Plan) -> None:
        (self.directory / METRICS).symlink_to("/dev/full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_unwritable_metrics_are_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*metrics.jsonl: No space left on device") as caught:
        train(model(), tmp_path, callbacks=[FullDevice(tmp_path)])
    assert "\n" not in str(caught.value)
