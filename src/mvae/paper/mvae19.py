"""Shared by Figures 9 and 10: MVAE19 trained with different values of one setting, and curves over it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mvae.paper.cell import Cell
from mvae.paper.item import Budget, Item, Job, Levels, Number, Options, cells_of_recipes
from mvae.paper.results import Row, RowDict
from mvae.paper.show import show_comparison
from mvae.paper.summary import Summary, summaries
from mvae.report.figure import saved_figure

__all__ = ["Panel", "curve", "draw_panels", "item_of_19"]


def item_of_19(
    name: str,
    summary: str,
    *,
    levels: Levels,
    budgets: Mapping[str, Budget],
    changes: Callable[[Sequence[Number]], Sequence[Mapping[str, Any]]],
    measure: Callable[[Job], list[Row]],
    draw: Callable[[Sequence[RowDict], Path], None],
) -> Item:
    """An item whose cells are ``changes(levels)`` for each dataset, recipe and seed."""
    return Item(
        name,
        summary,
        ("datasets", "recipes", "levels", "seeds", "budget", "jobs"),
        show_comparison,
        needs="CelebA in --data-dir, and mvae[plots] (smoke: drawn faces)",
        defaults={"recipes": ("paper",)},
        choices={"datasets": ("celeba19", "faces19")},
        levels=levels,
        budgets=budgets,
        cells=partial(_cells, changes),
        measure=measure,
        draw=draw,
    )


def _cells(
    changes: Callable[[Sequence[Number]], Sequence[Mapping[str, Any]]], options: Options, budget: Budget
) -> Iterator[Cell]:
    return cells_of_recipes(options, budget, changes(options.levels))


def curve(rows: Sequence[RowDict], setting: str, metric: str) -> list[tuple[float, Summary]]:
    """A metric against a setting: the setting's values in rising order, each with the metric's summary.

    >>> rows = [{"metric": "m", "seed": s, "value": v, "settings": {"kept": 0.1}} for s, v in enumerate([1.0, 2.0])]
    >>> [(x, one.value, one.stderr) for x, one in curve(rows, "kept", "m")]
    [(0.1, 1.5, 0.5)]
    """

    def at(row: RowDict) -> float:
        return float(row["settings"][setting])

    found = summaries([row for row in rows if row["metric"] == metric], at)
    return sorted(((at(one.row), one) for one in found), key=lambda point: point[0])


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: a metric of the rows that have these settings; ``level`` is another, drawn as a line."""

    title: str
    metric: str
    where: Mapping[str, Any]
    level: str | None = None


def draw_panels(
    rows: Sequence[RowDict], path: Path, setting: str, label: str, panels: Sequence[Panel], scale: str = "linear"
) -> None:
    """Draw panels side by side over a setting, with a curve per dataset and recipe (bars: standard errors over seeds).

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    with saved_figure(path, figsize=(3.6 * len(panels), 3.4)) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            shown = [row for row in rows if all(row["settings"][key] == value for key, value in panel.where.items())]
            for dataset, recipe in dict.fromkeys((row["dataset"], row["recipe"]) for row in shown):
                own = [row for row in shown if (row["dataset"], row["recipe"]) == (dataset, recipe)]
                points = [(x, one.value, one.stderr or 0.0) for x, one in curve(own, setting, panel.metric)]
                style = {"label": f"{dataset}, {recipe}", "marker": "o", "markersize": 3.5}
                (line, *_) = axis.errorbar(*zip(*points, strict=True), **style)
                if panel.level and (levels := curve(own, setting, panel.level)):
                    dotted = {"linestyle": ":", "color": line.get_color(), "label": "always the most frequent"}
                    axis.axhline(levels[-1][1].value, **dotted)
            axis.set_title(panel.title, fontsize=10)
            axis.set_xlabel(label)
            axis.grid(alpha=0.3)
            if scale != "linear":
                axis.set_xscale(scale)
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend(fontsize=7)
