"""`mvae compare`."""

from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, PATH, SCORING, SEED, common, print_json

__all__ = ["compare"]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, help="Also write the comparison to this HTML file.")
@common(*SCORING, DATA_DIR, SEED, DEVICE, JSON)
def compare(
    runs: tuple[Path, ...], output: Path | None, rows: int, samples: int, seed: int, as_json: bool, **where: Any
) -> None:
    """Compare several runs in one table and, with --output, on one HTML page.

    \b
    Example:  mvae compare runs/digits runs/digits-jmvae -o compared.html
    """
    from mvae.report.page import require_pages
    from mvae.runs import comparison
    from mvae.runs.report import Scoring
    from mvae.training.progress import shown

    if output is not None:
        require_pages()
    with shown("scoring test rows") as progress:
        found = comparison.compare(runs, scoring=Scoring(rows, samples, seed), progress=progress, **where)
    if output is not None:
        comparison.comparison_page(found, output)
    grids = [comparison.numbers(found), comparison.differing(found)]
    if as_json:
        tables = [[dict(zip(["", *map(str, runs)], row, strict=True)) for row in grid.rows] for grid in grids]
        print_json({"measured": tables[0], "settings": tables[1], "page": output and str(output)})
        return
    for grid in grids:
        _print(grid)
    for run in found:
        if run.problem:
            click.echo(f"{run.name}: {run.problem}", err=True)
    if output is not None:
        click.echo(f"page: {output}")


def _print(grid: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mvae.report.page import written

    table = Table()
    for name in grid.header:
        table.add_column(escape(name), overflow="fold")
    for row in grid.rows:
        table.add_row(*(escape(written(value)) for value in row))
    Console(highlight=False).print(table)
