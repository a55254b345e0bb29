"""`mvae embed`."""

from typing import Any

import click

from mvae.cli.asking import answered, asking

__all__ = ["embed"]


@click.command()
@asking(click.option("--scale", is_flag=True, help="Add each latent's standard deviation."), samples=None)
def embed(scale: bool, **where: Any) -> None:
    """Embed each row as a point in the latent space: the mean of its posterior, given its observed values.

    \b
    Example:  mvae embed runs/patients patients.csv -o latents.parquet
    """
    answered(lambda model, frames: model.embed_parts(frames, scale=scale), "embedding", **where)
