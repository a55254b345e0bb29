"""`mvae info`."""

from pathlib import Path

import click

from mvae.cli.options import JSON, PATH, RUN, common, print_json

__all__ = ["info"]


@click.command()
@RUN
@click.option("--plot", type=PATH, help="Plot the metrics of every epoch to this PNG.")
@common(JSON)
def info(run: Path, plot: Path | None, as_json: bool) -> None:
    """Show a run's settings, progress and last metrics.

    \b
    Example:  mvae info runs/mnist --plot curves.png
    """
    from mvae.runs.config import flattened
    from mvae.runs.run import read_run
    from mvae.training import checkpoint

    config, stored = read_run(run)
    saved = (run / checkpoint.CHECKPOINT).exists()
    progress = checkpoint.best_weights(run)[1].model_dump() if saved else {}
    rows = checkpoint.read_metrics(run)
    if plot is not None:
        from mvae.report.curves import draw_curves

        draw_curves(rows, plot)
    if as_json:
        print_json({"settings": stored, "progress": progress, "last": rows[-1] if rows else None})
        return
    shown = {k: progress[k] for k in ("epoch", "best_epoch", "seconds")} if saved else {"checkpoint": "none yet"}
    circumstances = {name: value for name, value in stored.items() if name not in ("config", "schema", "layout")}
    for name, value in (flattened(config.to_dict()) | circumstances | shown).items():
        click.echo(f"{name:34} {value}")
    for name, value in (rows[-1] if rows else {}).items():
        click.echo(f"  {name:40} {'' if value is None else format(value, '.4g')}")
