"""What Figures 9 and 10 share: MVAE19 trained again and again with one setting changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mvae.paper.experiments import RECIPES
from mvae.paper.harness import BUDGETS, require
from mvae.paper.settings import Settings

__all__ = ["DATASETS", "Spend", "settings_of", "spend_at"]

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
