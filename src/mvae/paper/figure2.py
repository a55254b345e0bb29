"""`mvae reproduce figure2`: samples of the prior and given a condition, and their conditional coherence."""

from pathlib import Path

import torch

from mvae.errors import QueryError
from mvae.evaluation.coherence import classifier_for, conditional_coherence
from mvae.paper.harness import finished_run
from mvae.paper.item import Item, Job, all_datasets, cells_of_recipes
from mvae.paper.record import Origin, shared_fields
from mvae.paper.results import Row, new_row
from mvae.paper.show import show_comparison
from mvae.report.grid import save_grid
from mvae.runs.run import Run
from mvae.runs.sample import draw, parse_given

SHOWN = 64  # of the prior, and as many given the condition
CONDITIONS = 1000  # test rows whose conditions images are generated from


def _picture(run: Run, path: Path) -> None:
    """Draw 64 samples of the prior on the left, 64 given the condition of Fig. 2 on the right."""
    image = run.model.names[0]
    generator = torch.Generator(run.model.device).manual_seed(0)
    given = parse_given(run, tuple(run.config.evaluation.show[:1]))
    halves = [draw(run, row, (image,), SHOWN, generator)[image][:, 0] for row in (None, given)]
    side = round(SHOWN**0.5)
    blank = torch.ones_like(halves[0][:side])  # a column between the halves
    rows = [half.reshape(side, side, *half.shape[1:]) for half in halves]
    both = torch.cat([rows[0], blank[:, None], rows[1]], dim=1)
    save_grid(both.flatten(0, 1), path, columns=2 * side + 1)


def coherence_rows(run: Run, origin: Origin, folder: Path) -> list[Row]:
    """Conditional coherence: how often a classifier recognises the second modality in images generated from it.

    The classifier's accuracy on real test images is recorded, too. Classifiers are saved in the folder.

    Raises:
        QueryError: the model has no second modality, or its first is not an image.
    """
    names, data = run.model.names, run.data
    if len(names) < 2 or len(data.test.columns[names[0]].shape) != 4:
        raise QueryError("conditional coherence is of images, generated from another modality; this run has none")
    image, target = names[:2]
    likelihood = run.model.modalities[target].likelihood
    path = folder / f"classifier-{origin.cell.dataset}-{target}.safetensors"
    classifier, accuracy = classifier_for(data, image, target, likelihood, path)
    conditions = data.test.first(CONDITIONS).select([target])
    value = conditional_coherence(run.model, classifier, conditions, given=target, of=image, seed=origin.cell.seed)
    rows = []
    for metric, share, n in (
        ("agreement x2->x1", value, len(conditions)),
        ("classifier accuracy on test rows", accuracy, len(data.test)),
    ):
        error = (share * (1 - share) / n) ** 0.5
        rows.append(new_row("figure2", metric, share, error, shared_fields(run, origin, n)))
    return rows


def _measure(job: Job) -> list[Row]:
    return coherence_rows(finished_run(job.cell, job.paths), job.origin(), job.paths.runs)


FIGURE2 = Item(
    "figure2",
    "64 samples of the prior, 64 given a condition, and their conditional coherence by a classifier",
    ("datasets", "recipes", "seeds", "budget"),
    show_comparison,
    needs="MNIST (downloaded where --data-dir has none)",
    defaults={"datasets": ("mnist",)},
    choices={"datasets": all_datasets()},
    whole=("mnist", "fashion-mnist", "multimnist", "celeba"),
    cells=cells_of_recipes,
    measure=_measure,
    picture=_picture,
)
