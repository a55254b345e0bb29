"""Jobs on other machines through an existing engine: submitit, which queues, starts and watches them in Slurm.

Nothing here knows what a job does. The only Slurm setting made here is the time limit (a day, because submitit's own is
five minutes). Everything else that a cluster needs is set in the variables that sbatch reads, which take precedence:
``SBATCH_PARTITION=gpu SBATCH_GPUS=1 SBATCH_TIMELIMIT=4:00:00 mvae reproduce … --engine slurm --jobs 16``.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mvae.errors import RunError, SettingsError, require_extra

__all__ = ["ENGINES", "submitted"]

Job = TypeVar("Job")
Result = TypeVar("Result")

ENGINES = ("slurm", "local")  # local: submitit's own processes on this machine, for trying a sweep without a cluster
FOLDER = Path("runs/engine")  # the engine's files; like the jobs' directories, on a disk that all machines see
MINUTES = 24 * 60
POLL_SECONDS = 1.0


def submitted(
    work: Callable[[Job], Result], jobs: Mapping[str, Job], at_once: int, engine: str
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """Run jobs on an engine; yield each job's name as it ends, and a call that gives its result or raises its error.

    At most ``at_once`` jobs are queued or running. If the caller stops early, these are cancelled. If it is killed,
    they go on: cancel them (``scancel --name mvae``) before submitting the same jobs again.

    Raises:
        MissingDependencyError: submitit is not installed. SettingsError: there is no Slurm. RunError: from the call, if
            a job failed or was killed.
    """
    executor = _executor(engine)
    waiting, running = list(jobs.items()), dict[str, Any]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, job = waiting.pop(0)
                running[name] = executor.submit(work, job)
            ended = [name for name, job in running.items() if job.done()]
            for name in ended:
                yield name, partial(_result, running.pop(name))
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for job in running.values():
            job.cancel(check=False)
        if engine == "local":  # they are this process's children
            for job in running.values():
                job.wait()


def _executor(engine: str) -> Any:
    submitit = require_extra("submitit", "cluster", "sweeps on other machines")
    try:
        executor = submitit.AutoExecutor(FOLDER, cluster=engine)
    except RuntimeError as error:
        raise SettingsError(f"no {engine} here ({error}): start the sweep where jobs are submitted from") from None
    executor.update_parameters(name="mvae", timeout_min=MINUTES)
    return executor


def _result(job: Any) -> Any:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result()
    except FailedJobError as error:
        _, trace, *_ = str(error).split("----------------------")
        reason = trace.strip().splitlines()[-1]
    except UncompletedJobError:
        reason = "it ended without a result: killed, or out of time or memory"
    raise RunError(f"job {job.job_id} failed ({reason}); its log is {job.paths.stderr}")
