"""Shared by the studies of tables: finding their files, recording rows of results, and showing them in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mvae.data.download import data_directory
from mvae.errors import DataError
from mvae.paper.results import Row, RowDict, add_rows, new_row, read_rows
from mvae.paper.show import show_values
from mvae.provenance import circumstances

__all__ = ["Study", "found_folder", "perceptron", "show_table"]


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
        own = {"model": model, "budget": self.budget, "seed": self.seed, "dataset": self.dataset}
        return [
            row
            for row in read_rows(self.results / f"{self.item}.json")
            if all(row[key] == value for key, value in own.items()) and self.settings.items() <= row["settings"].items()
        ]

    def record(self, model: str, values: Mapping[str, float], n: int) -> list[RowDict]:
        """Add a model's values (metric → value) to the results, and return them as rows."""
        words = ["mvae reproduce", self.item, *([self.narrowed] if self.narrowed else [])]
        shared = {
            "dataset": self.dataset,
            "model": model,
            "n": n,
            "budget": self.budget,
            "recipe": "",
            "settings": self.settings,
            "seed": self.seed,
            "command": " ".join([*words, f"--seeds {self.seed + 1} --budget {self.budget}"]),
            **circumstances(torch.device("cpu")),
        }
        rows: list[Row] = [new_row(self.item, metric, value, None, shared) for metric, value in values.items()]
        add_rows(self.results / f"{self.item}.json", rows)
        return [asdict(row) for row in rows]


def perceptron(inputs: int, outputs: int, hidden: int, dropout: float = 0.0) -> nn.Module:
    """A network with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def show_table(item: str, rows: Sequence[RowDict], columns: Iterable[str]) -> None:
    """Print a line per model and a column per metric; several seeds as their mean."""
    columns = list(columns)
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault(row["model"], {}).setdefault(row["metric"], []).append(row["value"])

    def said(values: Sequence[float]) -> str:
        return f"{sum(values) / len(values):.3f}" if values else "–"

    lines = [[model, *(said(own.get(name, [])) for name in columns)] for model, own in found.items()]
    show_values(item, ["model", *columns], lines, left=[], wide=["model"])
