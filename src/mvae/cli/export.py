"""`mvae export`."""

from pathlib import Path
from typing import Literal

import click

from mvae.cli.options import JSON, RUN, common, print_json

__all__ = ["export"]


@click.command()
@RUN
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "graphs",
    type=click.Choice(["onnx", "torch"]),
    default="onnx",
    show_default=True,
    help="ONNX needs no PyTorch; torch writes programs of torch.export (.pt2), which need no mvae.",
)
@common(JSON)
def export(run: Path, directory: Path, graphs: Literal["onnx", "torch"], as_json: bool) -> None:
    """A run's model for programs without mvae: encoders and decoders, what they mean, an example and a model card.

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
