"""`mvae embed`."""

from pathlib import Path

import click

from mvae.cli.asking import answered, asking

__all__ = ["embed"]


@click.command()
@asking(click.option("--scale", is_flag=True, help="Add each latent's standard deviation."), samples=None)
def embed(
    run: Path,
    files: tuple[Path, ...],
    scale: bool,
    output: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Embed each row as a point in the latent space: the mean of its posterior, given its observed values.

    \b
    Example:  mvae embed runs/patients patients.csv -o latents.parquet
    """
    answered(
        run,
        files,
        output,
        lambda model, frames: model.embed_parts(frames, scale=scale),
        doing="embedding",
        device=device,
        as_json=as_json,
    )
