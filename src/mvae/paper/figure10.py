"""`mvae reproduce figure10`: MVAE19 with k = 0 … 50 random subsets, with one ε a term and with one for all (App. I).

What k does to the joint log-likelihood and to the variance of the log weights. More terms mean more noise that is
averaged over, too: with ``shared_noise`` a row's terms all have the same ε, so that only the terms are more. Published
are pictures, no numbers.

The paper does not say which weights: ours are Table 3's, of the joint with proposal q(z | x1); all three are recorded.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvae.paper.curves import Panel
from mvae.paper.curves import draw as draw_curves
from mvae.paper.harness import Job, Places, finished_run, measured
from mvae.paper.mvae19 import Spend, settings_of, spend_at
from mvae.paper.record import rows_of
from mvae.paper.results import Row
from mvae.runs.run import evaluate

__all__ = ["SPENDS", "draw", "reproduce"]

ITEM = "figure10"
SPENDS = {  # laptop: 35 minutes of one core for all six, with one seed
    "smoke": Spend("faces19", (0, 1), epochs=2, rows=60, test_rows=20, samples=10),
    "laptop": Spend("celeba19", (0, 1, 10), epochs=12, rows=1_000, test_rows=100),
    "paper": Spend("celeba19", (0, 1, 2, 5, 10, 20, 30, 40, 50)),
}
JOINT, VARIANCE = "log p(x1,x2)", "var log w p(x1,x2)"
PANELS = (
    Panel("(a) log p(x, y), nats", JOINT, {"shared_noise": False}),
    Panel("(b) variance of log w", VARIANCE, {"shared_noise": False}),
    Panel("(c) variance of log w, one ε for all terms", VARIANCE, {"shared_noise": True}),
)


def reproduce(
    *,
    datasets: Sequence[str] = (),
    recipes: Sequence[str] = ("paper",),
    levels: Sequence[int] = (),
    seeds: int = 1,
    budget: str = "laptop",
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows at every k (``levels``; default the budget's), after making those that are missing.

    Each has k as ``random_subsets`` and one ε as ``shared_noise`` among its settings. The paper has 3 seeds.

    Raises:
        SettingsError: an unknown dataset, recipe or budget, or a k below 0.
    """
    spend = spend_at(SPENDS, budget)
    changes = [
        {"random_subsets": k, "shared_noise": shared} for shared in (False, True) for k in levels or spend.values
    ]
    return measured(
        ITEM, settings_of(spend, datasets, recipes, seeds, changes), _measure, budget, workers, places or Places()
    )


def _measure(job: Job) -> list[Row]:
    """The numbers of Tables 2 and 3."""
    settings, spend = job.settings, SPENDS[job.budget]
    run = finished_run(settings, job.places)
    evaluation = evaluate(run, rows=spend.test_rows, samples=spend.samples, seed=settings.seed)
    command = (
        f"mvae reproduce {ITEM} --datasets {settings.dataset} --recipes {settings.recipe} "
        f"--levels {settings.random_subsets} --seeds {settings.seed + 1} --budget {job.budget}"
    )
    return [replace(row, item=ITEM, paper=None) for row in rows_of(run, evaluation, job.budget, command)]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Figure 10's three panels.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    draw_curves(rows, path, "random_subsets", "k: random subsets a step", PANELS)
