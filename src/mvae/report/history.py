"""A training's course as charts, from the lines of metrics.jsonl."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mvae.report.charts import lines
from mvae.report.page import Section

__all__ = ["history_section"]

MOST = 8  # curves of one chart

CHARTS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("Objective (lower is better)", "nats per example", lambda n: n in ("train/loss", "validation/objective")),
    ("Reconstruction in training", "nats per example", lambda n: n.startswith("train/reconstruction/")),
    ("Reconstruction of validation rows", "nats per example", lambda n: n.startswith("validation/reconstruction/")),
    ("KL from the prior, complete validation rows", "nats", lambda n: n.startswith("validation/kl complete/")),
    ("Coupling of validation rows", "nats", lambda n: n == "validation/coupling"),
    ("Accuracy of one modality from another", "share right", lambda n: n.startswith("validation/accuracy ")),
)


def history_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Learning curves, per modality where there are several."""
    section = Section("Learning curves")
    if not rows:
        section.text.append("No epoch has ended yet.")
        return section
    names = list(dict.fromkeys(name for row in rows for name in row))
    for title, unit, wanted in CHARTS:
        found = [name for name in names if wanted(name)][:MOST]
        curves = {
            _short(name, title): _shortened(
                [(float(row["epoch"]), row[name]) for row in rows if row.get(name) is not None], title
            )
            for name in found
        }
        if curves:
            section.shown.append(lines(title, curves, "epoch", unit))
    return section


def _short(name: str, title: str) -> str:
    if title.startswith("Objective"):
        return {
            "train/loss": "training (all its terms, β as annealed)",
            "validation/objective": "validation (full and single terms, β = 1)",
        }[name]
    return name.split("/", 1)[1].removeprefix("reconstruction/").removeprefix("kl complete/").removeprefix("accuracy ")


def _shortened(points: list[tuple[float, float]], title: str) -> list[tuple[float, float]]:
    """An objective is shown from a tenth of the epochs on: before, it dwarfs the rest."""
    return points[len(points) // 10 :] if title.startswith("Objective") else points
