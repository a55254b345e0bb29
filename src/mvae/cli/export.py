"""`mvae export`."""

from pathlib import Path

import click

from mvae.cli.options import JSON, RUN, common, print_json

__all__ = ["export"]


@click.command()
@RUN
@click.argument("directory", type=click.Path(path_type=Path))
@common(JSON)
def export(run: Path, directory: Path, as_json: bool) -> None:
    """A run's model for programs without PyTorch: ONNX, what it means, an example and a model card.

    \b
    Example:  mvae export runs/digits exported && python exported/example.py
    """
    from mvae.export.directory import export_run

    export_run(run, directory)
    if as_json:
        print_json(
            {"run": str(run), "directory": str(directory), "files": sorted(file.name for file in directory.iterdir())}
        )
    else:
        click.echo(f"exported: {directory}  (see {directory / 'README.md'}; try: python {directory / 'example.py'})")
