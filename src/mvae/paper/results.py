"""Measured numbers: rows in results/ITEM.json, added to by every run and never replaced; their means over seeds."""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mvae.errors import RunError
from mvae.files import locked, write_text

RowDict = Mapping[str, Any]  # a row as it was read


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


def new_row(
    item: str, metric: str, value: float, stderr: float | None, shared: Mapping[str, Any], paper: float | None = None
) -> Row:
    """A row of a measured number, rounded to four digits; ``shared`` are the fields that all rows of its run share."""
    rounded = None if stderr is None else round(stderr, 4)
    return Row(item=item, metric=metric, value=round(value, 4), stderr=rounded, paper=paper, **shared)


def standard_error(values: Tensor) -> float | None:
    """The standard error of the mean of a value per row; None for a single row."""
    return float(values.std()) / len(values) ** 0.5 if len(values) > 1 else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; an empty list if it does not exist.

    Raises:
        RunError: the file is not a list of rows.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
    needed = set(Row.__dataclass_fields__)
    if not isinstance(rows, list) or any(not isinstance(row, dict) or needed - row.keys() for row in rows):
        raise RunError(f"{path} is not a list of result rows (keys: {', '.join(sorted(needed))})")
    for number, row in enumerate(rows, 1):
        wrong = [name for name in ("value", "n", "seed") if not isinstance(row[name], int | float)]
        wrong += [] if isinstance(row["settings"], dict) else ["settings"]
        if wrong:
            raise RunError(f"{path}: row {number} has {row[wrong[0]]!r} as its {wrong[0]}: fix or delete the row")
    return rows


def rows_with(path: Path, settings: Mapping[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The rows of a file that have these settings and fields."""
    return [
        row for row in read_rows(path) if fields.items() <= row.items() and settings.items() <= row["settings"].items()
    ]


def training_times(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, float]]:
    """Budget → (number of runs, their total minutes of training), from the rows that state the time.

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
    """Append rows, one per line, all or none of them; several processes take turns."""
    added = [asdict(row) for row in rows]
    with locked(path.parent, wait=True):
        lines = [json.dumps(row, ensure_ascii=False) for row in [*read_rows(path), *added]]
        write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


@dataclass(frozen=True)
class Summary:
    """A mean over seeds; ``stderr`` is None for one seed, and ``row`` is one of the summarised rows."""

    value: float
    stderr: float | None
    seeds: int
    row: Mapping[str, Any]


def summaries(rows: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Hashable]) -> list[Summary]:
    """One summary per key, in order of the first rows; if a seed was measured twice, its last row counts.

    >>> rows = [{"metric": "m", "seed": seed, "value": value} for seed, value in ((0, 9.0), (1, 2.0), (0, 1.0))]
    >>> (one,) = summaries(rows, lambda row: row["metric"])
    >>> one.value, one.stderr, one.seeds
    (1.5, 0.5, 2)
    """
    groups: dict[Hashable, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), {})[row["seed"]] = row
    found = []
    for by_seed in groups.values():
        values, n = [row["value"] for row in by_seed.values()], len(by_seed)
        mean = sum(values) / n
        error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None
        found.append(Summary(mean, error, n, next(iter(by_seed.values()))))
    return found
