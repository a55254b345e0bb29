"""Items of the paper as tables in a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mvae.paper.weak import Summary

__all__ = ["show_comparison", "show_levels"]


def show_comparison(item: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Ours beside the published value, with their difference; what all rows have in common stands in the title."""
    notes = [_notes(row) for row in rows]
    shared = [note for note in notes[0] if all(note in other for other in notes)] if notes else []
    table = Table(title=", ".join([item, *shared]), title_justify="left")
    for heading in ("model", "metric", "ours", "± s.e.", "paper", "diff"):
        numeric = heading not in ("model", "metric")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    for row, own in zip(rows, notes, strict=True):
        value, paper, error = row["value"], row["paper"], row.get("stderr")
        count = isinstance(value, int)
        table.add_row(
            ", ".join([row["model"], *(note for note in own if note not in shared)]),
            row.get("metric", "parameters"),
            _number(value, count),
            "" if error is None else f"{error:.3f}",
            "–" if paper is None else _number(paper, count),
            "–" if paper is None else _number(value - paper, count, "+"),
        )
    console = Console(highlight=False)
    console.print(table)
    for row in rows:
        if "note" in row:
            console.print(f"{row['model']}: {row['note']}")


def _number(value: float, count: bool, sign: str = "") -> str:
    if not count:
        return f"{value:{sign}.3f}"
    return f"{value:{sign},}" if abs(value) < 1e10 else f"{value:{sign}.5g}"


def show_levels(title: str, found: "Sequence[Summary]") -> None:
    """Accuracies by model and share of pairs, ours (mean ± standard error over seeds) beside the published ones."""
    datasets = {one.dataset for one in found}
    table = Table(title=", ".join([title, *(datasets if len(datasets) == 1 else ())]), title_justify="left")
    for heading in ("accuracy of x2", "pairs", "ours", "± s.e.", "seeds", "paper", "diff"):
        numeric = heading != "accuracy of x2"
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    before = ""
    for one in found:
        name = one.name if len(datasets) == 1 else f"{one.dataset}, {one.name}"
        given, _, predicted = one.metric.removeprefix("accuracy ").partition("->")
        notes = [f"given {given}"] * (given != "x1") + predicted.split()[1:]
        if notes:  # what the paper's tables do not have
            name += f" ({', '.join(notes)})"
        if before not in ("", name):
            table.add_section()
        before = name
        table.add_row(
            name,
            f"{one.level:.1%}",
            f"{one.value:.4f}",
            "" if one.stderr is None else f"{one.stderr:.4f}",
            str(one.seeds),
            "–" if one.paper is None else f"{one.paper:.4f}",
            "–" if one.paper is None else f"{one.value - one.paper:+.4f}",
        )
    Console(highlight=False).print(table)


def _notes(row: Mapping[str, Any]) -> list[str]:
    """Dataset, recipe, λ and annealing, budget, seed, rows; what a figure varies; *unconverged* where it applies."""
    if "budget" not in row:
        return [row["dataset"]]
    settings = row["settings"]
    weights = [f"λ {name} {value:g}" for name, value in settings["weights"].items()]
    annealed = f"annealed {settings['anneal_epochs']} of {settings['epochs']}"
    parts = [row["dataset"], row["recipe"], *weights, annealed]
    parts += [f"budget {row['budget']}", f"seed {row['seed']}", f"{row['n']:,} rows"]
    if settings.get("kept") is not None:
        parts.append(f"p = {settings['kept']:g}")
    if settings.get("random_subsets") is not None:
        parts.append(f"k = {settings['random_subsets']}{', one ε' if settings['shared_noise'] else ''}")
    return [*parts, "unconverged"] if settings.get("unconverged") else parts
