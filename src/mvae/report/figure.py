"""Writes a figure of matplotlib as a PNG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvae.errors import require_extra
from mvae.files import write_whole

__all__ = ["plain", "require_figures", "saved_figure"]


def plain(name: str) -> str:
    """A user's name escaped for matplotlib, which would read text between dollar signs as mathematics.

    >>> plain("cost $a_$")
    'cost \\\\$a_\\\\$'
    """
    return name.replace("$", r"\$")


def require_figures() -> Any:
    """Import matplotlib's figures; called before long work that ends in a figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return require_extra("matplotlib.figure", "plots", "figures")


@contextmanager
def saved_figure(path: Path, **options: Any) -> Iterator[Any]:
    """A figure to draw in; it is written to ``path`` when the block ends.

    Args:
        path: the PNG; its folder is created if it is missing.
        options: options of ``matplotlib.figure.Figure``; without a layout the panels are packed tightly.

    Raises:
        MissingDependencyError: matplotlib is not installed. RunError: the file cannot be written.
    """
    figure = require_figures().Figure(**options)
    yield figure
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))
