"""Learning curves as charts, from the lines of metrics.jsonl."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mvae.report.charts import lines
from mvae.report.page import Section

__all__ = ["cut_note", "history_section", "metric_points"]

MOST = 8  # the most curves in one chart
LEFT_OUT = "The first tenth of the epochs is left out."
OBJECTIVES = {
    "train/loss": "training (all its terms, β as annealed)",
    "validation/objective": "validation (full and single terms, β = 1)",
}

CHARTS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("Objective (lower is better)", "nats per example", lambda n: n in OBJECTIVES),
    ("Reconstruction in training", "nats per example", lambda n: n.startswith("train/reconstruction/")),
    ("Reconstruction of validation rows", "nats per example", lambda n: n.startswith("validation/reconstruction/")),
    ("KL from the prior, complete validation rows", "nats", lambda n: n.startswith("validation/kl complete/")),
    ("Coupling of validation rows", "nats", lambda n: n == "validation/coupling"),
    ("Accuracy of one modality from another", "accuracy", lambda n: n.startswith("validation/accuracy ")),
)


def history_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """The section of learning curves, with one curve per modality where there are several."""
    section = Section("Learning curves")
    if not rows:
        section.text.append("No epoch has ended yet.")
        return section
    names = list(dict.fromkeys(name for row in rows for name in row))
    for title, unit, wanted in CHARTS:
        found = [name for name in names if wanted(name)][:MOST]
        curves = {_short(name): metric_points(rows, name) for name in found}
        if curves:
            section.shown.append(lines(title, curves, "epoch", unit, cut_note([rows], found)))
    return section


def metric_points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(epoch, value) of a metric, for the epochs that have it.

    The first tenth is left out for an objective, because it would dwarf the rest.

    >>> metric_points([{"epoch": 1, "validation/coupling": 0.5}, {"epoch": 2}], "validation/coupling")
    [(1.0, 0.5)]
    """
    points = [(float(row["epoch"]), row[name]) for row in rows if row.get(name) is not None]
    return points[len(points) // 10 :] if name in OBJECTIVES else points


def cut_note(runs: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    """A note if `metric_points` leaves out epochs of one of these metrics, in one of these runs; else empty."""
    pairs = ((rows, name) for rows in runs for name in names)
    cut = any(len(metric_points(rows, name)) < sum(row.get(name) is not None for row in rows) for rows, name in pairs)
    return LEFT_OUT if cut else ""


def _short(name: str) -> str:
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    return name.split("/", 1)[1].removeprefix("reconstruction/").removeprefix("kl complete/").removeprefix("accuracy ")
