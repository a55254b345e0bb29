"""Models of shipped declarations, freshly initialised."""

from typing import Any

from mvae.models.base import MultimodalVAE
from mvae.paper.cell import Cell
from mvae.runs.build import build


def built(
    dataset: str, recipe: str = "coupled", *, model: str = "mvae", seed: int = 0, **changes: Any
) -> MultimodalVAE:
    """Build a dataset's model as the reproduction does; ``changes`` are named as in result rows."""
    return build(Cell.of(dataset, recipe, seed, model, **changes).config)
