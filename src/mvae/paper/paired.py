"""Differences between models, paired by row: a model's log p of the test rows minus the MVAE's of the same rows.

A difference varies far less from row to row than log p itself. So its own standard error is decisive, not those of the
two means. Each row's log p is saved with its run; numbers measured before this was saved have no differences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mvae.files import load_state, save_state
from mvae.paper.cell import RECIPES, Cell
from mvae.paper.results import Row, RowDict, new_row, standard_error
from mvae.runs.evaluation import Evaluation

REFERENCE = "mvae"
OF_A_METRIC = ("item", "metric", "value", "stderr", "paper")  # fields that differ by metric; the others by run


def values_file(directory: Path, joint: bool, budget: str) -> Path:
    """The file of each row's log p; ``joint``: with the proposal q(z | x1, x2)."""
    return directory / f"log-p-{'joint' if joint else 'x1'}-{budget}.safetensors"


def keep_values(path: Path, evaluation: Evaluation) -> None:
    """Save each row's log p for every likelihood, and which rows these are."""
    found: dict[str, Tensor] = {}
    for name, value in evaluation.likelihoods.items():
        found |= {name: value.values.double(), f"{name} rows": value.rows.long()}
    save_state(path, found, {"samples": evaluation.samples})


def kept_values(path: Path) -> Mapping[str, Tensor]:
    """What `keep_values` saved; nothing if there is no such file."""
    return load_state(path)[0] if path.exists() else {}


@dataclass(frozen=True)
class Measured:
    """A cell, its recorded rows, and each test row's log p, if it was saved."""

    cell: Cell
    rows: Sequence[RowDict]
    values: Mapping[str, Tensor]


def differences(measured: Sequence[Measured]) -> Iterator[Row]:
    """Differences from the MVAE of the same dataset and seed, with the first recipe that was measured.

    Metrics that already have a difference are skipped.
    """
    for one in measured:
        reference = _reference(one.cell, measured)
        if reference is None or reference is one:
            continue
        metrics = {row["metric"]: row for row in one.rows}
        other = {row["metric"]: row for row in reference.rows}
        for metric in [name for name in metrics if name in one.values and name in reference.values and name in other]:
            named = f"{metric} − {REFERENCE} {reference.cell.recipe}"
            rows = [each.values[f"{metric} rows"] for each in (one, reference)]
            if named not in metrics and torch.equal(*rows):
                yield _row(named, metrics[metric], other[metric], one.values[metric] - reference.values[metric])


def _reference(cell: Cell, measured: Sequence[Measured]) -> Measured | None:
    same = [
        one
        for one in measured
        if one.values and one.cell.model == REFERENCE and (one.cell.dataset, one.cell.seed) == (cell.dataset, cell.seed)
    ]
    return min(same, key=lambda one: RECIPES.index(one.cell.recipe), default=None)


def _row(metric: str, one: RowDict, other: RowDict, difference: Tensor) -> Row:
    """The row of a difference; it is published if both numbers are."""
    shared = {key: value for key, value in one.items() if key not in OF_A_METRIC} | {"n": len(difference)}
    paper = None if one["paper"] is None or other["paper"] is None else round(one["paper"] - other["paper"], 4)
    return new_row(one["item"], metric, float(difference.mean()), standard_error(difference), shared, paper)
