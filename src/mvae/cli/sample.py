"""`mvae sample`."""

import shlex
from pathlib import Path
from typing import Any

import click

from mvae.cli.asking import plain_cells
from mvae.cli.options import DATA_DIR, DEVICE, FITTED_PRIOR, JSON, PATH, RUN, SEED, common, print_json, say_unknown

__all__ = ["sample"]


@click.command()
@RUN
@click.option(
    "--given", multiple=True, help="What is known: MODALITY=VALUE or =FILE, COLUMN=CELL, COVARIATE=VALUE. Repeatable."
)
@click.option(
    "--of", multiple=True, help="Modalities or columns to generate, separated by commas.  [default: all not given]"
)
@click.option("--n", type=click.IntRange(1, 100_000), default=64, show_default=True, help="Number of samples.")
@click.option("-o", "--output", type=PATH, help="The PNG file.  [default: RUN/sample.png]")
@common(FITTED_PRIOR, DATA_DIR, SEED, DEVICE, JSON)
def sample(
    run: Path,
    given: tuple[str, ...],
    of: tuple[str, ...],
    n: int,
    output: Path | None,
    fitted_prior: bool,
    seed: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Draw samples from the prior, or given some modalities (Fig. 2): pictures as a PNG grid, labels by name.

    For a table, cells may be given by column; then rows of the other columns are drawn, or only what --of names.

    \b
    Example:  mvae sample runs/mnist --given label=5 --n 64
              mvae sample runs/vision --given image=photo.jpg --of edges,mask --n 1
              mvae sample runs/patients --given sex=f --given hb=12 --n 5
              mvae sample runs/birds --given species=robin --of photo -o robins.png
    """
    from mvae.runs import sample as samples
    from mvae.runs.prior import use_fitted_prior
    from mvae.runs.run import open_run

    opened = open_run(run, **where)
    if fitted_prior:
        use_fitted_prior(opened)
    of = samples.parse_of(of)
    if samples.names_columns(opened, given, of):
        cells = samples.sample_cells(opened, given, n, seed, of)
        if as_json:
            print_json({"run": str(run), "picture": None, "samples": {c: plain_cells(cells[c]) for c in cells.columns}})
        else:
            click.echo(cells.to_string(index=False, max_colwidth=30))
        _say_unused(output)
        say_unknown(samples.unknown_words(opened, given))
        return
    path = output or run / "sample.png"
    known = samples.parse_given(opened, given)
    picture, drawn = samples.sample(opened, known, n, seed, path, of)
    say_unknown(samples.unknown_words(opened, given))
    _say_unused(None if picture else output)
    if as_json:
        plain = {
            name: [dict(zip(x, plain_cells(x.values()), strict=True)) if isinstance(x, dict) else x for x in values]
            for name, values in drawn.items()
        }
        print_json({"run": str(run), "picture": picture and str(picture), "samples": plain})
        return
    if picture:
        click.echo(f"picture: {picture}")
    for name, values in drawn.items():
        texts = [_as_text(value) for value in values]
        if any(" " in text for text in texts):  # sentences, one per line
            click.echo("\n".join(f"{name}: {text}" for text in texts))
        else:
            click.echo(f"{name}: {' '.join(map(shlex.quote, texts))}")  # the empty string as ''


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_text, value))}]"
    if isinstance(value, dict):
        return ", ".join(f"{column} {_as_text(cell)}" for column, cell in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say_unused(output: Path | None) -> None:
    if output is not None:
        click.echo(f"{output} is not written: no picture was sampled", err=True)
