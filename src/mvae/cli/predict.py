"""`mvae predict`."""

from typing import Any

import click

from mvae.cli.asking import answered, asking
from mvae.cli.options import one_column

__all__ = ["predict"]


@click.command()
@asking(
    click.option(
        "--of",
        required=True,
        multiple=True,
        callback=one_column("ask once for each"),
        help="The column to predict; its values in the table are not used.",
    ),
    click.option(
        "--interval", type=float, default=0.9, show_default=True, help="Coverage of the interval between the bounds."
    ),
)
def predict(of: str, interval: float, samples: int, seed: int, **where: Any) -> None:
    """Predict a column from the other observed values of each row: a number with bounds, or the class probabilities.

    \b
    Example:  mvae predict runs/patients new.csv --of diagnosis -o predicted.csv
    """
    answered(
        lambda model, frames: model.predict_parts(frames, of, interval=interval, samples=samples, seed=seed),
        f"predicting {of}",
        **where,
    )
