"""`mvae serve`."""

from pathlib import Path

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, RUN, common, print_json

__all__ = ["serve"]


@click.command()
@RUN
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Port to listen on.")
@common(DATA_DIR, DEVICE, JSON)
def serve(run: Path, port: int, data_dir: Path | None, device: str | None, as_json: bool) -> None:
    """Serve a web page where you set any modalities and the others are drawn; scripts use POST /generate. Only this
    machine can reach it.

    \b
    Example:  mvae serve runs/mnist
              curl -H 'Content-Type: application/json' -d '{"given": {"label": 5}, "n": 4}' 127.0.0.1:7860/generate
    """
    from mvae.app import server
    from mvae.app.answers import Oracle

    oracle = Oracle.of_run(run, data_dir, device)
    listening = server.bound(port)
    answering = server.prepared(oracle)
    address = f"http://{server.HOST}:{port}"
    if as_json:
        print_json({"run": str(run), "page": address, "endpoint": f"{address}/generate"})
    else:
        click.echo(f"{address}  (Ctrl-C ends it)")
    answering.run(sockets=[listening])
