"""`mvae score`."""

from pathlib import Path

import click

from mvae.cli.asking import answered, asking

__all__ = ["score"]


@click.command()
@asking(samples=100)
def score(
    run: Path,
    files: tuple[Path, ...],
    output: Path | None,
    samples: int,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """How probable each row is (log p, nats), and each part of it given the rest: outliers, and what is odd in them.

    Compare only rows with the same columns. A value is odd where its log p is far below its column's median over the
    rows: columns differ in level, dates being lower than classes.

    \b
    Example:  mvae score runs/patients patients.csv -o scores.csv
    """
    answered(
        run,
        files,
        output,
        lambda model, frames: model.score_parts(frames, samples=samples, seed=seed),
        doing="scoring",
        device=device,
        as_json=as_json,
    )
