"""`mvae reproduce figure9`: MVAE19 when each value of its training rows is kept with probability p only (App. F).

The number of rows is what p leaves of them: those left empty are dropped, and counted in each row of results. Of the
validation rows as much is hidden; test rows are complete. Published are pictures, no numbers.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mvae.data.masking import kept_cells
from mvae.data.table import Table
from mvae.paper.curves import Panel
from mvae.paper.curves import draw as draw_curves
from mvae.paper.harness import Job, Places, finished_run, measured
from mvae.paper.mvae19 import Spend, settings_of, spend_at
from mvae.paper.record import rows_of
from mvae.paper.results import Row
from mvae.runs.run import evaluate

__all__ = ["SPENDS", "draw", "reproduce"]

ITEM = "figure9"
SPENDS = {  # laptop: half an hour of one core for all five
    "smoke": Spend("faces19", (0.1, 1.0), epochs=2, rows=60, test_rows=20, samples=10),
    "laptop": Spend("celeba19", (0.001, 0.01, 0.1, 0.5, 1.0), epochs=12, rows=4_000, test_rows=200),
    "paper": Spend("celeba19", (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
}
MOST_FREQUENT = "accuracy ->x2"
PANELS = (
    Panel("(a) accuracy of the attributes, given the image", "accuracy x1->x2", {}, MOST_FREQUENT),
    Panel("(b) log p(x, y), nats", "log p(x1,x2)", {}),
    Panel("(c) log p(x), nats", "log p(x1)", {}),
    Panel("(d) log p(x | y), nats", "log p(x1|x2)", {}),
)


def reproduce(
    *,
    datasets: Sequence[str] = (),
    recipes: Sequence[str] = ("paper",),
    levels: Sequence[float] = (),
    seeds: int = 1,
    budget: str = "laptop",
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows at every p (``levels``; default the budget's), after making those that are missing.

    Each has p as ``kept`` among its settings, with the numbers of rows that were trained on and dropped.

    Raises:
        SettingsError: an unknown dataset, recipe or budget, or a p that is not in (0, 1].
    """
    spend = spend_at(SPENDS, budget)
    wanted = settings_of(spend, datasets, recipes, seeds, [{"kept": p} for p in levels or spend.values])
    return measured(ITEM, wanted, _measure, budget, workers, places or Places())


def _measure(job: Job) -> list[Row]:
    """The numbers of Table 2 on complete test rows, and what is right of always the most frequent values."""
    settings, spend = job.settings, SPENDS[job.budget]
    run = finished_run(settings, job.places)
    evaluation = evaluate(run, rows=spend.test_rows, samples=spend.samples, seed=settings.seed)
    command = (
        f"mvae reproduce {ITEM} --datasets {settings.dataset} --recipes {settings.recipe} --levels {settings.kept:g} "
        f"--seeds {settings.seed + 1} --budget {job.budget}"
    )
    table = run.splits.train if settings.rows is None else run.splits.train.first(settings.rows)
    assert settings.kept is not None
    empty = ~kept_cells(len(table), len(table.names), settings.kept, settings.seed).any(1)
    counts = {"rows_trained_on": int((~empty).sum()), "rows_dropped": int(empty.sum())}
    found = [row for row in rows_of(run, evaluation, job.budget, command) if row.item == "table2"]
    share = round(most_frequent(table, run.splits.test.first(evaluation.rows)), 4)
    found.append(replace(found[0], metric=MOST_FREQUENT, value=share, stderr=None))
    return [replace(row, item=ITEM, paper=None, settings={**row.settings, **counts}) for row in found]


def most_frequent(train: Table, test: Table) -> float:
    """Accuracy of predicting for each attribute the value that most training rows have, whatever the image.

    >>> rows = {"image": torch.zeros(3, 2), "Bald": torch.tensor([[True], [False], [False]])}
    >>> round(most_frequent(Table(rows), Table(rows)), 4)
    0.6667
    """
    right = []
    for name in train.names[1:]:
        often = torch.as_tensor(train.columns[name]).float().mean() > 0.5
        right.append((torch.as_tensor(test.columns[name]) == often).float().mean())
    return float(torch.stack(right).mean())


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Figure 9's four panels; a dotted line is the accuracy without looking at the image.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    draw_curves(rows, path, "kept", "p: probability that a value is kept", PANELS)
