"""Run directories: settings as JSON, metrics as JSON lines, state as safetensors (`mvae.files`).

A run directory holds
    run.json                 what was asked for: dataset, model, settings, seed, versions
    metrics.jsonl            one line an epoch
    checkpoint.safetensors   everything needed to go on: weights, best weights, optimiser, generators, progress
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mvae.errors import RunError
from mvae.files import load_state, without_prefix

__all__ = ["CHECKPOINT", "METRICS", "SETTINGS", "best_weights", "read_metrics"]

SETTINGS, METRICS, CHECKPOINT = "run.json", "metrics.jsonl", "checkpoint.safetensors"


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl (none before its first epoch has ended).

    A last line cut short by a kill is left out.

    Raises:
        RunError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = (run_dir / METRICS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {run_dir / METRICS}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise RunError(f"{run_dir / METRICS}, line {number} is not JSON") from None
    return rows


def best_weights(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights a run stands for (the best by validation, or the last where none was chosen) and its progress."""
    tensors, info = load_state(run_dir / CHECKPOINT)
    return without_prefix("best", tensors) or without_prefix("model", tensors), info
