"""Image transformations in a terminal: each task beside its plain references."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["show_tasks"]


def show_tasks(item: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each task, measure and seed: the model, the training mean, the nearest neighbour."""
    from rich.console import Console
    from rich.table import Table

    lines: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        measure, _, who = row["metric"].partition(", ")
        lines.setdefault((measure, row["seed"]), {})[who] = row
    first = rows[0]
    said = f"{item}, {first['dataset']}, {first['recipe']}, budget {first['budget']}"
    table = Table(title=f"{said} (lower NLL is better, of all others higher)", title_justify="left")
    for heading in ("task, measure", "seed", "rows", "model", "± s.e.", "training mean", "nearest neighbour"):
        table.add_column(heading, justify="left" if heading == "task, measure" else "right")
    for (measure, seed), found in lines.items():
        numbers = [
            f"{found[who]['value']:.3f}" if who in found else "–" for who in ("training mean", "nearest neighbour")
        ]
        ours = found[""]
        error = "" if ours["stderr"] is None else f"{ours['stderr']:.3f}"
        table.add_row(measure, str(seed), str(ours["n"]), f"{ours['value']:.3f}", error, *numbers)
    Console(highlight=False).print(table)
