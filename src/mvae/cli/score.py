"""`mvae score`."""

from typing import Any

import click

from mvae.cli.asking import answered, asking

__all__ = ["score"]


@click.command()
@asking(samples=100)
def score(samples: int, seed: int, **where: Any) -> None:
    """Score how probable each row is (log p, nats), and each part given the rest: outliers, and their unusual parts.

    The parts are the columns or, if there are several modalities, the modalities. Compare only rows with the same
    observed columns. A part is unusual if its log p is far below its median over the rows. Parts differ in level: dates
    have lower values than classes.

    On one core, 1,000 rows of 500 numbers take about 20 seconds; fewer --samples take less.

    \b
    Example:  mvae score runs/patients patients.csv -o scores.csv
    """
    answered(lambda model, frames: model.score_parts(frames, samples=samples, seed=seed), "scoring", **where)
