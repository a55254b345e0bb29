"""Figures 4 and 11 to 14: image transformations and their inverses (Sec. 6), and how good they are.

The paper shows pictures only. Here each task is also measured on test rows: predictions from the mean of q(z | given)
are compared with the true values, and so are two simple references: the mean of the training rows, and the training row
whose given modality is nearest in pixel space. All figures come from the same run, and the numbers of all tasks go to
RESULTS/vision.json.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.evaluation.images import (
    cross_entropy,
    f1,
    levels,
    nearest_rows,
    psnr,
    require_skimage,
    ssim,
    training_mean,
)
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.paper.cell import Cell
from mvae.paper.datasets.vision import MODALITIES
from mvae.paper.harness import finished_run
from mvae.paper.item import BUDGETS, Budget, Item, Job, cells_of_recipes
from mvae.paper.record import shared_fields
from mvae.paper.results import Row, RowDict, new_row, standard_error
from mvae.paper.show import show_tasks
from mvae.paper.vision_pictures import PICTURES
from mvae.runs.run import Run

REFERENCES = ("training mean", "nearest neighbour")
LINES = ("edges", "mask")  # black and white
LINE_MEASURES = {"NLL": cross_entropy, "F1": f1}
COLOUR_MEASURES = {"NLL": cross_entropy, "PSNR": psnr, "SSIM": ssim}
AT_A_TIME = 250  # rows predicted at once


@dataclass(frozen=True)
class Task:
    """The prediction of a modality from others (``given``); in a completion, only the hidden half is scored."""

    given: tuple[str, ...]
    of: str

    @property
    def name(self) -> str:
        """The task's name in metrics."""
        given = "all" if len(self.given) > 1 else "".join(self.given)
        return f"{given}->{self.of}" + (" (hidden half)" if self.hidden_half else "")

    @property
    def hidden_half(self) -> bool:
        """Whether part of the answer is given, and so is not scored."""
        return self.given == ("obscured",) and self.of == "image"

    def scored(self, images: Tensor) -> Tensor:
        """The part of the images that is compared."""
        return images[..., images.shape[-1] // 2 :] if self.hidden_half else images


BRIGHTEST = 255  # all six images are bytes
TASKS = (
    *(Task(("image",), name) for name in MODALITIES[1:]),
    *(Task((name,), "image") for name in MODALITIES[1:]),
    *(Task(MODALITIES, name) for name in ("image", "edges", "mask")),
)


def _measure(job: Job) -> list[Row]:
    """Every task's numbers over test rows: the model's and both references'."""
    run, limit, rows = finished_run(job.cell, job.paths), job.spend.rows(job.cell.dataset), job.cell["rows"]
    test = run.data.test if limit is None else run.data.test.first(limit)
    train = run.data.train if rows is None else run.data.train.first(rows)
    return [row for task in TASKS for row in _task_rows(job, run, task, test, train)]


def _task_rows(job: Job, run: Run, task: Task, test: Table, train: Table) -> Iterator[Row]:
    here = torch.stack([test.has(name) for name in (*task.given, task.of)]).all(0).nonzero().flatten()
    if not len(here):
        return
    part = test.take(here)
    shared = shared_fields(run, job.origin(), len(part), task=task.name, by="mean of q(z | given)")
    truth = task.scored(levels(cast("Tensor", part.columns[task.of]), BRIGHTEST))
    for who, predicted in _predictions(run, task, part, train):
        for measure, measured in (LINE_MEASURES if task.of in LINES else COLOUR_MEASURES).items():
            values = measured(task.scored(predicted), truth).double()
            metric = f"{task.name} {measure}" + (f", {who}" if who else "")
            yield new_row("vision", metric, float(values.mean()), standard_error(values), shared)


def _predictions(run: Run, task: Task, part: Table, train: Table) -> Iterator[tuple[str, Tensor]]:
    """The predictions of the model, training mean and nearest neighbour, each after its name ("": the model)."""
    yield "", predicted_images(run.model, part, task.given, task.of)
    mean = training_mean(train, task.of, BRIGHTEST)
    yield REFERENCES[0], mean.expand(len(part), *mean.shape)
    if len(task.given) == 1:  # of all six, one is the answer itself
        given = task.given[0]
        nearest = nearest_rows(levels(cast("Tensor", part.columns[given]), BRIGHTEST), train, given, task.of, BRIGHTEST)
        yield REFERENCES[1], levels(train.select_rows(task.of, nearest), BRIGHTEST)


@torch.no_grad()
def predicted_images(model: MultimodalVAE, table: Table, given: Sequence[str], of: str) -> Tensor:
    """E[x_of | z] at the mean z of q(z | given), ``rows channels height width`` on the CPU, levels in [0, 1]."""
    parts = []
    with evaluating(model):
        for first in range(0, len(table), AT_A_TIME):
            batch = table.take(slice(first, first + AT_A_TIME))
            z = model.posterior(batch, given).mean.to(model.dtype)
            modality = model.modalities[of]
            parts.append(levels(modality.generate(z, mean=True).cpu(), modality.likelihood.levels))
    return torch.cat(parts)


def _file(cell: Cell) -> str:
    return "vision"  # one file of results for all five figures


def _is_of(names: frozenset[str], row: RowDict) -> bool:
    return row["settings"]["task"] in names


def _figure(name: str, summary: str, tasks: Sequence[Task]) -> Item:
    smoke = Budget("", {"epochs": 1, "rows": 100}, BUDGETS["smoke"].test_rows, datasets=("vision-faces",))
    budgets = {budget: replace(spend, datasets=("vision",)) for budget, spend in BUDGETS.items()}
    return Item(
        name,
        summary,
        ("recipes", "seeds", "budget"),
        show_tasks,
        needs="CelebA in --data-dir, and mvae[vision] (smoke: drawn faces)",
        defaults={"recipes": ("coupled",)},
        one_recipe=True,
        budgets=budgets | {"smoke": smoke},  # of drawn faces: six images cost six times the work of one
        require=require_skimage,
        cells=cells_of_recipes,
        measure=_measure,
        file=_file,
        keep=partial(_is_of, frozenset(task.name for task in tasks)),
        picture=PICTURES[name],
    )


TRANSFORMATIONS = (
    _figure(
        "figure4",
        "vision: transformations of an image and back, with PSNR, SSIM and F1 compared with plain references",
        TASKS[:10],
    ),
    _figure("figure11", "vision: reconstruction, edges and mask, given all six", TASKS[10:]),
    _figure("figure12", "vision: colour from grey", (Task(("gray",), "image"),)),
    _figure("figure13", "vision: the hidden half of a face", (Task(("obscured",), "image"),)),
    _figure("figure14", "vision: the image without its watermark", (Task(("watermarked",), "image"),)),
)
