"""Items of the paper as tables in a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mvae.paper.results import RowDict


def show_values(
    title: str, headings: Sequence[str], lines: Iterable[Sequence[str]], left: Sequence[str], wide: Sequence[str] = ()
) -> None:
    """Print a table; its columns are right-aligned and never folded, except for those in ``left``.

    An empty line divides the table. Columns in ``wide`` are left-aligned and not folded.
    """
    table = Table(title=title, title_justify="left")
    for heading in headings:
        aligned = "left" if heading in (*left, *wide) else "right"
        table.add_column(heading, justify=aligned, no_wrap=heading not in left)
    for line in lines:
        table.add_row(*line) if line else table.add_section()
    Console(highlight=False).print(table)


def signed(value: float | None, form: str, absent: str = "–") -> str:
    """A number in a format, or ``absent`` for None.

    >>> signed(0.25, "+.1f"), signed(None, ".3f")
    ('+0.2', '–')
    """
    return absent if value is None else format(value, form)


def show_comparison(item: str, rows: Sequence[RowDict]) -> None:
    """Print our values, the published ones and their differences; the title states what all rows have in common."""
    notes = [_notes(row) for row in rows]
    shared = [note for note in notes[0] if all(note in other for other in notes)] if notes else []
    lines = []
    for row, own in zip(rows, notes, strict=True):
        value, paper, error = row["value"], row["paper"], row.get("stderr")
        count = isinstance(value, int)
        lines.append((
            ", ".join([row["model"], *(note for note in own if note not in shared)]),
            row.get("metric", "parameters"),
            _number(value, count),
            signed(error, ".3f", ""),
            "–" if paper is None else _number(paper, count),
            "–" if paper is None else _number(value - paper, count, "+"),
        ))  # fmt: skip
    headings = ("model", "metric", "ours", "± s.e.", "paper", "diff")
    show_values(", ".join([item, *shared]), headings, lines, left=("model", "metric"))
    for row in rows:
        if "note" in row:
            Console(highlight=False).print(f"{row['model']}: {row['note']}")


def _number(value: int | float, count: bool, sign: str = "") -> str:
    if not count:
        return f"{value:{sign}.3f}"
    return f"{value:{sign},}" if abs(value) < 1e10 else f"{value:{sign}.5g}"


def _notes(row: RowDict) -> list[str]:
    """Dataset, recipe, λ and annealing, budget, seed, rows; what a figure varies; *unconverged* if it applies."""
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


def show_sentences(item: str, found: Sequence[RowDict]) -> None:
    """Print sentences, each with how it was made."""
    table = Table("type", "sentence", title=item, title_justify="left")
    first = found[0]["type"] if found else None
    for number, row in enumerate(found):
        if number and row["type"] == first:
            table.add_section()
        table.add_row(row["type"], row["sentence"])
    Console(highlight=False, markup=False).print(table)


def show_tasks(item: str, rows: Sequence[RowDict]) -> None:
    """Print a line per task and measure (and seed): the model, the training mean, the nearest training neighbour."""
    found: dict[tuple[str, int], dict[str, RowDict]] = {}
    for row in rows:
        measure, _, who = row["metric"].partition(", ")
        found.setdefault((measure, row["seed"]), {})[who] = row
    several = len({row["seed"] for row in rows}) > 1
    lines = []
    for (measure, seed), by in found.items():
        ours, form = by[""], ".1f" if "NLL" in measure else ".3f"
        name = f"{measure}, seed {seed}" if several else measure
        plain = [by.get(who, {}).get("value") for who in ("training mean", "nearest neighbour")]
        numbers = [signed(ours["value"], form), signed(ours["stderr"], form, ""), *(signed(v, form) for v in plain)]
        lines.append((name, str(ours["n"]), *numbers))
    first = rows[0]
    said = f"{item}, {first['dataset']}, {first['recipe']}, budget {first['budget']}"
    headings = ("task, measure", "rows", "ours", "± s.e.", "mean", "nearest")
    show_values(f"{said} (NLL: lower is better; all others: higher)", headings, lines, left=headings[:1])
