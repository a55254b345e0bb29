"""Measured numbers: rows in results/ITEM.json, added to by every run and never replaced."""

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mvae import __version__
from mvae.checkpoint import write_whole
from mvae.errors import RunError

__all__ = ["Row", "add_rows", "circumstances", "read_rows", "training_times"]


@dataclass(frozen=True)
class Row:
    """One measured number, with everything needed to measure it again.

    ``paper`` is the published value, None where there is none; ``stderr`` is over the ``n`` test rows. ``budget``
    says how far the settings are from the paper's.
    """

    item: str
    dataset: str
    model: str
    metric: str
    value: float
    stderr: float | None
    n: int
    paper: float | None
    budget: str
    recipe: str
    settings: Mapping[str, Any]
    seed: int
    command: str
    commit: str
    device: str
    date: str


def circumstances(device: torch.device) -> dict[str, str]:
    """The commit, device and date of this process, as a row wants them."""
    return {"commit": commit(), "device": describe_device(device), "date": datetime.now(UTC).date().isoformat()}


def describe_device(device: torch.device) -> str:
    """The hardware in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({_processor()}), {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The short commit of the checkout this code runs from (with + where it has changes), else the version."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # else it is installed, perhaps inside somebody else's checkout
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"mvae {__version__}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where it does not exist.

    Raises:
        RunError: the file is not a list of rows.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
    needed = set(Row.__dataclass_fields__)
    if not isinstance(rows, list) or any(not isinstance(row, dict) or needed - row.keys() for row in rows):
        raise RunError(f"{path} is not a list of result rows (keys: {', '.join(sorted(needed))})")
    return rows


def training_times(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, float]]:
    """By budget, how many runs the rows are of and how many minutes their training took; of rows that say so.

    >>> row = {"dataset": "digits", "model": "mvae", "recipe": "paper", "seed": 0, "budget": "smoke"}
    >>> two_metrics_of_a_run = [{**row, "settings": {"train_minutes": 0.5}}] * 2
    >>> training_times([*two_metrics_of_a_run, {**row, "seed": 1, "settings": {"train_minutes": 0.25}}])
    {'smoke': (2, 0.75)}
    """
    runs: dict[str, dict[tuple[Any, ...], float]] = {}
    for row in rows:
        if (minutes := row["settings"].get("train_minutes")) is not None:
            run = (*(row[key] for key in ("dataset", "model", "recipe", "seed")), minutes)
            runs.setdefault(row["budget"], {})[run] = minutes
    return {budget: (len(found), sum(found.values())) for budget, found in runs.items()}


def add_rows(path: Path, rows: Iterable[Row]) -> None:
    """Append rows, one a line, whole or not at all."""
    lines = [json.dumps(row, ensure_ascii=False) for row in [*read_rows(path), *(asdict(row) for row in rows)]]
    text = "[\n" + ",\n".join(lines) + "\n]\n"

    def write(file: Path) -> None:
        file.write_text(text)

    write_whole(path, write)
