"""Runs many small jobs at once: in processes on this machine, each with a share of the cores, or on an engine.

Each job prints a line of progress, and its result is handed over as it ends. On one GPU, jobs are threads with a stream
each: the small kernels of several runs then run side by side, whereas processes take turns (benchmarks/README.md).
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from functools import partial
from typing import TypeVar

import torch

from mvae.errors import SettingsError
from mvae.runs.engine import ENGINES, submitted
from mvae.training.signals import stop_signals

__all__ = ["sweep"]

Job = TypeVar("Job")
Result = TypeVar("Result")

GRACE_SECONDS = 30  # time for an orphan to write its checkpoint
STREAMS = 32  # streams that PyTorch keeps per GPU; beyond them it gives out one that another thread may be using


def sweep(
    work: Callable[[Job], Result],
    jobs: Mapping[str, Job],
    workers: int = 1,
    engine: str | None = None,
    threads_on: torch.device | None = None,
) -> Iterator[tuple[str, Result]]:
    """Run all jobs, ``workers`` at a time; yields each job's name and result as it ends, in any order.

    Record each result when it comes: after a kill, the caller submits the jobs that are not recorded. A failing job
    does not stop the others; the first failure is raised when they have ended. Jobs must not write to the same files.

    Args:
        work: a function at the top level of a module, because other processes must find it.
        jobs: name → the argument of ``work`` (plain data).
        workers: number of processes; 1 works in this process. The cores are shared among them as threads.
        engine: ``"slurm"`` runs the jobs on other machines instead, ``workers`` at a time (see `mvae.runs.engine`).
        threads_on: a GPU that all jobs train on, with recorded steps; workers are then at most 32 threads of this
            process.

    Raises:
        SettingsError: fewer than one worker, or an unknown or unavailable engine. MissingDependencyError: an engine
            without submitit. RunError: a job on an engine failed.

    >>> dict(sweep(len, {"three": [1, 2, 3], "none": []}))
    {'three': 3, 'none': 0}
    """
    if workers < 1:
        raise SettingsError(f"the number of jobs at once must be at least 1, not {workers}")
    if engine is not None and engine not in ENGINES:
        raise SettingsError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    failures: list[Exception] = []
    outcomes = closing(_outcomes(partial(_timed, work), jobs, min(workers, len(jobs)), engine, threads_on))
    with outcomes as ended_jobs:  # closed on any exception: stops the other jobs and waits for them
        for number, (name, outcome) in enumerate(ended_jobs, start=1):
            try:
                result, seconds = outcome()
            except Exception as error:
                failures.append(error)
                ended = f"failed: {error}"
            else:
                ended = f"{seconds:.0f} s"
                yield name, result
            print(f"[{number}/{len(jobs)}] {name}  ({ended})", file=sys.stderr, flush=True)
    if failures:
        raise failures[0]


def _timed(work: Callable[[Job], Result], job: Job) -> tuple[Result, float]:
    began = time.monotonic()
    return work(job), time.monotonic() - began


def _outcomes(
    work: Callable[[Job], Result],
    jobs: Mapping[str, Job],
    workers: int,
    engine: str | None,
    threads_on: torch.device | None,
) -> Generator[tuple[str, Callable[[], Result]], None, None]:
    """Yield each job's name, and a call that gives its result or raises its error."""
    if engine is not None:
        if jobs:
            yield from submitted(work, jobs, workers, engine)
        return
    if workers <= 1:
        for name, job in jobs.items():
            yield name, partial(work, job)
        return
    if threads_on is not None:
        with stop_signals():
            executor = ThreadPoolExecutor(min(workers, STREAMS), initializer=_on_a_stream, initargs=(threads_on,))
            yield from _as_they_end(executor, work, jobs)
        return
    with _threads(max(1, _cores() // workers)):
        # A forked process would inherit PyTorch's threads in whatever state they are in.
        spawn = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, spawn, initializer=_stop_with_parent)
        yield from _as_they_end(executor, work, jobs)


def _as_they_end(
    executor: ProcessPoolExecutor | ThreadPoolExecutor, work: Callable[[Job], Result], jobs: Mapping[str, Job]
) -> Iterator[tuple[str, Callable[[], Result]]]:
    try:
        names: dict[Future[Result], str] = {executor.submit(work, job): name for name, job in jobs.items()}
        for future in as_completed(names):
            yield names[future], future.result
    finally:
        executor.shutdown(cancel_futures=True)


def _on_a_stream(device: torch.device) -> None:
    """Give this thread a stream of its own, for all its jobs and for recording their steps."""
    if device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.Stream(device))


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Give processes started inside the block this many threads (PyTorch, BLAS), unless the user has set a number."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(number)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _stop_with_parent() -> None:
    """Make this worker stop as on a signal if its parent is killed (`fit` saves a checkpoint), not at its job's end."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_SECONDS)
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
