"""Covariates of a run on the command line: parsed from options, and written as options."""

import shlex
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mvae.errors import QueryError
from mvae.modality.covariate import Covariate
from mvae.runs.run import Run

__all__ = ["as_arguments", "as_options", "first_covariates", "parse_covariate"]


def parse_covariate(name: str, covariate: Covariate, value: str) -> Tensor:
    """Parse ``"b1"`` or ``"41.5"`` into one row of a covariate.

    Raises:
        QueryError: an unknown category, or the wrong number of numbers.
    """
    if covariate.categories:
        codes = {str(category): code for code, category in enumerate(covariate.categories)}
        if value not in codes and not covariate.unknown:
            raise QueryError(f"--given {name}={value!r}: {name} is one of {', '.join(codes)}")
        return torch.tensor([codes.get(value, -1)])
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != covariate.width:
        many = f"{covariate.width} numbers, separated by commas, are" if covariate.width > 1 else "a number is"
        raise QueryError(f"--given {name}={value!r}: {many} needed")
    return torch.tensor([numbers], dtype=torch.float64)


def first_covariates(run: Run) -> dict[str, Tensor]:
    """The covariates of the first test row, as an example where the user gave none."""
    table = run.data.test[:1]
    return {
        name: torch.as_tensor(table.columns[name]) if table.has(name)[0] else torch.tensor([-1])
        for name in run.model.covariates
    }


def as_options(run: Run, row: Mapping[str, Tensor]) -> str:
    """These covariates as options of a command, such as `` --given batch=b1``; empty where there are none."""
    written = []
    for name, value in as_arguments(run, row).items():
        text = (
            ",".join(f"{number:g}" for number in value) if isinstance(value, list) else "?" if value is None else value
        )
        written.append(" --given " + shlex.quote(f"{name}={text}"))
    return "".join(written)


def as_arguments(run: Run, row: Mapping[str, Tensor]) -> dict[str, Any]:
    """These covariates as the argument ``covariates`` of `mvae.MVAE.generate`, for samples without data."""
    return {n: _value(run.model.covariates[n], x) for n, x in row.items() if n in run.model.covariates}


def _value(covariate: Covariate, row: Tensor) -> Any:
    if not covariate.categories:
        return row.reshape(-1).tolist()
    return covariate.categories[int(row[0])] if row[0] >= 0 else None
