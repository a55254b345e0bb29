"""`mvae reproduce lambda`: when do the modalities meet? λ2 × annealing × seeds, extremes, remedies, and few pairs.

Only the setting named differs between two cells of the map, so that a difference has one cause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvae.errors import MissingDependencyError
from mvae.paper.experiments import EXPERIMENTS, experiment
from mvae.paper.harness import BUDGETS, Job, Places, finished_run, measured, require
from mvae.paper.record import rows_of
from mvae.paper.results import Row
from mvae.paper.settings import Settings
from mvae.runs.run import evaluate

__all__ = ["WEIGHTS", "draw", "reproduce", "settings_of_map"]

WEIGHTS = (1.0, 10.0, 50.0)
ANNEALED = (0.0, 0.4)  # share of the epochs; the paper's is 200 of 500
EXTREMES = ("mvae_joint_only", "mvae_singles_only")  # Sec. 2.2
REMEDIES = ("mvae_ramped", "mvae_bounded", "mvae_penalised")  # besides other λ2, no annealing, and `coupled`
FEW, REPEATS = 0.01, 20  # the remedies are also tried with 1 % of the pairs, and with these drawn so often
LAPTOP_EPOCHS = 8  # of each of the 19 cells: two minutes of one core on MNIST
ITEM = "lambda"


def settings_of_map(dataset: str, epochs: int, seeds: int) -> Iterator[Settings]:
    """Every cell: the paper's objective at each λ2 and annealing, its extremes, the remedies; these with few pairs too.

    The learning rate is constant in all of them, also in the recipe `coupled`.
    """

    def cell(
        seed: int, recipe: str = "paper", model: str = "mvae", weight: float = 50.0, share: float = 0.4, **few: Any
    ) -> Settings:
        schedule = {"epochs": epochs, "anneal_epochs": round(share * epochs), "decay_epochs": 0}
        return Settings.of(dataset, recipe, seed, model, {"label": weight}, **schedule, **few)

    for seed in range(seeds):
        yield from (cell(seed, weight=weight, share=share) for share in ANNEALED for weight in WEIGHTS)
        yield from (cell(seed, model=model) for model in (*EXTREMES, *REMEDIES))
        yield cell(seed, "coupled")
        yield from (cell(seed, share=share, pairs=FEW) for share in ANNEALED)
        yield from (cell(seed, model=model, pairs=FEW) for model in REMEDIES)
        alone: dict[str, Any] = {"input_noise": 0.0, "pseudo_labels": False}  # what repeating does by itself
        yield from (cell(seed, "coupled", pairs=FEW, repeat_pairs=n, **alone) for n in (1, REPEATS))


def reproduce(
    *,
    datasets: Sequence[str] = ("mnist",),
    seeds: int = 1,
    budget: str = "laptop",
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of the map, after making those that are missing (resumable, ``workers`` cells at once).

    Raises:
        SettingsError: an unknown dataset or budget.
    """
    require("dataset", datasets, EXPERIMENTS)
    require("budget", [budget], BUDGETS)
    wanted = [s for name in datasets for s in settings_of_map(name, epochs_of_cell(name, budget), seeds)]
    return measured(ITEM, wanted, _measure, budget, workers, places or Places())


def epochs_of_cell(dataset: str, budget: str) -> int:
    """Epochs of each cell of the map."""
    if budget == "laptop":
        return LAPTOP_EPOCHS
    return BUDGETS[budget].training(experiment(dataset))["epochs"]


def _measure(job: Job) -> list[Row]:
    """The numbers of one cell: those of Table 2, the accuracy and the coupling."""
    run, spend = finished_run(job.settings, job.places), BUDGETS[job.budget]
    rows = spend.rows(experiment(job.settings.dataset))
    evaluation = evaluate(run, rows=rows, samples=spend.samples, seed=job.settings.seed)
    command = f"mvae reproduce lambda --datasets {job.settings.dataset} --seeds {job.settings.seed + 1}"
    found = rows_of(run, evaluation, job.budget, f"{command} --budget {job.budget}")
    return [replace(row, item=ITEM, paper=None) for row in found if row.item == "table2"]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The map as a picture: what each cell costs and whether its modalities met; a dot for each seed.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingDependencyError("pictures of tables need matplotlib: pip install 'mvae[plots]'") from None
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
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 0.35 * len(labels) + 1.2), sharey=True)
    for axis, (title, value) in zip(axes, panels.items(), strict=True):
        for (label, _), cell in cells.items():
            axis.plot(value(cell), labels.index(label), "o", color="tab:blue", alpha=0.7)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _label(row: dict[str, Any]) -> str:
    settings = row["settings"]
    what = {
        "mvae": row["recipe"],
        "mvae_joint_only": "joint term only",
        "mvae_singles_only": "single terms only",
        "mvae_ramped": "λ2 rising from 1",
        "mvae_bounded": "bounded experts",
        "mvae_penalised": "KL penalty",
    }
    share = settings["anneal_epochs"] / settings["epochs"]
    few = "" if settings["pairs"] is None else f", {settings['pairs']:.0%} pairs × {settings['repeat_pairs']}"
    return f"{what[row['model']]}, λ2 = {settings['weights']['label']:g}, annealed {share:.0%}{few}"
