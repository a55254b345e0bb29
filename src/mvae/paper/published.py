"""Values printed in the paper, from published.toml."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((files("mvae.paper") / "published.toml").read_text())


def published(table: str, model: str, dataset: str, metric: str | None = None) -> float | int | None:
    """The published value; None if the paper has none. CelebA with 19 modalities is published as a model, MVAE19.

    >>> published("table2", "mvae", "mnist", "log p(x1)")
    -90.619
    >>> published("table1", "mvae", "mnist")
    1063680
    """
    if dataset == "celeba19":
        model, dataset = f"{model}19", "celeba"
    block = _tables().get(table, {})
    if metric is not None:
        block = block.get(metric, {})
    return block.get(model, {}).get(dataset)


def published_at(table: str, model: str, level: float) -> float | None:
    """The published accuracy at this paired fraction (Tables 8, 9, 10); None if the paper has none.

    >>> published_at("table8", "mvae", 0.01)
    0.8838
    """
    levels, accuracies = _tables()["weak"]["levels"], _tables().get(table, {}).get(model)
    return accuracies[levels.index(level)] if accuracies and level in levels else None
