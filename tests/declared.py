"""Shipped declarations with changes, for tests of runs."""

from typing import Any

from mvae.runs.config import Config, merged
from mvae.runs.source import declared


def changed(
    name: str, *, model: str | None = None, seed: int = 0, data: dict[str, Any] | None = None, **training: Any
) -> Config:
    """A shipped declaration with other training settings, another model, seed or data."""
    values: dict[str, Any] = {"seed": seed, "data": data or {}, "training": training}
    return declared(name).change(merged(values, {"model": {"name": model}} if model else {}))
