"""`mvae impute`."""

from typing import Any

import click

from mvae.cli.asking import answered, asking

__all__ = ["impute"]


@click.command()
@asking(
    click.option(
        "--draws",
        type=click.IntRange(1),
        help="Write this number of filled tables instead, one below the other (.imp, .id).",
    ),
    click.option(
        "--neighbours/--no-neighbours",
        default=None,
        help="Correct numbers by similar and equal rows, or not.  [default: in tables of 1,000 to 20,000 rows]",
    ),
    click.option(
        "--interval", type=float, help="Add intervals of this coverage, such as 0.9, and class probabilities."
    ),
)
def impute(
    draws: int | None, neighbours: bool | None, interval: float | None, samples: int, seed: int, **where: Any
) -> None:
    """Fill in the missing cells of a table: numbers by their mean, classes by the most probable one, ordered classes by
    their median. Observed cells stay as they are.

    In tables of 1,000 to 20,000 rows, or with --neighbours, numbers are corrected by the model's errors on the most
    similar rows and by the numbers of equal rows, as far as this helps on hidden numbers. Answers then depend on other
    rows and take longer; use --no-neighbours for a quick look.

    With --draws, the output is in the long format of multiple imputation: .imp numbers the filled table, .id the row.

    \b
    Example:  mvae impute runs/patients patients.csv -o filled.parquet --interval 0.9
              mvae impute runs/patients patients.csv -o draws.csv --draws 20
    """
    answered(
        lambda model, frames: model.impute_parts(
            frames, draws=draws or 0, interval=interval, neighbours=neighbours, samples=samples, seed=seed
        ),
        "filling in",
        **where,
        whole=True,
    )
