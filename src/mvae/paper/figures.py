"""`mvae reproduce figure2`: samples of the prior and given a condition, in which a judge looks for the condition."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.coherence import agreement, judge_for
from mvae.paper.experiments import EXPERIMENTS, RECIPES, experiment
from mvae.paper.harness import BUDGETS, Places, finished_run, recorded, require
from mvae.paper.record import common
from mvae.paper.results import Row, add_rows
from mvae.paper.settings import Settings
from mvae.report.grid import save_grid
from mvae.runs.run import Run
from mvae.runs.sample import draw, parse_given

__all__ = ["figure2", "judged"]

ITEM = "figure2"
SAMPLES = 64  # of the prior, and as many given the condition
JUDGED = 1000


def figure2(
    *,
    datasets: Sequence[str] = ("mnist",),
    recipes: Sequence[str] = RECIPES,
    seeds: int = 1,
    budget: str = "laptop",
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """A picture for each dataset and recipe, left 64 samples of the prior, right 64 given the condition of Fig. 2.

    Beside it, 1,000 images given the conditions of test rows are judged (see `mvae.evaluation.coherence`).
    Returns the recorded rows.

    Raises:
        SettingsError: an unknown dataset, recipe or budget.
    """
    require("dataset", datasets, EXPERIMENTS)
    require("recipe", recipes, RECIPES)
    require("budget", [budget], BUDGETS)
    places, found = places or Places(), []
    for dataset in datasets:
        for recipe in recipes:
            for seed in range(seeds):
                settings = Settings.of(dataset, recipe, seed, **BUDGETS[budget].training(experiment(dataset)))
                if not recorded(places.results, [ITEM], settings, budget):
                    command = f"mvae reproduce figure2 --datasets {dataset} --recipes {recipe} --budget {budget}"
                    run = finished_run(settings, places)
                    picture(run, places.results / f"figure2-{dataset}-{recipe}-{budget}.png")
                    add_rows(places.results / f"{ITEM}.json", judged(run, budget, command, places.runs))
                found += recorded(places.results, [ITEM], settings, budget)
    return found


def picture(run: Run, path: Path, seed: int = 0) -> None:
    """Fig. 2 of one run."""
    image = run.model.names[0]
    generator = torch.Generator(run.model.device).manual_seed(seed)
    given = parse_given(run, experiment(run.settings.dataset).shown[:1])
    halves = [draw(run, table, (image,), SAMPLES, generator)[image][:, 0] for table in (None, Table(given or {}))]
    side = round(SAMPLES**0.5)
    blank = torch.ones_like(halves[0][:side])  # a column between the halves
    rows = [half.reshape(side, side, *half.shape[1:]) for half in halves]
    both = torch.cat([rows[0], blank[:, None], rows[1]], dim=1)
    save_grid(both.flatten(0, 1), path, columns=2 * side + 1)


def judged(run: Run, budget: str, command: str, runs: Path) -> list[Row]:
    """How often a judge sees the second modality of test rows in images generated from it.

    Judges are kept in the folder ``runs``.

    Raises:
        QueryError: the model has no second modality, or its first is no image.
    """
    if len(run.model.names) < 2 or len(run.splits.test.columns[run.model.names[0]].shape) != 4:
        raise QueryError("only images can be judged, by another modality that they are generated from")
    image, target = run.model.names[:2]
    likelihood = run.model.modalities[target].likelihood
    path = runs / f"judge-{run.settings.dataset}-{target}.safetensors"
    judge, right = judge_for(run.splits, image, target, likelihood, path)
    conditions = run.splits.test.first(JUDGED).select([target])
    value = agreement(run.model, judge, conditions, image, target, seed=run.settings.seed)
    rows = []
    for metric, share, n in (
        ("agreement x2->x1", value, len(conditions)),
        ("the judge on real test rows", right, len(run.splits.test)),
    ):
        error = round((share * (1 - share) / n) ** 0.5, 4)
        shared = common(run, budget, command, n, {})
        rows.append(Row(item=ITEM, metric=metric, value=round(share, 4), stderr=error, paper=None, **shared))
    return rows
