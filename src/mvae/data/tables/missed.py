"""Warnings that are given once per column, also if a table is read in parts: invalid cells, and a single class."""

import logging
from types import TracebackType

__all__ = ["Missed", "say_constant", "say_missed"]

log = logging.getLogger("mvae.data")


def say_missed(column: str, cells: int, first: str) -> None:
    """Warn that a number of cells of a column are treated as missing; ``first`` describes the first one."""
    number = "1 cell is" if cells == 1 else f"{cells:,} cells are"
    log.warning("column %r: %s treated as missing; %s", column, number, first)


def say_constant(column: str, kind: str, cell: object) -> None:
    """Warn that a column that was declared with classes has only one."""
    log.warning(
        "column %r is declared %s, and all its training cells are %r: a constant teaches nothing", column, kind, cell
    )


class Missed:
    """Count cells treated as missing; at the end of the ``with`` block, each column gives one warning with its first.

    >>> with Missed() as missed:
    ...     missed.add("sex", 1, "row 3: 'x' is a category that no training row has")
    ...     missed.add("sex", 2, "row 70: 'y' is a category that no training row has")
    >>> missed.found
    {'sex': (3, "row 3: 'x' is a category that no training row has")}

    Attributes:
        found: column → the number of its cells, and the description of the first.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}

    def add(self, column: str, cells: int, first: str) -> None:
        """Add a number of cells to a column; the description of the very first cell is kept."""
        before, said = self.found.get(column, (0, first))
        self.found[column] = (before + cells, said)

    def __enter__(self) -> "Missed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for column, (cells, first) in self.found.items():
            say_missed(column, cells, first)
