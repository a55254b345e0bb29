"""What Figures 9 and 10 share: MVAE19 trained again and again with one setting changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mvae.experiments import RECIPES
from mvae.paper.harness import BUDGETS, Job, Places, name_of, recorded, require
from mvae.report.results import Row, add_rows
from mvae.settings import Settings
from mvae.sweeps import sweep

__all__ = ["DATASETS", "Spend", "measured", "settings_of", "spend_at", "varied"]

DATASETS = ("celeba19", "faces19")


@dataclass(frozen=True)
class Spend:
    """What a budget spends on one run, and at which values of the setting; None is the paper's, or all rows."""

    dataset: str
    values: tuple[Any, ...]
    epochs: int | None = None
    rows: int | None = None
    test_rows: int | None = None
    samples: int | None = None


def spend_at(spends: Mapping[str, Spend], budget: str) -> Spend:
    """What an item spends at a budget.

    Raises:
        SettingsError: an unknown budget.
    """
    require("budget", [budget], BUDGETS)
    return spends[budget]


def settings_of(
    spend: Spend, datasets: Sequence[str], recipes: Sequence[str], seeds: int, changes: Sequence[Mapping[str, Any]]
) -> list[Settings]:
    """The settings of every run: each change of each recipe's settings, in each dataset, with each seed.

    Raises:
        SettingsError: an unknown recipe, a dataset that has no 19 modalities, or a change outside its range.
    """
    require("recipe", recipes, RECIPES)
    datasets = datasets or (spend.dataset,)
    require("dataset of 19 modalities", datasets, DATASETS)
    training = {"epochs": spend.epochs, "rows": spend.rows}
    return [
        Settings.of(dataset, recipe, seed, **training, **change)
        for dataset in datasets
        for recipe in recipes
        for seed in range(seeds)
        for change in changes
    ]


def measured(
    item: str,
    wanted: Sequence[Settings],
    measure: Callable[[Job], list[Row]],
    budget: str,
    workers: int,
    places: Places,
) -> list[dict[str, Any]]:
    """The recorded rows of these settings, after making those that are missing; each run recorded as it ends."""
    jobs = {
        f"{name_of(settings)}{varied(settings)}": Job(settings, budget, places)
        for settings in wanted
        if not recorded(places.results, [item], settings, budget)
    }
    for _, rows in sweep(measure, jobs, workers, places.engine):
        add_rows(places.results / f"{item}.json", rows)
    return [row for settings in wanted for row in recorded(places.results, [item], settings, budget)]


def varied(settings: Settings) -> str:
    """The setting that a figure varies, in words.

    >>> varied(Settings.of("faces19", kept=0.1)), varied(Settings.of("faces19", random_subsets=5, shared_noise=True))
    (', p = 0.1', ', k = 5, one ε')
    """
    if settings.kept is not None:
        return f", p = {settings.kept:g}"
    return f", k = {settings.random_subsets}{', one ε' if settings.shared_noise else ''}"
