"""`mvae train`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mvae.cli.describe import KEY, MISSING, as_cell
from mvae.cli.options import DATA_DIR, DEVICE, JSON, PATH, Grouped, common, plain, print_json, setting
from mvae.errors import SettingsError
from mvae.runs.config import Config, parse_change
from mvae.training.settings import TrainingSettings

__all__ = ["train"]

TRAINING = ("epochs", "batch_size", "learning_rate")  # settings with their own flags


@click.command(cls=Grouped)
@click.argument("sources", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option(
    "--set", "changes", multiple=True, help="Change the declaration by KEY=VALUE, such as model.name=vae. Repeatable."
)
@click.option("--variant", "variants", multiple=True, help="Apply a named variant of the declaration. Repeatable.")
@setting(TrainingSettings, *TRAINING)
@setting(Config, "seed")
@click.option("--run-dir", type=PATH, help="Directory of the run.  [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Resume the stopped run in --run-dir.")
@click.option("--deterministic", is_flag=True, help="Give the same bits on a GPU, too (slower).")
@common(KEY, MISSING, DATA_DIR, DEVICE, JSON)
def train(
    sources: tuple[str, ...],
    changes: tuple[str, ...],
    variants: tuple[str, ...],
    run_dir: Path | None,
    key: str | None,
    missing: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train on NAME, a shipped declaration (see mvae config list), or on FILE: a declaration (.toml) or a table (.csv,
    .parquet, .xlsx, .npz …; see mvae describe first). Several tables are joined by --key. Then show what was learned.

    \b
    Example:  mvae train digits
              mvae train patients.csv
              mvae train patients.csv labs.parquet --key id --missing -999
              mvae train mnist --epochs 60 --set model.name=jmvae
              mvae train patients.toml --run-dir runs/patients
              torchrun --nproc-per-node 4 -m mvae train mnist
    """
    from mvae.runs import run as runs
    from mvae.runs.source import declared
    from mvae.runs.table_data import is_table
    from mvae.training.callbacks import tensorboard_where_installed
    from mvae.training.checkpoint import epochs_trained
    from mvae.training.distributed import joined
    from mvae.training.progress import reporter_for

    config = declared(*sources).variant(*variants)
    given = {name: options.pop(name) for name in TRAINING}
    if training := {name: value for name, value in given.items() if value is not None}:
        config = config.change({"training": training})
    for change in changes:  # after --epochs, which also scales the epochs of annealing and decay
        config = config.change(parse_change(change))
    said = {"key": key, "missing": [as_cell(cell) for cell in missing]}
    if chosen := {name: value for name, value in said.items() if value}:
        if not is_table(config):
            raise SettingsError(f"--{next(iter(chosen))} is for tables, and {sources[0]} is not one: leave it out")
        config = config.change({"data": chosen})
    if (seed := options.pop("seed")) is not None:
        config = config.change({"seed": seed})
    run_dir = run_dir or Path("runs") / Path(sources[0]).stem
    with joined() as processes:
        callbacks = [] if as_json or not processes.first else [reporter_for(), *tensorboard_where_installed(run_dir)]
        trained = False
        try:
            run, history = runs.train(config, run_dir, callbacks=callbacks, **options)
            trained = True
            if processes.first:
                _show(run, history.best_epoch, as_json)
        except (KeyboardInterrupt, BrokenPipeError):
            if processes.first:
                click.echo(_stopped(run_dir, trained, epochs_trained(run_dir)), err=True)
            sys.exit(1)
        except Exception:
            if trained and processes.first:  # the error alone would not say so
                click.echo(_stopped(run_dir, trained, None), err=True)
            raise


def _stopped(run_dir: Path, trained: bool, epochs: int | None) -> str:
    """A message that says what is saved and how to go on."""
    if trained:
        return f"stopped while test rows were scored; all is saved: mvae evaluate {shlex.quote(str(run_dir))}"
    if epochs is None:
        return "stopped before the first checkpoint; start again with the same command"
    return f"stopped in epoch {epochs + 1}; go on with the same command and --resume"


def _show(run: Any, best_epoch: int | None, as_json: bool) -> None:
    """Show what a run has learned, and the next command to try."""
    from mvae.cli.show import show_cells, show_evaluation
    from mvae.runs.evaluation import evaluate
    from mvae.runs.held_out import held_out
    from mvae.runs.sample import each_shown, shown_by
    from mvae.training.progress import shown

    click.echo("scoring test rows …", err=True)  # takes minutes if the decoder is convolutional
    with shown("scoring test rows") as progress:
        evaluation = evaluate(run, rows=500, progress=progress)
    table = run.data.layout is not None
    cells = held_out(run, rows=500) if table else []
    picture = each_shown(run, 12, run.config.seed, run.directory / "samples.png")
    if as_json:
        made = {"cells": [vars(cell) for cell in cells]} if table else {}
        made |= {"picture": picture and str(picture)}
        print_json({"run": str(run.directory), "best_epoch": best_epoch, **made, **plain(evaluation)})
        return
    show_evaluation(run, evaluation)
    show_cells(cells)
    if picture:
        show = shown_by(run)
        of = f" for each of {', '.join(show[:4])} …" if show else ""
        click.echo(f"\npicture: {picture}  (a row of samples{of})")
    if further := _next_of_table(run) if table else _next_sample(run, 64 if picture else 8):
        click.echo(f"try next: {further}")


def _next_sample(run: Any, n: int) -> str:
    """The command that draws ``n`` samples given the first condition that is shown, if there is one."""
    from mvae.runs.covariates import as_options, first_covariates
    from mvae.runs.sample import shown_by

    given = shown_by(run)[:1]
    named = [one.partition("=")[0] for one in given]
    covariates = {name: x for name, x in first_covariates(run).items() if name not in named}
    said = "".join(f" --given {shlex.quote(one)}" for one in given) + as_options(run, covariates)
    return f"mvae sample {shlex.quote(str(run.directory))}{said} --n {n}"


def _next_of_table(run: Any) -> str:
    """The next command to try: `impute` for columns, `translate` for two texts, else none (empty)."""
    from mvae.modality.columns import ColumnsModality
    from mvae.runs.translate import languages

    source, texts, directory = run.config.data.source, languages(run), shlex.quote(str(run.directory))
    files = " ".join(map(shlex.quote, [source] if isinstance(source, str) else source))
    if any(isinstance(modality, ColumnsModality) for modality in run.model.modalities.values()):
        return f"mvae impute {directory} {files} -o filled.csv --interval 0.9"
    return f"mvae translate {directory} --to {shlex.quote(texts[1])}" if len(texts) == 2 else ""
