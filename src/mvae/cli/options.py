"""Options and output that several commands share."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mvae.runs.evaluation import Evaluation

__all__ = [
    "DATA_DIR",
    "DEVICE",
    "FITTED_PRIOR",
    "JSON",
    "PATH",
    "RUN",
    "SCORING",
    "SEED",
    "Grouped",
    "common",
    "one_column",
    "plain",
    "print_json",
    "say_unknown",
    "setting",
]


class AnyPath(click.ParamType):
    """A path that is valid on this system: not empty, no name too long, no home directory of an unknown user."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Convert the argument to a path."""
        from mvae.errors import RunError
        from mvae.files import as_path

        try:
            path = as_path(value)
            path.expanduser()
        except RunError as error:
            self.fail(str(error), param, ctx)
        except RuntimeError:
            self.fail(f"{value!r}: there is no such user", param, ctx)
        return path


PATH = AnyPath()
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of every random draw."
)
DEVICE = click.option("--device", help="cpu, cuda, cuda:1 …  [default: a GPU if there is one]")
DATA_DIR = click.option(
    "--data-dir",
    type=PATH,
    envvar="MVAE_DATA",
    help="Directory of the datasets ($MVAE_DATA).  [default: a cache, filled by download]",
)
FITTED_PRIOR = click.option(
    "--fitted-prior", is_flag=True, help="Use the p(z) fitted by `mvae fit-prior`, not N(0, I)."
)
RUN = click.argument("run", type=PATH)
SCORING = (  # of `mvae.runs.report.Scoring`
    click.option(
        "--rows",
        type=click.IntRange(1),
        default=200,
        show_default=True,
        help="Number of test rows to score, the first ones.",
    ),
    click.option(
        "--samples", type=click.IntRange(2), default=500, show_default=True, help="Importance samples per row."
    ),
)


def common(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def one_column(instead: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], str | None]:
    """The callback of an option that names one column: several are refused; Click would silently take the last.

    Args:
        instead: what the user can do for several columns.
    """

    def only(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
        if len(values) > 1:
            raise click.BadParameter(f"it takes one column, not {len(values)} ({', '.join(values)}): {instead}")
        return values[0] if values else None

    return only


def setting(section: "type[BaseModel]", *names: str) -> Callable[[Any], Any]:
    """Options for settings of a declaration, with its descriptions as help; the declaration checks their ranges."""
    kinds = {int: int, float: float, str: str}
    options = []
    for name in names:
        field = section.model_fields[name]
        flag = f"--{name.replace('_', '-')}"
        options.append(click.option(flag, type=kinds.get(field.annotation, str), help=field.description))  # pyright: ignore
    return common(*options)


class Grouped(click.Command):
    """A command whose help shows its options in groups."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "What is trained": ("key", "missing", "changes", "variants", "epochs", "batch_size", "learning_rate", "seed"),
        "Where": ("run_dir", "resume", "data_dir", "device", "deterministic"),
    }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group under its title; options that belong to no group come last."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        left = {p.name: p.get_help_record(ctx) for p in options}
        groups = {title: [left.pop(name) for name in names if name in left] for title, names in self.GROUPS.items()}
        for title, records in (groups | {"Output": list(left.values())}).items():
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])


def plain(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation as a dictionary for `print_json`."""
    return {
        "rows": evaluation.rows,
        "samples": evaluation.samples,
        "proposal": evaluation.proposal,
        "proposal_x1": evaluation.proposal_x1,
        "likelihoods": {
            name: {
                "mean": value.mean,
                "standard_error": value.standard_error,
                "log_weight_variance": value.variance,
                "effective_samples": float(value.effective_samples.mean()),
                "pareto_k": float(value.pareto_k.mean()),
            }
            for name, value in evaluation.likelihoods.items()
        },
        "instruments": dict(evaluation.instruments),
    }


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; NaN and infinity become null."""
    click.echo(json.dumps(_standard(value), allow_nan=False))


def say_unknown(words: Sequence[str]) -> None:
    """List the words of a text that are outside the run's vocabulary on standard error, if there are any."""
    if words:
        click.echo(f"unknown words, read as <unk>: {', '.join(words)}", err=True)


def _standard(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {name: _standard(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
