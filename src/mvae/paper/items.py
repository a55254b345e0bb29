"""How `mvae reproduce` makes, draws and shows each item of the paper."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mvae.paper import coupling, figure3, figure9, figure10, figures, tables, translation, vision, weak
from mvae.paper.show import show_comparison, show_levels
from mvae.paper.show_translation import show_examples
from mvae.paper.show_translation import show_levels as show_shares
from mvae.paper.show_vision import show_tasks

__all__ = ["MAKERS", "Maker"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Maker:
    """What makes an item's rows, some of them already recorded; what shows them, and draws them as a picture."""

    make: Callable[..., Rows]
    show: Callable[[Rows], None]
    draw: Callable[[Rows, Path], None] | None = None

    @property
    def takes(self) -> list[str]:
        """The names of its options."""
        return list(inspect.signature(self.make).parameters)


def _few_pairs(item: str) -> Maker:
    def show(rows: Rows) -> None:
        show_levels(f"{item}, budget {rows[0]['budget']}", weak.summaries(rows))

    def draw(rows: Rows, path: Path) -> None:
        figure3.draw(weak.summaries(rows), path)

    return Maker(partial(weak.reproduce, item), show, draw if item == "figure3" else None)


MAKERS = {
    "table1": Maker(tables.table1, partial(show_comparison, "table1")),
    **{item: Maker(partial(tables.reproduce, item), partial(show_comparison, item)) for item in tables.TABLES},
    "figure2": Maker(figures.figure2, partial(show_comparison, "figure2")),
    "table4": Maker(translation.table4, lambda rows: show_shares(translation.summary(rows))),
    **{item: Maker(partial(translation.examples, item), partial(show_examples, item)) for item in translation.EXAMPLES},
    **{item: Maker(partial(vision.reproduce, item), partial(show_tasks, item)) for item in vision.FIGURES},
    **{item: _few_pairs(item) for item in ("table8", "table9", "table10", "figure3")},
    "figure9": Maker(figure9.reproduce, partial(show_comparison, "figure9"), figure9.draw),
    "figure10": Maker(figure10.reproduce, partial(show_comparison, "figure10"), figure10.draw),
    "lambda": Maker(coupling.reproduce, partial(show_comparison, "lambda"), coupling.draw),
}
