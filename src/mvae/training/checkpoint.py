"""Run directories: settings as JSON, metrics as JSON lines, state as safetensors (`mvae.files`).

A run directory holds
    run.json                 the declaration: dataset, model, settings, seed, versions
    metrics.jsonl            one line per epoch
    checkpoint.safetensors   everything needed to resume: weights, best weights, optimiser, generators, progress
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from mvae.errors import RunError
from mvae.files import load_state, parse_json, read_regular, save_state, without_prefix
from mvae.networks.products import Products

__all__ = ["CHECKPOINT", "METRICS", "SETTINGS", "Header", "amend", "best_weights", "epochs_trained", "read_metrics"]

SETTINGS, METRICS, CHECKPOINT = "run.json", "metrics.jsonl", "checkpoint.safetensors"


_METRICS = TypeAdapter(dict[str, int | float | None], config=ConfigDict(strict=True))


class Header(BaseModel):
    """The header of a checkpoint: what it holds in addition to its tensors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    settings: dict[str, Any] = Field(description="What must be equal for a resumed run to be the same run.")
    epoch: int = Field(ge=0, description="Number of epochs that have ended.")
    step_in_epoch: int = Field(ge=0, description="Steps taken in the next epoch.")
    stage: str = Field(description="The model's training stage.")
    best_epoch: int | None = Field(ge=1, description="The epoch of the best weights by validation.")
    best_objective: float = Field(description="Objective of the best epoch; infinite where there is none.")
    metrics_bytes: int = Field(ge=0, description="Length of metrics.jsonl.")
    seconds: float = Field(ge=0, allow_inf_nan=False, description="Training time in seconds.")
    optimizer_tensors: int = Field(ge=0, description="Number of tensors in the optimizer's state.")
    untrained: list[str] = Field(description="Modalities that no training example ever had.")
    finished: bool = Field(description="Has training ended, after all epochs or early?")
    products: Products = Field(description="PyTorch's setting for matrix products.")
    schedule: dict[str, Any] | None = Field(default=None, description="State of the user's own schedule.")

    @classmethod
    def read(cls, info: Mapping[str, Any], path: Path) -> "Header":
        """Read the header of a file.

        Raises:
            RunError: a key is missing, or its value is impossible.
        """
        try:
            header = cls(**info)
            if math.isnan(header.best_objective):
                raise ValueError("best_objective nan")
            if (header.best_epoch or 0) > header.epoch:
                raise ValueError(f"best_epoch {header.best_epoch} of {header.epoch} epochs")
        except (ValidationError, ValueError, TypeError) as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False)[0]
                name = ".".join(map(str, first["loc"][:1]))
                reason = f"{name!r} is not in it" if first["type"] == "missing" else f"{name}: {first['msg']}"
            raise RunError(f"{path} is damaged ({reason}); train again in another --run-dir") from None
        return header


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics.jsonl (none before its first epoch has ended).

    A last line that was cut short by a kill is left out.

    Raises:
        RunError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = read_regular(run_dir / METRICS).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {run_dir / METRICS}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_METRICS.validate_python(parse_json(line)))
        except ValueError:  # includes pydantic's
            if number < len(lines):
                raise RunError(f"{run_dir / METRICS}, line {number} is not a JSON object of numbers") from None
        else:
            if rows[-1].get("epoch") is None:
                raise RunError(f"{run_dir / METRICS}, line {number} does not say which epoch it is of")
    return rows


def best_weights(run_dir: Path) -> tuple[dict[str, Tensor], Header]:
    """The weights of a run (the best by validation, or the last where none were chosen) and its header.

    Raises:
        RunError: no checkpoint, or a damaged one.
    """
    tensors, info = load_state(run_dir / CHECKPOINT)
    header = Header.read(info, run_dir / CHECKPOINT)
    best = without_prefix("best", tensors)
    if (header.best_epoch is None) != (not best):
        raise RunError(
            f"{run_dir / CHECKPOINT} is damaged (weights of the best epoch {header.best_epoch}): train again"
        )
    return best or without_prefix("model", tensors), header


def amend(run_dir: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replace some of a run's weights by tensors that were learned after training.

    Raises:
        RunError: no checkpoint, a damaged one, or one that cannot be written.
    """
    state, info = load_state(run_dir / CHECKPOINT)
    new = {f"{part}/{name}": value for part in ("model", "best") for name, value in tensors.items()}
    save_state(run_dir / CHECKPOINT, state | {name: new[name] for name in new.keys() & state.keys()}, info)


def epochs_trained(run_dir: Path) -> int | None:
    """The number of epochs that have ended by a run's checkpoint; None without a checkpoint."""
    path = run_dir / CHECKPOINT
    return Header.read(load_state(path)[1], path).epoch if path.exists() else None
