"""Tables 8, 9 and 10: what can be learned from few pairs (Sec. 5.1, App. G, H); the cells are also Figure 3's.

Each number is of a dataset, a model, a seed and a level, the paired fraction: the share of rows that stay pairs.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mvae.data.dataset import Dataset
from mvae.evaluation.prediction import prediction_accuracy
from mvae.paper.baselines.features import Features, latents, pixels, rbm
from mvae.paper.baselines.logistic import logistic_accuracy
from mvae.paper.cell import DEFAULTS, Cell, augmented, experiment
from mvae.paper.harness import finished_run
from mvae.paper.item import BUDGETS, PAIRED, Budget, Item, Job, Options, Paths, require
from mvae.paper.published import published_at
from mvae.paper.record import shared_fields
from mvae.paper.results import Row, RowDict, Summary, new_row, summaries
from mvae.paper.show import show_values, signed
from mvae.runs.run import Run
from mvae.runs.source import load

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
WEAK_MODELS = ("logreg", "rbm", "ae", "vae", "nn", "jmvae", "mvae")
FEATURES = ("logreg", "rbm", "ae", "vae")  # then logistic regression
OF_PIXELS = ("logreg", "rbm")
SHIFTED = 0.1  # up to this level they also learn from shifted images, if the dataset's are; of all pairs, gigabytes
MEMORISED = 8  # from this number of epochs on, `coupled` shifts x1 even if pairs are not few
FROM_ALL_IMAGES = ("rbm", "ae", "vae")  # their features are learned once for all levels
FROM_PAIRS = ("nn", "jmvae")
OF_STRINGS = ("nn", "jmvae", "mvae")  # the paper has no "nn" there; the others of Sec. 5.1 predict classes
METRIC = "accuracy x1->x2"


@dataclass(frozen=True)
class Study:
    """The table of a dataset, its models, and its training at each budget.

    ``epochs`` are the paper's (App. H). ``laptop_epochs`` take an MVAE six to nine minutes on one core, or up to
    fourteen for strings. They are of all rows, because a share of fewer rows would be fewer pairs than the paper's. The
    image model from which labels spread takes the same time again.
    ``laptop_levels`` are the default paired fractions at that budget.
    ``coupled`` are the changes of that recipe from a level on (None: back to the dataset's): λ and the share of it in
    the cross term, because these tables only query x2. With the fewest pairs, labels first spread to similar images
    (`mvae.spread_labels`), over the latents of a VAE trained on the images for ``spread`` epochs; then, in each further
    of ``spread_rounds``, over those of the model trained on these labels.
    ``least_epochs`` are the fewest epochs of a model (or of `coupled`) at that budget: one of the supervised network
    costs a quarter of an MVAE's, more than these do not improve the RBM, and with fewer, the JMVAE, whose learning rate
    falls over half of them, is below its published value.
    """

    item: str
    epochs: int
    laptop_epochs: int
    laptop_levels: tuple[float, ...] = FRACTIONS
    smoke_rows: int | None = None
    models: tuple[str, ...] = WEAK_MODELS
    least_epochs: Mapping[str, int] = field(default_factory=dict)
    coupled: Mapping[float, Mapping[str, Any]] = field(default_factory=dict)

    def coupled_at(self, level: float) -> dict[str, Any]:
        """The changes of `coupled` at a level: all that start at or below it, of which the nearest prevail."""
        changes = (change for start, change in sorted(self.coupled.items()) if level >= start)
        return {name: value for change in changes for name, value in change.items()}

    def training(self, budget: str) -> dict[str, Any]:
        """Epochs and training rows at a budget."""
        if budget == "smoke":
            return {"epochs": 3, "rows": self.smoke_rows}
        return {"epochs": self.laptop_epochs if budget == "laptop" else self.epochs}

    def levels(self, budget: str) -> tuple[float, ...]:
        """The default paired fractions at a budget."""
        return {"laptop": self.laptop_levels, "smoke": SMOKE_LEVELS}.get(budget, FRACTIONS)


SMOKE_LEVELS = (0.1, 1.0)
FEWER = (0.005, 0.01, 0.05, 0.1, 1.0)
COUPLED: dict[float, dict[str, Any]] = {  # chosen on validation rows (docs/research/few-pairs.md)
    0.0: {"weights": {"label": 200.0}, "cross_share": 1.0, "spread": 40, "spread_rounds": 2},
    0.02: {"spread": None, "spread_rounds": None},
}
STUDIES = {
    "mnist": Study("table8", 500, 8, smoke_rows=2_000, least_epochs={"coupled": 24, "nn": 24}, coupled=COUPLED),
    "fashion-mnist": Study("table9", 100, 3, FEWER, smoke_rows=2_000, least_epochs={"rbm": 8, "nn": 40, "jmvae": 6}),
    "multimnist": Study("table10", 100, 2, FEWER, smoke_rows=1_000, models=OF_STRINGS),
    "digits": Study("table8", 150, laptop_epochs=150),  # not in the paper; it shows that everything runs
}


def cells_of_study(dataset: str, options: Options) -> Iterator[Cell]:
    """The cells of a table, for those of the given models that it has (if it has none, all, for the error).

    If no levels are given, they are the budget's.

    A model that learns from the pairs alone has few steps per epoch, so it is trained for the same number of steps as
    at 100 %, but for no more than the paper's epochs.
    """
    study, budget = STUDIES[dataset], options.budget
    models = [model for model in options.models if model in study.models] or options.models
    require("model", models, study.models, f" for {study.item}")
    for model in models:
        for recipe in options.recipes if model == "mvae" else ("paper",):
            for seed in range(options.seeds):
                for level in options.levels or study.levels(budget):
                    training = _training(dataset, model, recipe, level, budget)
                    yield Cell.of(dataset, recipe, seed, model, pairs=level, **training)


def _training(dataset: str, model: str, recipe: str, level: float, budget: str) -> dict[str, Any]:
    """A cell's changes to its declaration's settings."""
    study, few = STUDIES[dataset], augmented(dataset, "few-labels")
    training = study.training(budget)
    if model in ("ae", "nn"):  # there is no KL to anneal
        training["anneal_epochs"] = 0
    if model in FROM_PAIRS:
        most = max(study.epochs, training["epochs"])
        training["epochs"] = min(most, round(training["epochs"] / level))
    least = study.least_epochs.get("coupled" if recipe == "coupled" else model, 0) if budget == "laptop" else 0
    if training["epochs"] < least:
        training["epochs"] = least
        if model == "jmvae":
            training["decay_epochs"] = least // 2
    if model in OF_PIXELS:
        training["input_power"] = few["input_power"]
        training["input_shift"] = few["input_shift"] if level <= SHIFTED else 0
    if model == "mvae" and recipe == "coupled":
        training |= study.coupled_at(level)
        if training["epochs"] >= MEMORISED:
            training |= {"input_shift": few["input_shift"], "input_affine": few["input_affine"]}
    return training


def _cells(options: Options, budget: Budget) -> Iterator[Cell]:
    for dataset in options.datasets:
        yield from cells_of_study(dataset, options)


def _table_of(cell: Cell) -> str:
    return STUDIES[cell.dataset].item


def _job(cell: Cell) -> str:
    """The name of a cell's job: levels that share features are one job, so that these are learned once."""
    name = f"{cell.dataset} {cell.model} {cell.recipe}, seed {cell.seed}"
    return name if cell.model in FROM_ALL_IMAGES else f"{name}, {cell['pairs']:.1%} pairs"


def _measure(job: Job) -> list[Row]:
    """Train what is missing, and predict x2 of the test rows from x1."""
    first = job.cell
    if first.model not in FEATURES:
        return [row for cell in job.cells for row in _predicted(job, cell)]
    data = load(first.config, job.paths.data_dir)
    if first["rows"] is not None:
        data = replace(data, train=data.train.first(first["rows"]))
    features, run = _features(first, data, job.paths)
    rows, n = [], len(data.test)
    for cell in job.cells:
        value = logistic_accuracy(features, data, cell["pairs"], cell.seed, cell["input_shift"])
        rows.append(_row(job, cell, run, METRIC, value, math.sqrt(value * (1 - value) / n), n))
    return rows


def _features(cell: Cell, data: Dataset, paths: Paths) -> tuple[Features, Run | None]:
    """The features of the logistic regression, learned from all training images without labels (Sec. 5.1)."""
    if cell.model == "logreg":
        return partial(pixels, power=cell["input_power"]), None
    if cell.model == "rbm":
        return rbm(data.train, cell["epochs"], cell.seed, power=cell["input_power"]), None
    run = finished_run(cell.but(pairs=None), paths)
    return latents(run.model, data.train), run


def _predicted(job: Job, cell: Cell) -> list[Row]:
    """Accuracies of x2 from the mean of q(z | x1); for the JMVAE, also from that of q(z | x1, x2) (Sec. 5.1's remark).

    For strings, the accuracy of their digits and, as "whole", that of exact strings
    (`mvae.evaluation.prediction.prediction_accuracy`).
    If all rows are pairs, nothing is hidden: that run is Table 2's, if it has the same number of epochs.
    """
    run = finished_run(cell.but(pairs=None) if cell["pairs"] == 1 else cell, job.paths)
    first, second = run.model.names[:2]
    asked = {METRIC: [first]} | ({"accuracy x1,x2->x2": [first, second]} if cell.model == "jmvae" else {})
    rows = []
    for metric, given in asked.items():
        for suffix, found in prediction_accuracy(run.model, run.data.test, given, second).items():
            rows.append(_row(job, cell, run, metric + suffix, found.mean, found.standard_error, len(found.right)))
    return rows


def _row(job: Job, cell: Cell, run: Run | None, metric: str, value: float, error: float, n: int) -> Row:
    item = _table_of(cell)
    paper = published_at(item, cell.model, cell["pairs"]) if cell.dataset != "digits" and metric == METRIC else None
    return new_row(item, metric, value, error, shared_fields(run, job.origin(cell), n), paper)


def accuracies(rows: Sequence[RowDict]) -> list[Summary]:
    """Summaries of rows that differ only in their seed; a model's levels stand together, in the rows' order."""

    def line(row: RowDict) -> tuple[Any, ...]:
        return (*(row[name] for name in ("dataset", "model", "recipe", "metric")), _cross_share(row))

    found = summaries(rows, lambda row: (line(row), row["settings"]["pairs"]))
    order = list(dict.fromkeys(line(row) for row in rows))
    return sorted(found, key=lambda one: order.index(line(one.row)))


def _cross_share(row: RowDict) -> float:
    return row["settings"].get("cross_share", DEFAULTS["cross_share"])


def name_of_line(row: RowDict) -> str:
    """The model; for the MVAE also the recipe and, if it is not the table's, the share of λ in its cross term."""
    if row["model"] != "mvae":
        return row["model"]
    dataset, recipe, share = row["dataset"], row["recipe"], _cross_share(row)
    usual = experiment(dataset).models["mvae"]["cross_share"]
    own = STUDIES[dataset].coupled_at(row["settings"]["pairs"]).get("cross_share", usual)
    return f"mvae, {recipe}" if recipe != "coupled" or share == own else f"mvae, {recipe}, {share:g} λ"


def show_accuracies(item: str, rows: Sequence[RowDict]) -> None:
    """Print accuracies by model and paired fraction: ours (mean ± standard error over seeds) and the published ones."""
    datasets, lines, before = {row["dataset"] for row in rows}, [], ""
    for one in accuracies(rows):
        row, paper = one.row, one.row["paper"]
        name = name_of_line(row) if len(datasets) == 1 else f"{row['dataset']}, {name_of_line(row)}"
        given, _, predicted = row["metric"].removeprefix("accuracy ").partition("->")
        notes = [f"given {given}"] * (given != "x1") + predicted.split()[1:]
        if notes:  # what the paper's tables do not have
            name += f" ({', '.join(notes)})"
        if before not in ("", name):
            lines.append(())
        before, diff = name, None if paper is None else one.value - paper
        numbers = f"{one.value:.4f}", signed(one.stderr, ".4f", ""), str(one.seeds)
        lines.append((name, f"{row['settings']['pairs']:.1%}", *numbers, signed(paper, ".4f"), signed(diff, "+.4f")))
    title = ", ".join([f"{item}, budget {rows[0]['budget']}", *(datasets if len(datasets) == 1 else ())])
    headings = ("accuracy of x2", "pairs", "ours", "± s.e.", "seeds", "paper", "diff")
    show_values(title, headings, lines, left=headings[:1])


def few_pairs(
    name: str,
    summary: str,
    needs: str,
    datasets: tuple[str, ...],
    draw: Callable[[Sequence[RowDict], Path], None] | None = None,
) -> Item:
    """An item; smoke uses the embedded digits, but these have no strings, so that table10 needs MNIST at any budget."""
    smoke = datasets if name == "table10" else ("digits",)
    return Item(
        name,
        summary,
        ("datasets", "models", "recipes", "levels", "seeds", "budget", "jobs"),
        show_accuracies,
        needs=needs,
        defaults={"models": WEAK_MODELS},
        choices={"datasets": tuple(STUDIES), "models": WEAK_MODELS},
        levels=PAIRED,
        budgets={
            budget: replace(spend, datasets=smoke if budget == "smoke" else datasets)
            for budget, spend in BUDGETS.items()
        },
        cells=_cells,
        measure=_measure,
        file=_table_of,
        job=_job,
        draw=draw,
        quiet=True,
    )


_NEEDS = "MNIST (downloaded where --data-dir has none)"
FEW_PAIRS = (
    few_pairs(
        "table8",
        "MNIST: accuracy of x2 from x1 when few rows are pairs, with the baselines of Sec. 5.1",
        f"{_NEEDS} (smoke: the embedded digits)",
        ("mnist",),
    ),
    few_pairs("table9", "FashionMNIST: the same", f"Fashion{_NEEDS}", ("fashion-mnist",)),
    few_pairs(
        "table10", "MultiMNIST: the same for the digits of its strings, and for exact strings", _NEEDS, ("multimnist",)
    ),
)
