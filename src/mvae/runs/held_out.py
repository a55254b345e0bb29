"""How well missing cells are filled in: known cells of the test rows are hidden, predicted and compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvae.data.table import Table
from mvae.data.tables.column import CLASSED
from mvae.data.tables.tensors import arrays_of, observed_of
from mvae.errors import RunError
from mvae.models.base import MultimodalVAE
from mvae.runs.answers import AT_ONCE, SAMPLES, answers
from mvae.runs.run import Run

__all__ = ["CellScore", "held_out"]

ROWS = 1_000  # the most rows answered together
MOST_ROWS = 5_000  # the most test rows, by default


@dataclass(frozen=True)
class CellScore:
    """The scores of one column's hidden cells.

    Attributes:
        column: name of the column.
        kind: kind of the column.
        cells: number of hidden cells.
        error: for numbers, the root mean squared error in standard deviations of the training rows (1: the mean's); for
            classes, the error rate.
        baseline: the error of predicting the training rows' mean or most frequent class.
        coverage: the share of hidden numbers inside the interval; None for classes.
        log_p: mean log p of a hidden cell given the cells of its row that are not hidden, in nats.
    """

    column: str
    kind: str
    cells: int
    error: float
    baseline: float
    coverage: float | None
    log_p: float


def held_out(
    run: Run,
    *,
    share: float = 0.2,
    interval: float = 0.9,
    rows: int | None = None,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> list[CellScore]:
    """Hide a share of the known cells of a run's test rows, fill them in, and compare; no test row was trained on.

    Args:
        run: a run of a table.
        share: share of the known cells to hide.
        interval: probability of the intervals whose coverage is measured.
        rows: number of test rows, chosen at random; default at most 5,000.
        seed: seed of the hidden cells and of the draws.
        progress: called with the share that is done.

    Raises:
        RunError: it is not a run of a table.
    """
    layout = run.data.layout
    if layout is None:
        raise RunError(f"{run.directory} is not a run of a table")
    table, generator = run.data.test, np.random.default_rng(seed)
    if len(table) > (most := rows or MOST_ROWS):
        table = table.take(np.sort(generator.choice(len(table), most, replace=False)))  # a file may be sorted
    parts: list[dict[tuple[str, int], Any]] = []
    step = max(1, min(ROWS, AT_ONCE // (SAMPLES * layout.width)))
    for start in range(0, len(table), step):
        parts.append(_hidden_cells(run.model, table[start : start + step], share, interval, generator))
        if progress is not None:
            progress(min(1.0, (start + step) / len(table)))
    found = []
    for name in (n for n in layout.modalities if n in run.model.names and n not in layout.shapes):
        middle = _usual(run.data.train, name)
        for i, column in enumerate(layout.fields_of(name)):
            own = [part[name, i] for part in parts if (name, i) in part]
            if own:
                truth, filled, inside, log_p = (np.concatenate([one[k] for one in own]) for k in range(4))
                found.append(_score(column, middle[i], truth, filled, inside, log_p))
    return found


def _hidden_cells(
    model: MultimodalVAE, table: Table, share: float, interval: float, generator: np.random.Generator
) -> dict[tuple[str, int], Any]:
    """(modality, place) → true values, predictions, whether each true value is inside the interval, and its log p."""
    values, present = arrays_of(table)
    candidates = {n: m for n, m in present.items() if m.ndim == 2 and n in model.names}  # a VAE has one
    hidden = {n: m & (generator.random(m.shape) < share) for n, m in candidates.items()}
    given = present | {name: present[name] & ~mask for name, mask in hidden.items()}
    seed = int(generator.integers(2**31))
    answered = answers(model, values, given, list(hidden), SAMPLES, seed, truth=present)
    found = {}
    for name, mask in hidden.items():
        answer = answered[name]
        low, high = answer.between(interval)
        inside = (values[name] >= low) & (values[name] <= high)
        assert answer.log_p is not None
        for i in range(mask.shape[1]):
            if (rows := mask[:, i]).any():
                columns = (values[name], answer.point, inside, answer.log_p)
                found[name, i] = tuple(column[rows, i] for column in columns)
    return found


def _usual(train: Table, name: str) -> list[tuple[float, float, float]]:
    """Mean, standard deviation and most frequent value of each field of the training rows."""
    values, found = np.asarray(train.columns[name]), []
    mask = observed_of(train, name)
    for i in range(values.shape[1]):
        own = values[mask[:, i], i]
        if not len(own):  # the file has changed since training
            found.append((math.nan, 1.0, math.nan))
            continue
        different, often = np.unique(own, return_counts=True)
        found.append((float(own.mean()), float(own.std()) or 1.0, float(different[often.argmax()])))
    return found


def _score(
    column: Any, usual: tuple[float, float, float], truth: Any, filled: Any, inside: Any, log_p: Any
) -> CellScore:
    mean, spread, mode = usual
    if column.kind in CLASSED:
        error, baseline, coverage = float((truth != filled).mean()), float((truth != mode).mean()), None
    else:
        error, baseline = (float(np.sqrt(np.mean((truth - at) ** 2)) / spread) for at in (filled, mean))
        coverage = float(inside.mean())
    return CellScore(column.name, column.kind, len(truth), error, baseline, coverage, float(log_p.mean()))
