"""Shared by the studies of tables: finding their files, recording rows of results, and showing them in a terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn

from mvae.data.download import data_directory
from mvae.errors import DataError
from mvae.paper.results import Row, RowDict, add_rows, new_row, rows_with
from mvae.paper.show import show_values
from mvae.provenance import circumstances


def found_folder(data_dir: str | Path | None, folder: str, file: str, source: str) -> Path:
    """The directory that holds a file: ``data_dir`` (default ``$MVAE_DATA``) or a folder in it.

    Raises:
        DataError: it is in neither; ``source`` says where to get it.
    """
    given = data_directory(data_dir)
    places = [] if given is None else [given, given / folder]
    for place in places:
        if (place / file).is_file():
            return place
    looked = f" (looked in {', '.join(map(str, places))})" if places else ""
    raise DataError(f"there is no {file}{looked}: get it from {source}, and say where with --data-dir or MVAE_DATA")


@dataclass(frozen=True)
class Study:
    """One seed of a study at a budget: its rows are made once, recorded, and then read.

    ``narrowed`` are further options of the recorded command, with which it makes only the recorded rows.
    """

    item: str
    dataset: str
    budget: str
    seed: int
    results: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    narrowed: str = ""

    def recorded(self, model: str) -> list[dict[str, Any]]:
        """The rows of a model that were recorded with these settings."""
        own = {"dataset": self.dataset, "model": model, "budget": self.budget, "seed": self.seed}
        return rows_with(self.results / f"{self.item}.json", self.settings, **own)

    def rows(self, model: str, n: int, measure: Callable[[], Mapping[str, float]]) -> Sequence[RowDict]:
        """The recorded rows of a model; if there are none, what ``measure`` finds is recorded."""
        return self.recorded(model) or self.record(model, measure(), n)

    def record(self, model: str, values: Mapping[str, float], n: int) -> list[RowDict]:
        """Add a model's values (metric → value) to the results, and return them as rows."""
        words = ["mvae reproduce", self.item, self.narrowed, f"--seeds {self.seed + 1} --budget {self.budget}"]
        shared = {
            "dataset": self.dataset,
            "model": model,
            "n": n,
            "budget": self.budget,
            "recipe": "",
            "settings": self.settings,
            "seed": self.seed,
            "command": " ".join(filter(None, words)),
            **circumstances(torch.device("cpu")),
        }
        rows: list[Row] = [new_row(self.item, metric, value, None, shared) for metric, value in values.items()]
        add_rows(self.results / f"{self.item}.json", rows)
        return [asdict(row) for row in rows]


def perceptron(inputs: int, outputs: int, hidden: int, dropout: float = 0.0) -> nn.Module:
    """A network with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def show_table(item: str, rows: Sequence[RowDict], columns: Sequence[str]) -> None:
    """Print a line per model and a column per metric; several seeds as their mean."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault(row["model"], {}).setdefault(row["metric"], []).append(row["value"])
    lines = []
    for model, own in found.items():
        lines.append([model, *(f"{mean(own[name]):.3f}" if name in own else "–" for name in columns)])
    show_values(item, ["model", *columns], lines, left=[], wide=["model"])
