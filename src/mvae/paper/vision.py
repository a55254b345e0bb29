"""`mvae reproduce figure4 | figure11 … figure14`: image transformations and their inverses, and how good they are.

The paper shows pictures only. Beside them, each task is measured on test rows: what is predicted from the mean of
q(z | what is given), against the truth, and the same for two plain references: the mean of the training rows, and the
training row whose given modality is nearest in pixel space.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.evaluation.images import (
    cross_entropy,
    f1,
    has,
    levels,
    nearest_rows,
    psnr,
    require_skimage,
    ssim,
    training_mean,
)
from mvae.models.base import MultimodalVAE, evaluating
from mvae.paper.experiments import experiment
from mvae.paper.harness import BUDGETS, Places, finished_run, one_recipe, recorded, require
from mvae.paper.record import common
from mvae.paper.results import Row, add_rows
from mvae.paper.settings import Settings
from mvae.paper.vision_pictures import PICTURES
from mvae.runs.run import Run

__all__ = ["FIGURES", "ITEM", "REFERENCES", "TASKS", "Task", "predict", "reproduce"]

FIGURES = tuple(PICTURES)
ITEM = "vision"  # one file of results for all five figures
REFERENCES = ("training mean", "nearest neighbour")
SMOKE = {"epochs": 1, "rows": 100}  # of vision-faces: six images cost six times the work of one
LINES = ("edges", "mask")  # black and white: judged by F1, the others by PSNR and SSIM
CHUNK = 250  # rows predicted at once


@dataclass(frozen=True)
class Task:
    """A modality from others (``given``); of a completion only the half that is hidden is judged."""

    given: tuple[str, ...]
    of: str

    @property
    def name(self) -> str:
        """As in a metric's name."""
        given = "all" if len(self.given) > 1 else "".join(self.given)
        return f"{given}->{self.of}" + (" (hidden half)" if self.hidden_half else "")

    @property
    def hidden_half(self) -> bool:
        """Is a part of the answer given, and not to be judged?"""
        return self.given == ("obscured",) and self.of == "image"

    def judged(self, images: Tensor) -> Tensor:
        """The part of the images that is judged."""
        return images[..., images.shape[-1] // 2 :] if self.hidden_half else images


TRANSFORMED = ("gray", "edges", "mask", "obscured", "watermarked")
ALL = ("image", *TRANSFORMED)
TASKS = (
    *(Task(("image",), name) for name in TRANSFORMED),
    *(Task((name,), "image") for name in TRANSFORMED),
    *(Task(ALL, name) for name in ("image", "edges", "mask")),
)
OF_FIGURE = {  # which tasks a figure shows
    "figure4": TASKS[:10],
    "figure11": TASKS[10:],
    "figure12": (Task(("gray",), "image"),),
    "figure13": (Task(("obscured",), "image"),),
    "figure14": (Task(("watermarked",), "image"),),
}


def reproduce(
    item: str,
    *,
    recipes: Sequence[str] = ("coupled",),
    seeds: int = 1,
    budget: str = "laptop",
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """A figure as RESULTS/ITEM-RECIPE-BUDGET.png from test rows, and the recorded rows of its tasks.

    All figures come from the same run, and the numbers of all tasks go to RESULTS/vision.json. The smoke budget is of
    drawn faces.

    Raises:
        SettingsError: an unknown figure, recipe or budget, several recipes. MissingDependencyError: no scikit-image,
            said before anything is trained. DataError: the images are absent or damaged.
    """
    if item not in FIGURES:
        raise SettingsError(f"no figure {item!r} of transformations; there are {', '.join(FIGURES)}")
    require("budget", [budget], BUDGETS)
    recipe = one_recipe(item, recipes)
    require_skimage()
    places, found = places or Places(), []
    names = {task.name for task in OF_FIGURE[item]}
    for seed in range(seeds):
        settings = _settings(recipe, seed, budget)
        picture = places.results / f"{item}-{settings.recipe}-{budget}.png"
        measured = bool(recorded(places.results, [ITEM], settings, budget))
        if not measured or (seed == 0 and not picture.exists()):
            run = finished_run(settings, places)
            if seed == 0:
                PICTURES[item](run, picture)
            if not measured:
                command = f"mvae reproduce {item} --recipes {recipe} --seeds {seeds} --budget {budget}"
                add_rows(places.results / f"{ITEM}.json", measure(run, budget, command))
        found += recorded(places.results, [ITEM], settings, budget)
    return [row for row in found if row["settings"]["task"] in names]


def _settings(recipe: str, seed: int, budget: str) -> Settings:
    dataset = "vision-faces" if budget == "smoke" else "vision"
    changed: dict[str, Any] = SMOKE if budget == "smoke" else BUDGETS[budget].training(experiment(dataset))
    return Settings.of(dataset, recipe, seed, **changed)


def measure(run: Run, budget: str, command: str) -> list[Row]:
    """Every task's numbers over test rows: the model's and both references'."""
    limit = BUDGETS[budget].rows(experiment(run.settings.dataset))
    test = run.splits.test if limit is None else run.splits.test.first(limit)
    train = run.splits.train if run.settings.rows is None else run.splits.train.first(run.settings.rows)
    rows = []
    for task in TASKS:
        here = has(test, [*task.given, task.of]).nonzero().flatten()
        if not len(here):
            continue
        part = test.take(here)
        shared = common(run, budget, command, len(part), {"task": task.name, "by": "mean of q(z | given)"})
        truth = task.judged(levels(cast("Tensor", part.columns[task.of])))
        for who, predicted in _predictions(run, task, part, train):
            for measure_name, values in _judged(task.judged(predicted), truth, task.of):
                error = float(values.double().std() / len(values) ** 0.5) if len(values) > 1 else None
                rows.append(
                    Row(
                        item=ITEM,
                        metric=f"{task.name} {measure_name}" + (f", {who}" if who else ""),
                        value=round(float(values.double().mean()), 4),
                        stderr=None if error is None else round(error, 4),
                        paper=None,
                        **shared,
                    )
                )
    return rows


def _predictions(run: Run, task: Task, part: Table, train: Table) -> Iterator[tuple[str, Tensor]]:
    """What the model says, the training mean, and the nearest neighbour's; who says it comes first ("": the model)."""
    yield "", predict(run.model, part, task.given, task.of)
    mean = training_mean(train, task.of)
    yield REFERENCES[0], mean.expand(len(part), *mean.shape)
    if len(task.given) == 1:  # of all six one is the answer
        given = task.given[0]
        nearest = nearest_rows(levels(cast("Tensor", part.columns[given])), train, given, task.of)
        yield REFERENCES[1], levels(train.select_rows(task.of, nearest))


def _judged(found: Tensor, truth: Tensor, of: str) -> Iterator[tuple[str, Tensor]]:
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"NLL": cross_entropy}
    measures |= {"F1": f1} if of in LINES else {"PSNR": psnr, "SSIM": ssim}
    for name, measure_of in measures.items():
        yield name, measure_of(found, truth)


@torch.no_grad()
def predict(model: MultimodalVAE, table: Table, given: Sequence[str], of: str) -> Tensor:
    """E[x_of | z] at the mean z of q(z | given), ``rows channels height width`` on the CPU."""
    parts = []
    with evaluating(model):
        for first in range(0, len(table), CHUNK):
            batch = table.take(slice(first, first + CHUNK))
            z = model.posterior(batch, given).mean.to(model.dtype)
            parts.append(model.modalities[of].generate(z, mean=True).cpu())
    return torch.cat(parts)
