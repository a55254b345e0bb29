"""`mvae reproduce figure9`: MVAE19 when each value of its training rows is kept only with probability p (App. F).

Rows left empty are dropped, and counted in each row of results. In the validation rows, the same share of values is
hidden; test rows are complete. The paper shows plots without numbers.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from mvae.data.masking import kept_cells
from mvae.data.table import Table
from mvae.paper.coupling import rows_as
from mvae.paper.harness import finished_run
from mvae.paper.item import KEPT, Budget, Job, Number
from mvae.paper.mvae19 import Panel, draw_panels, item_of_19
from mvae.paper.results import Row

__all__ = ["FIGURE9", "most_frequent"]

BUDGETS_OF_P = {  # laptop: half an hour on one core for all five
    "smoke": Budget("", {"epochs": 1, "rows": 60}, 5, 10, None, ("faces19",), (0.1, 1.0)),
    "laptop": Budget("", {"epochs": 12, "rows": 4_000}, 200, None, None, ("celeba19",), (0.001, 0.01, 0.1, 0.5, 1.0)),
    "paper": Budget("", datasets=("celeba19",), levels=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
}
MOST_FREQUENT = "accuracy ->x2"
_PANELS = (
    Panel("(a) accuracy of the attributes, given the image", "accuracy x1->x2", {}, MOST_FREQUENT),
    Panel("(b) log p(x, y), nats", "log p(x1,x2)", {}),
    Panel("(c) log p(x), nats", "log p(x1)", {}),
    Panel("(d) log p(x | y), nats", "log p(x1|x2)", {}),
)


def _changes(levels: Sequence[Number]) -> list[dict[str, Any]]:
    return [{"kept": p} for p in levels]


def _measure(job: Job) -> list[Row]:
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


FIGURE9 = item_of_19(
    "figure9",
    "MVAE19 when each value of its training rows is kept with probability p only, in RESULTS/figure9.png",
    levels=KEPT,
    budgets=BUDGETS_OF_P,
    changes=_changes,
    measure=_measure,
    draw=partial(draw_panels, setting="kept", label="p: probability that a value is kept", panels=_PANELS, scale="log"),
)
