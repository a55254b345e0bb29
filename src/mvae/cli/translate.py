"""`mvae translate`."""

import sys
from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, RUN, SEED, common, print_json, say_unknown

__all__ = ["translate"]

MANY = click.IntRange(1, 10_000)


@click.command()
@RUN
@click.argument("texts", nargs=-1)
@click.option("--to", required=True, help="The target language: a modality of the run.")
@click.option("--from", "source", help="The language of the texts.  [default: the run's other language]")
@click.option("--method", default="greedy", show_default=True, help="greedy, beam, sample (the paper's) or mbr.")
@click.option(
    "--n",
    type=MANY,
    default=1,
    show_default=True,
    help="Number of translations per text; above 1, each line is the text, a tab and one translation.",
)
@click.option("--width", type=MANY, default=5, show_default=True, help="Beam width; at least --n.")
@common(DATA_DIR, SEED, DEVICE, JSON)
def translate(
    run: Path, texts: tuple[str, ...], to: str, data_dir: Path | None, device: str | None, as_json: bool, **how: Any
) -> None:
    """Translate TEXTS, or the lines of standard input, with a run trained on sentences (Sec. 7).

    An empty line of standard input gives an empty line.

    \b
    Example:  mvae translate runs/translation --to vi "I have an idea ."
              mvae translate runs/translation --to en --method beam --n 3 < sentences.vi
    """
    from mvae.data.vocabulary import words_of
    from mvae.runs.run import open_run
    from mvae.runs.translate import Translation
    from mvae.runs.translate import translate as translated

    opened = open_run(run, data_dir=data_dir, device=device)
    lines = list(texts) or list(map(str.strip, sys.stdin))
    wanted = [line for line in lines if texts or words_of(line)]  # an empty line keeps its place in the output
    answers = iter(translated(opened, wanted, to, **how))
    found = [next(answers) if texts or words_of(line) else Translation("", [""], []) for line in lines]
    if as_json:
        print_json({"run": str(run), "to": to, "translations": [vars(translation) for translation in found]})
        return
    for translation in found:
        source = translation.source.replace("\t", " ")
        for sentence in translation.translations:
            click.echo(f"{source}\t{sentence}" if how["n"] > 1 and source else sentence)
        say_unknown(translation.unknown)
