"""Curves of measured rows over one setting (Fig. 9, 10), with their spread over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvae.errors import MissingDependencyError

__all__ = ["Panel", "Point", "curve", "draw"]


@dataclass(frozen=True)
class Point:
    """A metric at one value of the setting: mean over seeds, with its standard error where there are several."""

    x: float
    value: float
    stderr: float | None


def curve(rows: Sequence[Mapping[str, Any]], setting: str, metric: str) -> list[Point]:
    """A metric against a setting, rising; rows that differ in their seed only are one point.

    >>> rows = [{"metric": "m", "seed": s, "value": v, "settings": {"kept": 0.1}} for s, v in enumerate([1.0, 2.0])]
    >>> curve(rows, "kept", "m")
    [Point(x=0.1, value=1.5, stderr=0.5)]
    """
    by_value: dict[float, dict[int, float]] = {}
    for row in rows:
        if row["metric"] == metric:  # measured twice: the last counts
            by_value.setdefault(float(row["settings"][setting]), {})[row["seed"]] = row["value"]
    points = []
    for x, by_seed in sorted(by_value.items()):
        values, n = list(by_seed.values()), len(by_seed)
        mean = sum(values) / n
        error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None
        points.append(Point(x, mean, error))
    return points


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: a metric of the rows that have these settings; ``level`` is another, drawn as a line."""

    title: str
    metric: str
    where: Mapping[str, Any]
    level: str | None = None


def draw(rows: Sequence[Mapping[str, Any]], path: Path, setting: str, label: str, panels: Sequence[Panel]) -> None:
    """Panels side by side over a setting, a curve for each dataset and recipe (bars: standard errors over seeds).

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingDependencyError("figures need matplotlib: pip install 'mvae[plots]'") from None
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.4), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        shown = [row for row in rows if all(row["settings"][key] == value for key, value in panel.where.items())]
        for dataset, recipe in dict.fromkeys((row["dataset"], row["recipe"]) for row in shown):
            own = [row for row in shown if (row["dataset"], row["recipe"]) == (dataset, recipe)]
            points = curve(own, setting, panel.metric)
            (line, *_) = axis.errorbar(
                [point.x for point in points],
                [point.value for point in points],
                [point.stderr or 0.0 for point in points],
                label=f"{dataset}, {recipe}",
                marker="o",
                markersize=3.5,
            )
            if panel.level and (levels := curve(own, setting, panel.level)):
                axis.axhline(levels[-1].value, linestyle=":", color=line.get_color(), label="always the most frequent")
        axis.set_title(panel.title, fontsize=10)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        if setting == "kept":
            axis.set_xscale("log")
    if axes[0][0].get_legend_handles_labels()[0]:
        axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
