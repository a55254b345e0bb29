"""Translation's tables in a terminal: numbers by share of aligned pairs, and sentences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvae.paper.translation import Level

__all__ = ["show_examples", "show_levels"]


def show_levels(found: "Sequence[Level]") -> None:
    """Every number by share of pairs, mean ± standard error over runs, beside the published ones."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="table4 (the paper's: IWSLT'15, 133,000 pairs; compare the shape)", title_justify="left")
    for heading in ("pairs", "metric", "ours", "± s.e.", "runs", "paper"):
        table.add_column(heading, justify="left" if heading == "metric" else "right", no_wrap=True)
    for before, one in zip([None, *found], found, strict=False):
        if before is not None and before.pairs != one.pairs:
            table.add_section()
        table.add_row(
            f"{one.pairs:.1%}",
            one.metric,
            f"{one.value:.3f}",
            "" if one.stderr is None else f"{one.stderr:.3f}",
            str(one.runs),
            "–" if one.paper is None else f"{one.paper:.2f}",
        )
    Console(highlight=False).print(table)


def show_examples(item: str, found: Sequence[Mapping[str, str]]) -> None:
    """Sentences with how each came to be."""
    from rich.console import Console
    from rich.table import Table

    table = Table("type", "sentence", title=item, title_justify="left")
    first = found[0]["type"] if found else None
    for number, row in enumerate(found):
        if number and row["type"] == first:
            table.add_section()
        table.add_row(row["type"], row["sentence"])
    Console(highlight=False, markup=False).print(table)
