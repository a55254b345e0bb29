"""Trainings killed at random moments and resumed: the result equals that of an uninterrupted training."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

from mvae.training.checkpoint import CHECKPOINT
from tests.resumable import assert_same_run, model, train


def whole(directory: Path) -> float:
    """Train without interruption; return the seconds it took."""
    began = time.monotonic()
    train(model(), directory, checkpoint_seconds=0.0)
    return time.monotonic() - began


def series(directory: Path, truth: Path, seconds: float, chance: random.Random) -> tuple[str | None, int]:
    """Train in children that are killed until one finishes; return its fault, if any, and the number of kills."""
    shutil.rmtree(directory, ignore_errors=True)
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                resume = (directory / CHECKPOINT).exists()
                train(model(seed=kills if resume else 0), directory, checkpoint_seconds=0.0, resume=resume)
            except BaseException:
                os._exit(1)
            os._exit(0)
        if kills < 6:
            time.sleep(chance.uniform(0, seconds / 2))
            os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(ended):
            kills += 1
            continue
        if os.WEXITSTATUS(ended):
            return "a resumed training fails", kills
        break
    try:
        assert_same_run(directory, truth)
    except AssertionError as error:
        return f"differs from an uninterrupted run: {str(error)[:100]}", kills
    return None, kills
