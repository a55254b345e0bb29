"""Figures 9 and 10: MVAE19 trained with different values of one setting, as curves over it.

Figure 9 (App. F) keeps each value of the training rows only with probability p. Rows left empty are dropped, and
counted in each row of results. In the validation rows, the same share of values is hidden; test rows are complete.

Figure 10 (App. I) has k = 0 … 50 random subsets. It shows the effect of k on the joint log-likelihood and on the
variance of the log weights. More terms also average over more noise; with ``shared_noise``, all terms of a row have the
same ε, so that only the number of terms changes. The paper does not say which weights it means: ours are Table 3's for
the joint, with proposal q(z | x1); all three likelihoods' are recorded.

The paper shows plots without numbers; for Figure 10, of 3 seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvae.data.masking import kept_cells
from mvae.data.table import Table
from mvae.paper.cell import Cell
from mvae.paper.harness import finished_run, rows_as
from mvae.paper.item import KEPT, SUBSETS, Budget, Item, Job, Options, cells_of_recipes
from mvae.paper.results import Row, RowDict, Summary, summaries
from mvae.paper.show import show_comparison
from mvae.report.figure import saved_figure

JOINT, VARIANCE, MOST_FREQUENT = "log p(x1,x2)", "var log w p(x1,x2)", "accuracy ->x2"
BUDGETS_OF_P = {  # laptop: half an hour on one core for all five
    "smoke": Budget("", {"epochs": 1, "rows": 60}, 5, 10, None, ("faces19",), (0.1, 1.0)),
    "laptop": Budget("", {"epochs": 12, "rows": 4_000}, 200, None, None, ("celeba19",), (0.001, 0.01, 0.1, 0.5, 1.0)),
    "paper": Budget("", datasets=("celeba19",), levels=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
}
BUDGETS_OF_K = {  # laptop: 35 minutes on one core for all six, with one seed
    "smoke": Budget("", {"epochs": 1, "rows": 60}, 5, 10, None, ("faces19",), (0, 1)),
    "laptop": Budget("", {"epochs": 12, "rows": 1_000}, 100, None, None, ("celeba19",), (0, 1, 10)),
    "paper": Budget("", datasets=("celeba19",), levels=(0, 1, 2, 5, 10, 20, 30, 40, 50)),
}


def _cells_of_p(options: Options, budget: Budget) -> Iterator[Cell]:
    return cells_of_recipes(options, budget, [{"kept": p} for p in options.levels])


def _cells_of_k(options: Options, budget: Budget) -> Iterator[Cell]:
    noise = [{"random_subsets": k, "shared_noise": shared} for shared in (False, True) for k in options.levels]
    return cells_of_recipes(options, budget, noise)


def _measure_p(job: Job) -> list[Row]:
    """The numbers of Table 2 on complete test rows, and the accuracy of always predicting the most frequent values.

    Each row's settings have the numbers of rows that were trained on and dropped.
    """
    cell, found = job.cell, rows_as("figure9", job)
    data = finished_run(cell, job.paths).data
    table = data.train if cell["rows"] is None else data.train.first(cell["rows"])
    empty = ~kept_cells(len(table), len(table.names), cell["kept"], cell.seed).any(1)
    counts = {"rows_trained_on": int((~empty).sum()), "rows_dropped": int(empty.sum())}
    share = round(most_frequent(table, data.test.first(found[0].n)), 4)
    found.append(replace(found[0], metric=MOST_FREQUENT, value=share, stderr=None))
    return [replace(row, settings={**row.settings, **counts}) for row in found]


def most_frequent(train: Table, test: Table) -> float:
    """The accuracy of always predicting each attribute's most frequent value among the training rows.

    >>> rows = {"image": torch.zeros(3, 2), "Bald": torch.tensor([[True], [False], [False]])}
    >>> round(most_frequent(Table(rows), Table(rows)), 4)
    0.6667
    """
    right = []
    for name in train.names[1:]:
        often = torch.as_tensor(train.columns[name]).float().mean() > 0.5
        right.append((torch.as_tensor(test.columns[name]) == often).float().mean())
    return float(torch.stack(right).mean())


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
    where: Mapping[str, Any] = field(default_factory=dict)
    level: str | None = None


PANELS_OF_P = (
    Panel("(a) accuracy of the attributes, given the image", "accuracy x1->x2", level=MOST_FREQUENT),
    Panel("(b) log p(x, y), nats", JOINT),
    Panel("(c) log p(x), nats", "log p(x1)"),
    Panel("(d) log p(x | y), nats", "log p(x1|x2)"),
)
PANELS_OF_K = (
    Panel("(a) log p(x, y), nats", JOINT, {"shared_noise": False}),
    Panel("(b) variance of log w", VARIANCE, {"shared_noise": False}),
    Panel("(c) variance of log w, one ε for all terms", VARIANCE, {"shared_noise": True}),
)


def _draw(
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
            axis.set_xscale(scale)
            axis.grid(alpha=0.3)
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend(fontsize=7)


_figure = partial(
    Item,
    takes=("datasets", "recipes", "levels", "seeds", "budget", "jobs"),
    show=show_comparison,
    needs="CelebA in --data-dir, and mvae[plots] (smoke: drawn faces)",
    defaults={"recipes": ("paper",)},
    choices={"datasets": ("celeba19", "faces19")},
)
FIGURE9 = _figure(
    "figure9",
    "MVAE19 when each value of its training rows is kept with probability p only, in RESULTS/figure9.png",
    levels=KEPT,
    budgets=BUDGETS_OF_P,
    cells=_cells_of_p,
    measure=_measure_p,
    draw=partial(_draw, setting="kept", label="p: probability that a value is kept", panels=PANELS_OF_P, scale="log"),
)
FIGURE10 = _figure(
    "figure10",
    "MVAE19 with k = 0 … 50 random subsets, independent noise per term or shared, in RESULTS/figure10.png",
    levels=SUBSETS,
    budgets=BUDGETS_OF_K,
    cells=_cells_of_k,
    measure=partial(rows_as, "figure10", tables=("table2", "table3")),
    draw=partial(_draw, setting="random_subsets", label="k: random subsets a step", panels=PANELS_OF_K),
)
