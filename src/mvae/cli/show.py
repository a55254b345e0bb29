"""Evaluations as tables in a terminal."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mvae.models.base import MultimodalVAE
    from mvae.runs.evaluation import Evaluation
    from mvae.runs.held_out import CellScore
    from mvae.runs.run import Run

__all__ = ["MOST_SHOWN", "show_cells", "show_evaluation", "shown_names"]

MOST_SHOWN = 60  # the most columns of a table that are listed


def show_evaluation(run: "Run", evaluation: "Evaluation") -> None:
    """Print the table of likelihoods, then accuracies, coupling and active units."""
    from mvae.likelihoods import Categorical

    title = f"{evaluation.rows} test rows, {evaluation.samples} samples of {evaluation.source}"
    table = Table(title=title, title_justify="left")
    for heading in ("nats per example", "rows", "mean", "± s.e.", "var log w", "ESS", "k̂"):
        table.add_column(heading, justify="left" if heading == "nats per example" else "right")
    for name, value in evaluation.likelihoods.items():
        numbers = (value.mean, value.standard_error, value.variance)
        ess, k = float(value.effective_samples.mean()), float(value.pareto_k.mean())
        table.add_row(name, str(len(value.values)), *(f"{number:.3f}" for number in numbers), f"{ess:.0f}", f"{k:.2f}")
    console = Console(highlight=False)
    # A narrow terminal wraps lines by itself; a table made to fit would lose its numbers.
    console.width = max(console.width, Console(width=1000).measure(table).maximum)
    console.print(table)
    console.print(
        "var log w: variance of the log weights; ESS: effective samples; k̂ above 0.7: biased (means over rows)"
    )
    first, *others = run.model.names
    console.print(f"x1 = {first}" + (f", x2 = {' and '.join(others)}" if others else ""))
    console.print(f"λ: {written_weights(run.model)}")
    gap, last = evaluation.conditional_gap(), run.model.modalities[run.model.names[-1]]
    if gap is not None and len(others) == 1 and isinstance(last.likelihood, Categorical):
        console.print(
            f"check: log p(x1,x2) − log p(x1|x2) = {gap:.2f}, which is log p(x2): "
            "−log K if x2 has K equally frequent classes"
        )
    for name, value in evaluation.instruments.items():
        if name.startswith(("accuracy", "coupling", "active units")):
            console.print(f"{name:28} {value:.3f}")


def show_cells(cells: Sequence["CellScore"]) -> None:
    """Print how well the hidden cells of each column were filled in, if there are any."""
    if not cells:
        return
    table = Table(title="a fifth of the test rows' known cells, hidden and filled in", title_justify="left")
    for heading in ("column", "kind", "cells", "error", "mean/mode", "inside 90 %", "log p"):
        table.add_column(heading, justify="left" if heading in ("column", "kind") else "right")
    for cell in cells[:MOST_SHOWN]:
        inside = "" if cell.coverage is None else f"{cell.coverage:.0%}"
        numbers = (f"{cell.error:.3f}", f"{cell.baseline:.3f}", inside, f"{cell.log_p:.2f}")
        table.add_row(Text(cell.column), cell.kind, str(cell.cells), *numbers)
    console = Console(highlight=False)
    console.print(table)
    if (more := len(cells) - MOST_SHOWN) > 0:
        console.print(f"… and {more:,} more columns, which --json lists")
    console.print("error: for numbers, the RMSE in standard deviations; for classes, the error rate")


def shown_names(names: Sequence[str]) -> str:
    """The names, or the first of them if there are many.

    >>> shown_names(["a", "b"]), shown_names([f"x{i}" for i in range(100)])[-20:]
    ('a, b', 'x58, x59 and 40 more')
    """
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def written_weights(model: "MultimodalVAE") -> str:
    """Every modality's λ as text; neighbours of equal weight are grouped."""
    parts = []
    for weight, group in itertools.groupby(zip(model.names, model.weights, strict=True), key=lambda pair: pair[1]):
        names = [name for name, _ in group]
        listed = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} modalities)"
        parts.append(f"{listed} {weight:g}")
    return ", ".join(parts)
