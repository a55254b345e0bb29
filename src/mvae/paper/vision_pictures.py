"""The pictures of Sec. 6 and App. J from test rows: the first ones that have a mask, not chosen ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.evaluation.images import levels
from mvae.evaluation.rows import rows_with
from mvae.paper.datasets.vision import MODALITIES
from mvae.report.grid import colour, save_named_rows
from mvae.runs.run import Run

_Named = dict[str, Tensor]


def _rows(run: Run, n: int) -> Table:
    return run.data.test.take(rows_with(run.data.test, MODALITIES)[:n])


def _true(table: Table, name: str) -> Tensor:
    return levels(cast("Tensor", table.columns[name]), 255)


@torch.no_grad()
def _drawn(run: Run, table: Table, given: tuple[str, ...], of: str) -> Tensor:
    """The mean of x given z ~ q(z | given), as Fig. 4 is drawn; the same noise each time."""
    generator = torch.Generator(run.model.device).manual_seed(0)
    drawn = run.model.generate(table.select(given), (of,), mean=True, generator=generator)[of][0].cpu()
    return levels(drawn, run.model.modalities[of].likelihood.levels)


def _extraction(run: Run, table: Table, given: tuple[str, ...]) -> _Named:
    """Fig. 4a, 11: the image, its reconstruction, edges and mask."""
    made = {f"{name}, by the model": _drawn(run, table, given, name) for name in ("image", "edges", "mask")}
    truth = {f"{name}, true": _true(table, name) for name in ("edges", "mask")}
    return {"image, true": _true(table, "image"), **made, **truth}


def _restoration(run: Run, table: Table, given: str, doing: str) -> _Named:
    """Fig. 4b-d, 12-14: the given modality, the image made from it, and the true one; known halves stay as they are."""
    image, known = _drawn(run, table, (given,), "image"), _true(table, given)
    if given == "obscured":
        half = image.shape[-1] // 2
        image = torch.cat([known[..., :half], image[..., half:]], dim=-1)
    return {given: known, doing: image, "image, true": _true(table, "image")}


COLOURED, COMPLETED, CLEANED = "coloured by the model", "completed by the model", "mark removed by the model"


def _figure4(run: Run, path: Path) -> None:
    table = _rows(run, 4)
    parts = [
        _extraction(run, table, ("image",)),
        _restoration(run, table, "gray", COLOURED),
        _restoration(run, table, "obscured", COMPLETED),
        _restoration(run, table, "watermarked", CLEANED),
    ]
    named = {
        f"{letter}: {name}": colour(x) for letter, part in zip("abcd", parts, strict=True) for name, x in part.items()
    }
    save_named_rows(named, path)


def _figure11(run: Run, path: Path) -> None:
    save_named_rows(_extraction(run, _rows(run, 8), MODALITIES), path)


def _restored(run: Run, path: Path, given: str, doing: str) -> None:
    save_named_rows(_restoration(run, _rows(run, 8), given, doing), path)


PICTURES: dict[str, Callable[[Run, Path], None]] = {
    "figure4": _figure4,
    "figure11": _figure11,
    "figure12": partial(_restored, given="gray", doing=COLOURED),
    "figure13": partial(_restored, given="obscured", doing=COMPLETED),
    "figure14": partial(_restored, given="watermarked", doing=CLEANED),
}
