"""Sweeps in one process and in several: results by name, failures at the end, no workers left after a kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import SettingsError, TrainingError
from mvae.runs.sweep import GRACE_SECONDS, sweep
from mvae.training.callbacks import Callback, Plan
from mvae.training.fit import fit
from tests.built import built
from tests.resumable import handled

ROOT = Path(__file__).parents[2]


def failing(job: int) -> int:
    if job == 2:
        raise TrainingError("job two cannot")
    return job * job


def test_results_come_by_name_with_one_line_per_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert dict(sweep(failing, {"one": 1, "three": 3})) == {"one": 1, "three": 9}
    assert [line.split("  (")[0] for line in capsys.readouterr().err.splitlines()] == ["[1/2] one", "[2/2] three"]
    assert list(sweep(failing, {})) == []


def test_failure_is_raised_after_the_other_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    results = sweep(failing, {"one": 1, "two": 2, "three": 3})
    assert [next(results), next(results)] == [("one", 1), ("three", 9)]
    with pytest.raises(TrainingError, match="job two cannot"):
        next(results)
    assert "[2/3] two  (failed: job two cannot)" in capsys.readouterr().err


def test_next_job_starts_after_the_result_is_taken() -> None:
    """The caller records each result before the next job begins: a kill loses one job."""
    done: list[int] = []

    def work(job: int) -> int:
        done.append(job)
        return job

    results = sweep(work, {"one": 1, "two": 2})
    next(results)
    assert done == [1]


def initial_weights(seed: int) -> torch.Tensor:
    return next(built("digits", seed=seed).parameters()).detach().clone()


def test_threads_initialise_the_same_weights_as_sequential_jobs() -> None:
    """They share PyTorch's global generator, which draws the initial weights."""
    jobs = {str(seed): seed for seed in range(12)}
    found = dict(sweep(initial_weights, jobs, workers=6, threads_on=torch.device("cpu")))
    assert all(torch.equal(found[name], initial_weights(seed)) for name, seed in jobs.items())
    failures = sweep(failing, {"one": 1, "two": 2, "three": 3}, workers=2, threads_on=torch.device("cpu"))
    with pytest.raises(TrainingError, match="job two cannot"):
        list(failures)


def test_signal_stops_training_in_threads() -> None:
    """Each thread ends its step and is interrupted; then the signal's own handler is called."""
    begun, ended = threading.Barrier(3), []

    def work(seed: int) -> None:
        model = built("digits", seed=seed)
        rows = Table({"image": torch.rand(20, 1, 8, 8), "label": torch.randint(0, 10, (20,))})

        class Waits(Callback):
            def on_start(self, plan: Plan) -> None:
                begun.wait()

            def on_end(self) -> None:
                ended.append(seed)

        fit(model, rows, epochs=10**6, callbacks=[Waits()])

    def send() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with handled(signal.SIGTERM) as received, pytest.raises(KeyboardInterrupt):
        dict(sweep(work, {"a": 0, "b": 1}, workers=2, threads_on=torch.device("cpu")))
    sender.join()
    assert sorted(ended) == [0, 1]
    assert received == [signal.SIGTERM]


def test_zero_workers_are_refused() -> None:
    with pytest.raises(SettingsError, match="must be at least 1, not 0"):
        list(sweep(failing, {"one": 1}, workers=0))


# A script, because spawned workers import the main module.
SCRIPT = """
import os, sys, time
from mvae.runs.sweep import sweep

def work(seconds):
    line = f"started {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\\n"
    print(line, end="", flush=True)  # at once, so that two workers' lines never mix
    if seconds == 0:
        raise ValueError("zero")
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    found = {}
    try:
        for name, pid in sweep(work, {"a": float(sys.argv[1]), "b": float(sys.argv[2])}, workers=2):
            found[name] = pid
    except ValueError as error:
        print("raised", error)
    print("result", sorted(found), len(set(found.values()) - {os.getpid()}), os.environ.get("OMP_NUM_THREADS"))
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    (folder / "script.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, str(folder / "script.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_workers_are_processes_with_a_share_of_the_cores(tmp_path: Path) -> None:
    process = start(tmp_path, "0.01", "0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = [line.split() for line in out.splitlines() if line.startswith("started")]
    assert {threads for _, _, threads in started} == {str(max(1, cores // 2))}
    assert "raised zero" in out
    assert "result ['a'] 1 None" in out  # the parent's own environment is unchanged


@pytest.mark.skipif(not hasattr(os, "getppid") or sys.platform == "win32", reason="needs POSIX signals")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    seconds = 10 * GRACE_SECONDS  # of a job: so long that it does not end the worker
    process = start(tmp_path, str(seconds), str(seconds))
    assert process.stdout is not None
    workers = [int(process.stdout.readline().split()[1]) for _ in range(2)]
    process.kill()
    process.wait()
    try:
        end = time.monotonic() + 2 * GRACE_SECONDS
        while any(alive(pid) for pid in workers) and time.monotonic() < end:
            time.sleep(0.1)
        assert [pid for pid in workers if alive(pid)] == []
    finally:
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
