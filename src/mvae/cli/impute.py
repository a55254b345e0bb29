"""`mvae impute`."""

from pathlib import Path

import click

from mvae.cli.asking import answered, asking

__all__ = ["impute"]


@click.command()
@asking(
    click.option("--draws", type=click.IntRange(1), help="So many draws instead, one below the other (.imp, .id)."),
    click.option("--neighbours", is_flag=True, help="Also learn from similar rows: better where rows are much alike."),
    click.option("--interval", type=float, help="Add bounds that hold this share, as 0.9, and classes' probabilities."),
)
def impute(
    run: Path,
    files: tuple[Path, ...],
    draws: int | None,
    neighbours: bool,
    interval: float | None,
    output: Path | None,
    samples: int,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Fill in the missing cells of a table: the mean of numbers, the most probable class, of ordered classes the
    median. Observed cells stay as they are.

    With --neighbours, numbers of a table of 1,000 rows or more move by what the model gets wrong of the most similar
    rows, as far as hidden cells show that this helps. Answers then depend on the other rows and take longer.

    With --draws the rows come in the long form of multiple imputation: .imp says which draw, .id which row.

    \b
    Example:  mvae impute runs/patients patients.csv -o filled.parquet --interval 0.9
              mvae impute runs/patients patients.csv -o draws.csv --draws 20
    """
    answered(
        run,
        files,
        output,
        lambda model, frames: model.impute_parts(
            frames, draws=draws or 0, interval=interval, neighbours=neighbours, samples=samples, seed=seed
        ),
        doing="filling in",
        device=device,
        as_json=as_json,
        whole=True,
    )
