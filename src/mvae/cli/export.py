"""`mvae export`."""

from pathlib import Path
from typing import Literal

import click

from mvae.cli.options import JSON, PATH, RUN, common, print_json

__all__ = ["export"]


@click.command()
@RUN
@click.argument("directory", type=PATH)
@click.option(
    "--format",
    "graphs",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    help="onnx runs without PyTorch; torch writes torch.export programs (.pt2), which run without mvae.",
)
@common(JSON)
def export(run: Path, directory: Path, graphs: Literal["onnx", "torch"], as_json: bool) -> None:
    """Export a run's model for use without mvae: encoders, decoders, a description of them, an example, a model card.

    \b
    Example:  mvae export runs/digits exported && python exported/example.py
    """
    from mvae.export.directory import export_run

    export_run(run, directory, graphs)
    if as_json:
        print_json(
            {"run": str(run), "directory": str(directory), "files": sorted(file.name for file in directory.iterdir())}
        )
    else:
        tried = f"; try: python {directory / 'example.py'}" if graphs == "onnx" else ""
        click.echo(f"exported: {directory}  (see {directory / 'README.md'}{tried})")
