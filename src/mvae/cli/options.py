"""Options and output that several commands share."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mvae.runs.run import Evaluation

__all__ = ["DATA_DIR", "DEVICE", "JSON", "RUN", "SEED", "common", "plain", "print_json"]

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of every random draw."
)
DEVICE = click.option("--device", help="cpu, cuda, cuda:1 … Default: a GPU where there is one.")
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="MVAE_DATA",
    help="Where datasets are ($MVAE_DATA). Default: a cache, filled by download.",
)
RUN = click.argument("run", type=click.Path(path_type=Path))


def common(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def plain(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation as `print_json` takes it."""
    return {
        "rows": evaluation.rows,
        "samples": evaluation.samples,
        "proposal": list(evaluation.proposal),
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
    """One object; numbers that JSON has no word for become null."""
    click.echo(json.dumps(_standard(value), allow_nan=False))


def _standard(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {name: _standard(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
