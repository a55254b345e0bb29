"""Image transformations in a terminal: each task beside its plain references."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["show_tasks"]


def show_tasks(item: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each task and measure (and seed): the model, the training mean, the nearest training neighbour."""
    from rich.console import Console
    from rich.table import Table

    lines: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        measure, _, who = row["metric"].partition(", ")
        lines.setdefault((measure, row["seed"]), {})[who] = row
    first = rows[0]
    said = f"{item}, {first['dataset']}, {first['recipe']}, budget {first['budget']}"
    table = Table(title=f"{said} (lower NLL is better, of all others higher)", title_justify="left")
    for heading in ("task, measure", "rows", "ours", "± s.e.", "mean", "nearest"):
        numeric = heading != "task, measure"
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    several = len({row["seed"] for row in rows}) > 1
    for (measure, seed), found in lines.items():
        plain = [found.get(who) for who in ("training mean", "nearest neighbour")]
        digits = 1 if "NLL" in measure else 3
        numbers = ["–" if row is None else f"{row['value']:.{digits}f}" for row in plain]
        ours = found[""]
        error = "" if ours["stderr"] is None else f"{ours['stderr']:.{digits}f}"
        name = f"{measure}, seed {seed}" if several else measure
        table.add_row(name, str(ours["n"]), f"{ours['value']:.{digits}f}", error, *numbers)
    Console(highlight=False).print(table)
