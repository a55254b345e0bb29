"""`mvae reproduce lambda`: when do modalities couple? λ2 × annealing × seeds, extremes, remedies, and few pairs.

Two cells of the map differ only in the named setting, so that a difference has one cause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mvae.paper.cell import DEFAULTS, Cell, augmented
from mvae.paper.harness import rows_as
from mvae.paper.item import BUDGETS, Budget, Item, Options, all_datasets
from mvae.paper.results import RowDict
from mvae.paper.show import show_comparison
from mvae.report.figure import saved_figure

WEIGHTS = (1.0, 10.0, 50.0)
ANNEALED = (0.0, 0.4)  # share of the epochs; the paper's is 200 of 500
EXTREMES = {"mvae_joint_only": "joint term only", "mvae_singles_only": "single terms only"}  # Sec. 2.2
REMEDIES = {  # besides other λ2, no annealing, and `coupled`
    "mvae_ramped": "λ2 rising from 1",
    "mvae_bounded": "bounded experts",
    "mvae_penalised": "KL penalty",
}
FEW, OVERSAMPLED = 0.01, 20  # the remedies are also tried with 1 % of the pairs, and with these oversampled


def cells_of_map(dataset: str, epochs: int, seeds: int, rows: int | None = None) -> Iterator[Cell]:
    """Every cell: the paper's objective at each λ2 and annealing, its extremes, the remedies; some with few pairs, too.

    The learning rate is constant in all of them, also in the recipe `coupled`.
    """

    def cell(
        seed: int, recipe: str = "paper", model: str = "mvae", weight: float = 50.0, share: float = 0.4, **few: Any
    ) -> Cell:
        schedule = {"epochs": epochs, "anneal_epochs": round(share * epochs), "decay_epochs": 0, "rows": rows}
        return Cell.of(dataset, recipe, seed, model, weights={"label": weight}, **schedule, **few)

    for seed in range(seeds):
        yield from (cell(seed, weight=weight, share=share) for share in ANNEALED for weight in WEIGHTS)
        yield from (cell(seed, model=model) for model in (*EXTREMES, *REMEDIES))
        yield cell(seed, "coupled")
        yield from (cell(seed, share=share, pairs=FEW) for share in ANNEALED)
        yield from (cell(seed, model=model, pairs=FEW) for model in REMEDIES)
        alone = {name: DEFAULTS[name] for name in ("pseudo_labels", *augmented(dataset, "few-labels"))}
        # What oversampling does by itself, without augmentation.
        yield from (cell(seed, "coupled", pairs=FEW, repeat_pairs=n, **alone) for n in (1, OVERSAMPLED))


def _cells(options: Options, budget: Budget) -> Iterator[Cell]:
    for dataset in options.datasets:
        yield from cells_of_map(dataset, budget.epochs(dataset), options.seeds, budget.training(dataset).get("rows"))


def draw_map(rows: Sequence[RowDict], path: Path) -> None:
    """Draw the map: what each cell costs and whether its modalities are coupled; a dot per seed.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: row["settings"]["pairs"] is not None):  # few pairs last
        cells.setdefault((_label(row), row["seed"]), {})[row["metric"]] = row["value"]
    labels = list(dict.fromkeys(label for label, _ in cells))
    panels = {
        "log p(x1), nats": lambda cell: cell["log p(x1)"],
        "log p(x1,x2) − log p(x1), nats": lambda cell: cell["log p(x1,x2)"] - cell["log p(x1)"],
        "label from image": lambda cell: cell["accuracy x1->x2"],
        "coupling C, nats": lambda cell: cell.get("coupling", float("nan")),
    }
    with saved_figure(path, figsize=(3.2 * len(panels), 0.35 * len(labels) + 1.2)) as figure:
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (title, value) in zip(axes, panels.items(), strict=True):
            for (label, _), cell in cells.items():
                axis.plot(value(cell), labels.index(label), "o", color="tab:blue", alpha=0.7)
            axis.set_title(title, fontsize=9)
            axis.grid(alpha=0.3)
        axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
        axes[0].invert_yaxis()


def _label(row: RowDict) -> str:
    settings = row["settings"]
    what = {"mvae": row["recipe"], **EXTREMES, **REMEDIES}[row["model"]]
    share = settings["anneal_epochs"] / settings["epochs"]
    few = "" if settings["pairs"] is None else f", {settings['pairs']:.0%} pairs × {settings['repeat_pairs']}"
    return f"{what}, λ2 = {settings['weights']['label']:g}, annealed {share:.0%}{few}"


LAMBDA = Item(
    "lambda",
    "when do the modalities meet: λ2 × annealing, the extremes of Sec. 2.2, remedies, few pairs",
    ("datasets", "seeds", "budget", "jobs"),
    show_comparison,
    needs="MNIST (downloaded where --data-dir has none)",
    defaults={"datasets": ("mnist",)},
    choices={"datasets": all_datasets()},
    # laptop: 8 epochs of each of the 19 cells, two minutes on one core for MNIST
    budgets=BUDGETS | {"laptop": replace(BUDGETS["laptop"], changes={"epochs": 8})},
    cells=_cells,
    measure=partial(rows_as, "lambda"),
    draw=draw_map,
)
