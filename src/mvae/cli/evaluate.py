"""`mvae evaluate`."""

from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, FITTED_PRIOR, JSON, RUN, SEED, common, plain, print_json

__all__ = ["evaluate"]

SAMPLES = click.IntRange(2, 10**9)


@click.command()
@RUN
@click.option(
    "--rows",
    type=click.IntRange(1),
    help="Number of test rows to score, the first ones; of a table, also to hide cells in, random ones.  "
    "[default: the declaration's; at most 5,000 to hide cells in]",
)
@click.option("--samples", type=SAMPLES, help="Importance samples per row.  [default: the declaration's]")
@click.option(
    "--proposal",
    multiple=True,
    help="Modality given in the proposal q(z | ·). Repeatable.  [default: the first for log p(x1), else the richest]",
)
@common(FITTED_PRIOR, DATA_DIR, SEED, DEVICE, JSON)
def evaluate(
    run: Path,
    rows: int | None,
    samples: int | None,
    proposal: tuple[str, ...],
    fitted_prior: bool,
    seed: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Estimate log-likelihoods of the test rows, with diagnostics; for a table, also the errors on hidden cells.

    \b
    Example:  mvae evaluate runs/mnist --rows 1000
    """
    from mvae.cli.show import show_cells, show_evaluation
    from mvae.runs.evaluation import evaluate as evaluated
    from mvae.runs.held_out import held_out
    from mvae.runs.prior import use_fitted_prior
    from mvae.runs.run import open_run
    from mvae.training.progress import shown

    opened = open_run(run, **where)
    if fitted_prior:
        use_fitted_prior(opened)
    with shown("scoring test rows") as progress:
        evaluation = evaluated(
            opened, rows=rows, samples=samples, proposal=proposal or None, seed=seed, progress=progress
        )
    with shown("filling in hidden cells") as progress:
        cells = [] if opened.data.layout is None else held_out(opened, rows=rows, seed=seed, progress=progress)
    if as_json:
        made = {"cells": [vars(cell) for cell in cells]} if cells else {}
        print_json({"run": str(run), **plain(evaluation), **made})
    else:
        show_evaluation(opened, evaluation)
        show_cells(cells)
