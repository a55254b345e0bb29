"""The command line: each command is a file that parses, calls one function and prints.

Nothing heavy is imported before a command needs it, so that help is instant.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from mvae.runs.registry import commands, imported
from mvae.training.switches import keep_freed_memory

__all__ = ["cli", "main"]

OWN = {  # command → where it is, what it does
    "describe": ("mvae.cli.describe:describe", "Describe a table of your own, and write a declaration to train on it."),
    "train": ("mvae.cli.train:train", "Train a model on a dataset or on your own file."),
    "impute": ("mvae.cli.impute:impute", "Fill in a table's missing cells, with intervals or draws."),
    "predict": ("mvae.cli.predict:predict", "Predict a column from the other observed values of each row."),
    "embed": ("mvae.cli.embed:embed", "Embed each row as a point in the latent space."),
    "score": ("mvae.cli.score:score", "Score how probable each row is: outliers, and their unusual values."),
    "evaluate": ("mvae.cli.evaluate:evaluate", "Estimate log-likelihoods of the test rows, with diagnostics."),
    "sample": ("mvae.cli.sample:sample", "Draw samples from the prior, or given some modalities."),
    "fit-prior": ("mvae.cli.fit_prior:fit_prior", "Fit a prior to the latents of a run's training rows."),
    "translate": ("mvae.cli.translate:translate", "Translate sentences with a trained run."),
    "info": ("mvae.cli.info:info", "Show a run's settings, progress and last metrics."),
    "report": ("mvae.cli.report:report", "Write everything about a run to one HTML file."),
    "serve": ("mvae.cli.serve:serve", "Serve a web page for querying a run's model."),
    "export": ("mvae.cli.export:export", "Export a run's model as ONNX or torch.export, for use without mvae."),
    "compare": ("mvae.cli.compare:compare", "Compare several runs in one table or on one HTML page."),
    "config": ("mvae.cli.config:config", "List or show the shipped declarations of runs, or print the schema."),
}


class Lazy(click.Group):
    """A group whose commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return [*OWN, *commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or None."""
        found = {**OWN, **commands()}.get(cmd_name)
        return None if found is None else imported(found[0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's one-line summary without importing the command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in {**OWN, **commands()}.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mvae")
def cli() -> None:
    """Multimodal variational autoencoders: learn one joint model of several modalities, any of which may be missing.

    \b
    Start here:  mvae train digits
    """


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, so that a command says what is saved and ends."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] == signal.SIG_DFL]
    for number in handled:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _usable_streams() -> None:
    """Replace closed streams by the null device, and write characters outside the encoding as "?"."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, so that no file of ours gets it
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the process ends)
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _forget_output() -> None:
    """Send output that nobody reads to the null device; otherwise Python complains about it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> None:
    """Entry point: a user's mistake gives one line and exit code 2, any other failure exit code 1."""
    from mvae.errors import NO_MEMORY, MvaeError, UserError, abridged

    _usable_streams()
    if odd := [word for word in sys.argv[1:] if any("\ud800" <= sign <= "\udfff" for sign in word)]:
        click.echo(f"mvae: {abridged(odd[0])} is not UTF-8: use a UTF-8 terminal, or rename the file", err=True)
        sys.exit(2)

    # Read when torch is loaded, inside the commands. Threads that spin at barriers lose whole time slices if another
    # program occupies a core: digits then train 30 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("mvae.data").setLevel(logging.INFO)  # it reports downloads
    try:
        with _ended_as_by_ctrl_c():
            result: Any = cli(standalone_mode=False)
    except click.ClickException as error:
        message = error.format_message()
        if "\n" in message:  # the help, if no command is named
            error.show()
        else:
            click.echo(f"mvae: {message}", err=True)
        sys.exit(2)
    except click.Abort:
        click.echo("mvae: stopped, and no file is half-written: give the same command again", err=True)
        sys.exit(1)
    except MvaeError as error:
        click.echo(f"mvae: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        click.echo(f"mvae: cannot read or write{where}: {error.strerror or error}", err=True)
        sys.exit(1)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in NO_MEMORY):
            raise
        click.echo("mvae: this needs more memory than there is: ask for less at once", err=True)
        sys.exit(1)
    if isinstance(result, int) and result:
        sys.exit(result)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        sys.exit(1)
