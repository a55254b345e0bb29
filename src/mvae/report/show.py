"""Tables in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["show_comparison"]


def show_comparison(item: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Ours beside the published value, with their difference; what a reader must know is in the last column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=item, title_justify="left")
    for heading in ("dataset", "model", "metric", "ours", "± s.e.", "paper", "diff", "notes"):
        numeric = heading in ("ours", "± s.e.", "paper", "diff")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        value, paper, error = row["value"], row["paper"], row.get("stderr")
        count = isinstance(value, int)
        table.add_row(
            row["dataset"],
            row["model"],
            row.get("metric", "parameters"),
            f"{value:,}" if count else f"{value:.3f}",
            "" if error is None else f"{error:.3f}",
            "–" if paper is None else (f"{paper:,}" if count else f"{paper:.3f}"),
            "–" if paper is None else (f"{value - paper:+,}" if count else f"{value - paper:+.3f}"),
            notes(row),
        )
    Console(highlight=False).print(table)


def notes(row: Mapping[str, Any]) -> str:
    """Recipe, budget, seed, number of rows, and *unconverged* where it applies."""
    if "budget" not in row:
        return ""
    parts = [row["recipe"]] if row["model"] == "mvae" else []
    parts += [row["budget"], f"seed {row['seed']}", f"{row['n']:,} rows"]
    if row["settings"].get("unconverged"):
        parts.append("unconverged")
    return ", ".join(parts)
