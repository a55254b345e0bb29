"""`mvae reproduce table8 | table9 | table10`: what can be learned from few pairs (Sec. 5.1, App. G, H).

One number is a dataset, a model, a seed and a level, which is the share of rows that stay pairs. Nothing is made twice:
numbers that are recorded are read, runs that are finished are opened, runs that were stopped go on.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mvae.data.dataset import Dataset
from mvae.evaluation.validation import prediction_accuracy
from mvae.paper.baselines.features import Features, latents, pixels, rbm
from mvae.paper.baselines.logistic import accuracy
from mvae.paper.experiments import RECIPES, Experiment, experiment
from mvae.paper.experiments.base import CROSS_SHARE
from mvae.paper.harness import BUDGETS, Places, finished_run, recorded, require, require_shares, swept
from mvae.paper.published import published_at
from mvae.paper.record import common, row_settings
from mvae.paper.results import Row, add_rows
from mvae.paper.settings import LATER, Settings
from mvae.provenance import circumstances
from mvae.runs.run import Run, device_named

__all__ = ["LEVELS", "MODELS", "STUDIES", "Study", "cells", "reproduce", "summaries"]

LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
MODELS = ("logreg", "rbm", "ae", "vae", "nn", "jmvae", "mvae")
FEATURES = ("logreg", "rbm", "ae", "vae")  # then logistic regression
OF_PIXELS = ("logreg", "rbm")
MOVED = 0.1  # up to this level they also learn from moved images, where the dataset's are: of all pairs, gigabytes
LEARNED_BY_HEART = 8  # epochs from which `coupled` sees x1 moved not only where pairs are few
FROM_ALL_IMAGES = ("rbm", "ae", "vae")  # their features are learned once for all levels
FROM_PAIRS = ("nn", "jmvae")
OF_STRINGS = ("nn", "jmvae", "mvae")  # the paper has no "nn" there; the others of Sec. 5.1 predict classes
METRIC = "accuracy x1->x2"


@dataclass(frozen=True)
class Study:
    """The table of a dataset, which models it has, and what is spent on it.

    ``epochs`` are the paper's (App. H). ``laptop_epochs`` are six to nine minutes of one core for an MVAE, of strings
    up to fourteen; always of all rows, because with fewer a share of them would be fewer pairs than the paper's.
    ``laptop_levels`` are the shares of pairs that are made at that budget, where none are asked for.
    ``coupled`` is what that recipe changes from a level of pairs on (None: back to the dataset's): λ and how much of it
    is in the cross term, as these tables ask for x2 alone. With the fewest pairs nearly all that is scored there are
    guesses, which may weigh less, and more noise keeps it from being sure of wrong ones.
    ``least_epochs`` are what baselines then have at least: the supervised network's cost a quarter of an MVAE's, more
    of the RBM's are no better, and the JMVAE, its rate falling over half of them, is below its print otherwise.
    """

    item: str
    epochs: int
    laptop_epochs: int
    laptop_levels: tuple[float, ...] = LEVELS
    smoke_rows: int | None = None
    models: tuple[str, ...] = MODELS
    least_epochs: Mapping[str, int] = field(default_factory=dict)
    coupled: Mapping[float, Mapping[str, Any]] = field(default_factory=dict)

    def coupled_at(self, level: float) -> dict[str, Any]:
        """What `coupled` changes at a level: the nearest below counts."""
        changes = (change for start, change in sorted(self.coupled.items()) if level >= start)
        return {name: value for change in changes for name, value in change.items()}

    def training(self, budget: str) -> dict[str, Any]:
        """Epochs and training rows at a budget."""
        if budget == "smoke":
            return {"epochs": 3, "rows": self.smoke_rows}
        if budget == "laptop":
            return {"epochs": self.laptop_epochs}
        return {"epochs": self.epochs}

    def levels(self, budget: str) -> tuple[float, ...]:
        """Shares of pairs at a budget."""
        return self.laptop_levels if budget == "laptop" else LEVELS


FEWER_LEVELS = (0.005, 0.01, 0.05, 0.1, 1.0)
COUPLED: dict[float, dict[str, Any]] = {  # chosen on validation rows (docs/research/few-pairs.md)
    0.0: {"input_noise": 0.5},
    0.002: {"input_noise": None},
    0.005: {"weights": {"label": 200.0}},
    0.02: {"cross_share": 1.0},
}
STUDIES = {
    "mnist": Study("table8", 500, laptop_epochs=8, coupled=COUPLED),
    "fashion-mnist": Study("table9", 100, 3, FEWER_LEVELS, least_epochs={"rbm": 8, "nn": 40, "jmvae": 6}),
    "multimnist": Study("table10", 100, 2, FEWER_LEVELS, smoke_rows=1_000, models=OF_STRINGS),
    "digits": Study("table8", 150, laptop_epochs=150),  # not in the paper; it shows that everything runs
}


def datasets_of(item: str, budget: str) -> tuple[str, ...]:
    """What an item is about: its dataset (for figure3 all of the paper's); for smoke the embedded digits.

    Of these there are no strings, so that table10 needs MNIST at any budget.
    """
    if budget == "smoke" and item != "table10":
        return ("digits",)
    return tuple(name for name, study in STUDIES.items() if name != "digits" and item in (study.item, "figure3"))


def cells(
    dataset: str, models: Sequence[str], recipes: Sequence[str], levels: Sequence[float], seeds: int, budget: str
) -> Iterator[Settings]:
    """What identifies each number of a table; of the models those that it has (where it has none, all, for the error).

    Where no levels are given, the budget's.

    A model that learns from the pairs alone has few steps an epoch, so it is trained for as many steps as at 100 %, but
    for no more than the paper's epochs.
    """
    study, what = STUDIES[dataset], experiment(dataset)
    models = [model for model in models if model in study.models] or models
    require(f"model of {study.item}", models, study.models)
    for model in models:
        for recipe in recipes if model == "mvae" else ("paper",):
            for seed in range(seeds):
                for level in levels or study.levels(budget):
                    training = _training(study, what, model, recipe, level, budget)
                    yield Settings.of(dataset, recipe, seed, model, pairs=level, **training)


def _training(study: Study, what: Experiment, model: str, recipe: str, level: float, budget: str) -> dict[str, Any]:
    """What a cell changes in its experiment's settings."""
    training = study.training(budget)
    if model in ("ae", "nn"):  # there is no KL to anneal
        training["anneal_epochs"] = 0
    if model in FROM_PAIRS:
        most = max(study.epochs, training["epochs"])
        training["epochs"] = min(most, round(training["epochs"] / level))
    least = study.least_epochs.get(model, 0) if budget == "laptop" else 0
    if training["epochs"] < least:
        training["epochs"] = least
        if model == "jmvae":
            training["decay_epochs"] = least // 2
    if model in OF_PIXELS:
        training["input_power"] = what.input_power
        training["input_shift"] = what.few_pairs_shift if level <= MOVED else 0
    if model == "mvae" and recipe == "coupled":
        training |= study.coupled_at(level)
        if training["epochs"] >= LEARNED_BY_HEART:
            training["input_shift"] = what.few_pairs_shift
    return training


def reproduce(
    item: str,
    *,
    datasets: Sequence[str] = (),
    models: Sequence[str] = MODELS,
    recipes: Sequence[str] = RECIPES,
    levels: Sequence[float] = (),
    seeds: int = 1,
    budget: str = "laptop",
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of a table for these models and levels (default: the budget's), after making those missing.

    ``workers`` jobs run at once; each number is recorded when its job ends, so that a kill loses the jobs in hand only.

    Raises:
        SettingsError: an unknown dataset, model, recipe or budget, or a level that is not in (0, 1].
    """
    require("budget", [budget], BUDGETS)
    datasets = datasets or datasets_of(item, budget)
    require("dataset with few pairs", datasets, STUDIES)
    require("model", models, MODELS)
    require("recipe", recipes, RECIPES)
    require_shares(levels)
    places = replace(places or Places(), callbacks=())
    wanted = [c for dataset in datasets for c in cells(dataset, models, recipes, levels, seeds, budget)]

    def known(settings: Settings) -> list[dict[str, Any]]:
        return recorded(places.results, [STUDIES[settings.dataset].item], settings, budget)

    groups: dict[str, list[Settings]] = {}
    for settings in wanted:
        if not known(settings):
            groups.setdefault(_job_name(settings), []).append(settings)
    jobs = {name: _Job(tuple(group), budget, places) for name, group in groups.items()}
    for rows in swept(_measure, jobs, lambda job: job.cells[0], workers, places):
        add_rows(places.results / f"{rows[0].item}.json", rows)
    return [row for settings in wanted for row in known(settings)]


def _job_name(settings: Settings) -> str:
    """Levels that share their features are one job: the features are learned once."""
    name = f"{settings.dataset} {settings.model} {settings.recipe}, seed {settings.seed}"
    return name if settings.model in FROM_ALL_IMAGES else f"{name}, {settings.pairs:.1%} pairs"


@dataclass(frozen=True)
class _Job:
    cells: tuple[Settings, ...]
    budget: str
    places: Places


def _measure(job: _Job) -> list[Row]:
    """The rows of a job (in whatever process): train what is missing, predict x2 of the test rows from x1."""
    first = job.cells[0]
    if first.model not in FEATURES:
        return [row for settings in job.cells for row in _predicted(settings, job)]
    splits = experiment(first.dataset).load(job.places.data_dir)
    if first.rows is not None:
        splits = replace(splits, train=splits.train.first(first.rows))
    features, run = _features(first, splits, job.places)
    rows = []
    for settings in job.cells:
        assert settings.pairs is not None
        value = accuracy(features, splits, settings.pairs, settings.seed, settings.input_shift)
        n = len(splits.test)
        rows.append(_row(settings, METRIC, value, math.sqrt(value * (1 - value) / n), n, job, run))
    return rows


def _features(settings: Settings, splits: Dataset, places: Places) -> tuple[Features, Run | None]:
    """What the logistic regression is given; learned from all training images, with no label (Sec. 5.1)."""
    if settings.model == "logreg":
        return partial(pixels, power=settings.input_power), None
    if settings.model == "rbm":
        return rbm(splits.train, settings.epochs, settings.seed, power=settings.input_power), None
    run = finished_run(replace(settings, pairs=None), places)
    return latents(run.model, splits.train), run


def _predicted(settings: Settings, job: _Job) -> list[Row]:
    """x2 from the mean of q(z | x1); of the JMVAE also the x2 that q(z | x1, x2) gives back (Sec. 5.1's remark).

    Of strings the accuracy of their digits and, as "whole", that of exact strings
    (`mvae.evaluation.validation.prediction_accuracy`).
    Where all rows are pairs, nothing is hidden: that run is Table 2's, if it has as many epochs.
    """
    run = finished_run(replace(settings, pairs=None) if settings.pairs == 1 else settings, job.places)
    first, second = run.model.names[:2]
    asked = {METRIC: [first]} | ({"accuracy x1,x2->x2": [first, second]} if run.settings.model == "jmvae" else {})
    rows = []
    for metric, given in asked.items():
        for suffix, found in prediction_accuracy(run.model, run.splits.test, given, second).items():
            rows.append(_row(settings, metric + suffix, found.mean, found.standard_error, len(found.right), job, run))
    return rows


def _row(settings: Settings, metric: str, value: float, error: float, n: int, job: _Job, run: Run | None) -> Row:
    assert settings.pairs is not None
    item = STUDIES[settings.dataset].item
    printed = published_at(item, settings.model, settings.pairs) if settings.dataset != "digits" else None
    command = (
        f"mvae reproduce {item} --datasets {settings.dataset} --models {settings.model} --recipes {settings.recipe} "
        f"--levels {settings.pairs:g} --seeds {settings.seed + 1} --budget {job.budget}"
    )
    if run is None:
        where = circumstances(device_named(job.places.device))
        shared = {"budget": job.budget, "command": command, "settings": row_settings(settings), "n": n, **where}
    else:  # where the run hides nothing its settings say nothing of pairs; the row's do
        shared = common(run, job.budget, command, n, {"pairs": settings.pairs})
    identity = {name: getattr(settings, name) for name in ("dataset", "model", "recipe", "seed")}
    paper = printed if metric == METRIC else None
    measured = {"value": round(value, 4), "stderr": round(error, 4), "paper": paper}
    return Row(item=item, metric=metric, **measured, **(shared | identity))


@dataclass(frozen=True)
class Summary:
    """A model's accuracy at one level: mean over seeds, with its standard error where there are several."""

    dataset: str
    model: str
    recipe: str
    metric: str
    level: float
    value: float
    stderr: float | None
    seeds: int
    paper: float | None
    cross_share: float = CROSS_SHARE

    @property
    def name(self) -> str:
        """The model, of the MVAE the recipe, and how much of λ its cross term had where that is not the table's."""
        if self.model != "mvae":
            return self.model
        own = STUDIES[self.dataset].coupled_at(self.level).get("cross_share", experiment(self.dataset).cross_share)
        usual = self.recipe != "coupled" or self.cross_share == own
        return f"mvae, {self.recipe}" if usual else f"mvae, {self.recipe}, {self.cross_share:g} λ"


def summaries(rows: Sequence[dict[str, Any]]) -> list[Summary]:
    """Rows that differ in their seed only, as one; a model's levels stand together, in the rows' order."""
    groups: dict[tuple[Any, ...], dict[float, dict[int, dict[str, Any]]]] = {}
    for row in rows:
        share = row["settings"].get("cross_share", LATER["cross_share"])
        curve = groups.setdefault((*(row[name] for name in ("dataset", "model", "recipe", "metric")), share), {})
        curve.setdefault(row["settings"]["pairs"], {})[row["seed"]] = row  # measured twice: the last counts
    found = []
    for (dataset, model, recipe, metric, share), curve in groups.items():
        for level, by_seed in curve.items():
            values, n = [row["value"] for row in by_seed.values()], len(by_seed)
            mean = sum(values) / n
            error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None
            paper = next(iter(by_seed.values()))["paper"]
            found.append(Summary(dataset, model, recipe, metric, level, mean, error, n, paper, share))
    return found
