"""`mvae report`."""

from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, PATH, RUN, SCORING, SEED, common, print_json

__all__ = ["report"]


@click.command()
@RUN
@click.option("-o", "--output", type=PATH, help="The HTML file.  [default: RUN/report.html]")
@common(*SCORING, DATA_DIR, SEED, DEVICE, JSON)
def report(run: Path, output: Path | None, rows: int, samples: int, seed: int, as_json: bool, **where: Any) -> None:
    """Write everything about a run to one HTML file, which opens without a network.

    \b
    Example:  mvae report runs/digits -o digits.html
    """
    from mvae.runs.report import Scoring
    from mvae.runs.report import report as write
    from mvae.training.progress import shown

    with shown("scoring test rows") as progress:
        path = write(run, output, scoring=Scoring(rows, samples, seed), progress=progress, **where)
    if as_json:
        print_json({"run": str(run), "report": str(path)})
    else:
        click.echo(f"report: {path}")
