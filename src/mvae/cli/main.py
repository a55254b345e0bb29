"""The command line: parse, call one function, print. No logic.

Nothing heavy is imported before a command needs it, so that help is instant.
"""

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, RUN, SEED, common, plain, print_json
from mvae.paper.command import reproduce

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mvae")
def cli() -> None:
    """Multimodal variational autoencoders: learn one joint model of several modalities, any of them missing.

    \b
    Start here:  mvae train digits
    """


cli.add_command(reproduce)


@cli.command()
@click.argument("dataset")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run is kept.  [default: runs/DATASET]")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir, which was stopped.")
@click.option(
    "--start-from",
    type=click.Path(path_type=Path),
    help="A run of the same networks whose best weights to begin with, as to train it longer or on other rows.",
)
@click.option("--recipe", default="coupled", show_default=True, help="coupled, or paper (Eq. 5 to the letter).")
@click.option("--epochs", type=int, help="Passes over the data.  [default: the paper's]")
@click.option("--anneal-epochs", type=int, help="β rises to 1 over these.  [default: the paper's share of the epochs]")
@click.option(
    "--rows",
    type=int,
    help="The first so many training rows, and their share of those to select by.  [default: all]",
)
@click.option("--pairs", type=float, help="The share of rows that stay complete (Sec. 5.1).  [default: nothing hidden]")
@click.option(
    "--repeat-pairs",
    type=int,
    help="How often an epoch has each of few pairs.  [default: up to 50 for coupled, 1 for paper]",
)
@click.option(
    "--input-noise",
    type=float,
    help="Noise on the first modality that is encoded in training.  [default: with few pairs, coupled: the dataset's]",
)
@click.option(
    "--input-shift",
    type=int,
    help="Pixels by which it is moved there at random, where it is an image.  [default: likewise]",
)
@click.option(
    "--pseudo-labels/--no-pseudo-labels",
    default=None,
    help="Guess the labels that rows lack, and learn from sure guesses.  [default: for coupled with few pairs]",
)
@click.option("--cross-share", type=float, help="Of λ, in coupled's cross term.  [default: the dataset's, 0.2 or 1]")
@click.option("--batch-size", type=int, help="Rows a step.")
@click.option("--learning-rate", type=float, help="Of Adam.")
@click.option(
    "--decay-epochs",
    type=int,
    help="It falls to 0 over the last of these.  [default: 40 % for coupled and nn, else 0]",
)
@click.option("--model", default="mvae", show_default=True, help="mvae, vae, cvae, bivcca, jmvae, mvae_q, telbo …")
@click.option("--weight", "weights", multiple=True, help="λ of a modality, as label=10; repeat.  [default: Sec. 4's]")
@click.option("--vocab-size", type=int, help="Of sentences: numbers a language.  [default: 10000]")
@click.option("--subwords", is_flag=True, help="Of sentences: number pieces of words. Needs mvae[translation].")
@click.option("--deterministic", is_flag=True, help="The same bits on a GPU too (slower).")
@common(DATA_DIR, SEED, DEVICE, JSON)
def train(
    dataset: str,
    run_dir: Path | None,
    resume: bool,
    start_from: Path | None,
    recipe: str,
    epochs: int | None,
    anneal_epochs: int | None,
    rows: int | None,
    pairs: float | None,
    repeat_pairs: int | None,
    input_noise: float | None,
    input_shift: int | None,
    pseudo_labels: bool | None,
    cross_share: float | None,
    batch_size: int | None,
    learning_rate: float | None,
    decay_epochs: int | None,
    model: str,
    weights: tuple[str, ...],
    vocab_size: int | None,
    subwords: bool,
    deterministic: bool,
    data_dir: Path | None,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Train on DATASET (digits, mnist, binary-mnist, fashion-mnist, multimnist, celeba, celeba19, faces, faces19,
    vision, vision-faces, translation) and show what was learned.

    \b
    Example:  mvae train digits
              mvae train mnist --epochs 60 --run-dir runs/quick
    """
    from mvae.cli.show import show_evaluation
    from mvae.paper.experiments import MODELS, experiment
    from mvae.paper.harness import require
    from mvae.paper.settings import Settings, parse_weights
    from mvae.runs import run as runs
    from mvae.runs import sample as sampling
    from mvae.training.progress import Silent, shown

    require("model", [model], MODELS)
    run_dir = run_dir or Path("runs") / dataset
    settings = Settings.of(
        dataset,
        recipe,
        seed,
        model,
        parse_weights(weights),
        epochs=epochs,
        anneal_epochs=anneal_epochs,
        rows=rows,
        pairs=pairs,
        repeat_pairs=repeat_pairs,
        input_noise=input_noise,
        input_shift=input_shift,
        pseudo_labels=pseudo_labels,
        cross_share=cross_share,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decay_epochs=decay_epochs,
        vocabulary=vocab_size,
        subwords=subwords,
        start_from=None if start_from is None else str(start_from),
    )
    reporter = Silent() if as_json else None
    run, history = runs.train(
        settings,
        run_dir,
        resume=resume,
        data_dir=data_dir,
        device=device,
        reporter=reporter,
        deterministic=deterministic,
    )
    if history.interrupted:
        click.echo(f"stopped in epoch {len(history.epochs) + 1}; go on with the same command and --resume", err=True)
        sys.exit(1)
    click.echo("scoring test rows …", err=True)  # minutes where the decoder is convolutional
    with shown("scoring test rows") as progress:
        evaluation = runs.evaluate(run, rows=500, progress=progress)
    picture = sampling.each_shown(run, 12, seed, run_dir / "samples.png")
    if as_json:
        print_json(
            {
                "run": str(run_dir),
                "best_epoch": history.best_epoch,
                "picture": picture and str(picture),
                **plain(evaluation),
            }
        )
        return
    show_evaluation(run, evaluation)
    first, *others = experiment(dataset).shown
    if picture:
        click.echo(f"\npicture: {picture}  (a row of samples for each of {', '.join([first, *others][:4])} …)")
    click.echo(f"try next: mvae sample {run_dir} --given {shlex.quote(first)} --n {64 if picture else 8}")


@cli.command()
@RUN
@click.option("--rows", type=int, help="The first so many test rows.  [default: all]")
@click.option("--samples", type=int, help="Importance samples a row.  [default: the paper's, 1000 or 100]")
@click.option("--proposal", multiple=True, help="Modalities of q(z | ·) to sample from; repeat.  [default: the image]")
@click.option(
    "--judge",
    is_flag=True,
    help="Does a classifier see the condition in 1,000 images generated from it? Of sentences: Table 4, chrF and BLEU.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Add the numbers to the results files in this folder.")
@common(DATA_DIR, SEED, DEVICE, JSON)
def evaluate(
    run: Path,
    rows: int | None,
    samples: int | None,
    proposal: tuple[str, ...],
    judge: bool,
    record: Path | None,
    data_dir: Path | None,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Log-likelihoods of the test rows, with diagnostics (Tables 2, 3, 6, 7).

    \b
    Example:  mvae evaluate runs/mnist --rows 1000
    """
    from mvae.cli.show import show_evaluation
    from mvae.paper import translation
    from mvae.paper.figures import judged
    from mvae.paper.record import by_hand, rows_of
    from mvae.paper.record import record as add_rows_of_items
    from mvae.paper.show_translation import show_levels
    from mvae.runs import run as runs
    from mvae.runs.translate import languages
    from mvae.training.progress import shown

    opened = runs.open_run(run, data_dir=data_dir, device=device)
    if judge and languages(opened) == opened.model.names:
        numbers = translation.rows_of(opened, *by_hand(opened), data_dir, rows, samples)
        if record is not None:
            add_rows_of_items(numbers, record)
        if as_json:
            print_json({"run": str(run), **{row.metric: row.value for row in numbers}})
        else:
            show_levels(translation.summary([asdict(row) for row in numbers]))
        return
    asked: Any = {"rows": rows, "samples": samples, "proposal": proposal or None, "seed": seed}
    with shown("scoring test rows") as asked["progress"]:
        evaluation = runs.evaluate(opened, **asked)
    seen = judged(opened, *by_hand(opened), run.parent) if judge else []
    if record is not None:
        add_rows_of_items([*rows_of(opened, evaluation, *by_hand(opened)), *seen], record)
    if as_json:
        print_json({"run": str(run), **plain(evaluation), **{row.metric: row.value for row in seen}})
        return
    show_evaluation(opened, evaluation)
    for row in seen:
        click.echo(f"{row.metric}: {row.value:.1%} of {row.n:,}")


@cli.command()
@RUN
@click.option("--given", multiple=True, help="What is known, as MODALITY=VALUE or a file; repeat for several.")
@click.option("--of", multiple=True, help="What to generate, separated by commas.  [default: all that is not given]")
@click.option("--n", default=64, show_default=True, help="How many samples.")
@click.option("--output", type=click.Path(path_type=Path), help="The PNG.  [default: RUN/sample.png]")
@common(DATA_DIR, SEED, DEVICE, JSON)
def sample(
    run: Path,
    given: tuple[str, ...],
    of: tuple[str, ...],
    n: int,
    output: Path | None,
    data_dir: Path | None,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Samples from the prior, or given some modalities (Fig. 2): a PNG grid, and labels by name.

    \b
    Example:  mvae sample runs/mnist --given label=5 --n 64
              mvae sample runs/vision --given image=photo.jpg --of edges,mask --n 1
    """
    from mvae.runs import run as runs
    from mvae.runs import sample as sampling

    opened = runs.open_run(run, data_dir=data_dir, device=device)
    path = output or run / "sample.png"
    picture, texts = sampling.sample(opened, sampling.parse_given(opened, given), n, seed, path, sampling.parse_of(of))
    if as_json:
        print_json({"run": str(run), "picture": picture and str(picture), "samples": texts})
        return
    if picture:
        click.echo(f"picture: {picture}")
    for name, values in texts.items():
        if any(" " in value for value in values):  # sentences, one a line
            click.echo("\n".join(f"{name}: {value}" for value in values))
        else:
            click.echo(f"{name}: {' '.join(map(shlex.quote, values))}")  # the empty string as ''


@cli.command()
@RUN
@click.argument("texts", nargs=-1)
@click.option("--to", required=True, help="The language: a modality of the run.")
@click.option("--from", "source", help="The language of the texts.  [default: the run's other one]")
@click.option("--method", default="greedy", show_default=True, help="greedy, beam, sample (the paper's) or mbr.")
@click.option("--n", default=1, show_default=True, help="Alternatives for each text.")
@click.option("--width", default=5, show_default=True, help="Of the beam; at least --n.")
@common(DATA_DIR, SEED, DEVICE, JSON)
def translate(
    run: Path,
    texts: tuple[str, ...],
    to: str,
    source: str | None,
    method: str,
    n: int,
    width: int,
    data_dir: Path | None,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Translate TEXTS, or the lines of standard input, by a run of sentences (Sec. 7).

    \b
    Example:  mvae translate runs/translation --to vi "I have an idea ."
              mvae translate runs/translation --to en --method beam --n 3 < sentences.vi
    """
    from mvae.runs import run as runs
    from mvae.runs.translate import translate

    opened = runs.open_run(run, data_dir=data_dir, device=device)
    lines = texts or [line for line in map(str.strip, sys.stdin) if line]
    found = translate(opened, lines, to, source=source, method=method, n=n, width=width, seed=seed)
    if as_json:
        print_json({"run": str(run), "to": to, "translations": [vars(translation) for translation in found]})
        return
    for translation in found:
        for sentence in translation.translations:
            click.echo(sentence)
        if translation.unknown:
            click.echo(f"unknown words, read as <unk>: {', '.join(translation.unknown)}", err=True)


@cli.command()
@RUN
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the metrics of every epoch as this PNG.")
@common(SEED, DEVICE, JSON)
def info(run: Path, plot: Path | None, seed: int, device: str | None, as_json: bool) -> None:
    """A run's settings, progress and last metrics. (Nothing is sampled; --seed and --device change nothing.)

    \b
    Example:  mvae info runs/mnist --plot curves.png
    """
    from mvae import files
    from mvae.paper.settings import read_settings, written_weights
    from mvae.training import checkpoint

    settings = files.read_json(run / checkpoint.SETTINGS)
    saved = (run / checkpoint.CHECKPOINT).exists()
    progress = files.load_state(run / checkpoint.CHECKPOINT)[1] if saved else {}
    rows = checkpoint.read_metrics(run)
    if plot is not None:
        from mvae.report.curves import draw_curves

        draw_curves(rows, plot)
    if as_json:
        print_json({"settings": settings, "progress": progress, "last": rows[-1] if rows else None})
        return
    shown = {k: progress[k] for k in ("epoch", "best_epoch", "seconds")} if saved else {"checkpoint": "none yet"}
    for name, value in (settings | shown).items():
        click.echo(f"{name:16} {value}")
    click.echo(f"{'λ':16} {written_weights(read_settings(run).build())}")
    for name, value in (rows[-1] if rows else {}).items():
        click.echo(f"  {name:40} {value:.4g}")


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, anything else that fails is 1."""
    from mvae.errors import MvaeError, UserError

    # Read when torch is loaded, inside the commands. Threads that spin at barriers wait for whole time slices where
    # another program has a core: digits then train 30 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        message = error.format_message()
        if "\n" in message:  # the help, where no command is named
            error.show()
        else:
            click.echo(f"mvae: {message}", err=True)
        sys.exit(2)
    except click.Abort:
        sys.exit(1)
    except MvaeError as error:
        click.echo(f"mvae: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
