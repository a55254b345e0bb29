"""`mvae fit-prior`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, RUN, SEED, common, print_json

__all__ = ["fit_prior"]


@click.command("fit-prior")
@RUN
@click.option(
    "--kind",
    type=click.Choice(["mixture", "flow"]),
    default="mixture",
    show_default=True,
    help="A mixture of Gaussians, or a normalising flow (needs mvae[flows]).",
)
@click.option(
    "--components", type=click.IntRange(1), default=10, show_default=True, help="Number of components of the mixture."
)
@click.option("--epochs", type=click.IntRange(1), default=50, show_default=True, help="Training epochs of the flow.")
@click.option(
    "--rows", type=click.IntRange(1), help="Number of training rows to fit to, the first ones.  [default: all]"
)
@common(DATA_DIR, SEED, DEVICE, JSON)
def fit_prior(run: Path, as_json: bool, data_dir: Path | None, device: str | None, **how: Any) -> None:
    """Fit p(z) to the latents of a run's training rows, for `mvae sample` and `mvae evaluate` with --fitted-prior.

    \b
    Example:  mvae fit-prior runs/mnist && mvae sample runs/mnist --fitted-prior
    """
    from mvae.runs.prior import FILE, fit_run_prior
    from mvae.runs.run import open_run

    found = fit_run_prior(open_run(run, data_dir=data_dir, device=device), **how)
    if as_json:
        print_json({"run": str(run), "prior": str(run / FILE), **asdict(found)})
        return
    click.echo(f"prior: {run / FILE} ({found.kind}, {found.rows} training rows)")
    click.echo(
        f"mean log p(z) of validation rows: {found.fitted:.2f} nats, {found.standard:.2f} under N(0, I); "
        "use it with --fitted-prior"
    )
