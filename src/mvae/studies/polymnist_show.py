"""PolyMNIST's results as a table and a figure, and pictures of what a model generates from one modality."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from mvae.evaluation.images import levels
from mvae.paper.results import RowDict
from mvae.paper.show import show_values, signed
from mvae.report.figure import saved_figure
from mvae.report.grid import save_named_rows
from mvae.runs.run import Run
from mvae.studies.polymnist_measures import FITTED

OWN = "own"  # the recipe of models other than the MVAE: as declared
SHOWN = 10  # test rows of a picture
CLASSIFIERS = "accuracy of the classifiers"
HIDDEN = ("m2",)  # the original's background of m2 is under copyright, and is not shown
COLUMNS = {
    **{str(n): f"coherence given {n}" for n in (1, 2, 3, 4)},
    "0": "unconditional coherence",
    "0 fit": f"unconditional coherence{FITTED}",
    "lin 1": "linear accuracy given 1",
}


def named(model: str, recipe: str) -> str:
    """A model with its recipe, unless that is the model's own.

    >>> named("mvae", "coupled"), named("mopoe", OWN)
    ('mvae, coupled', 'mopoe')
    """
    return model if recipe == OWN else f"{model}, {recipe}"


@cache
def published() -> dict[str, Any]:
    """Published coherences and other numbers, with their sources."""
    return tomllib.loads((files("mvae.studies") / "polymnist_published.toml").read_text(encoding="utf-8"))


def numbers_of_runs(rows: Sequence[RowDict]) -> Iterator[tuple[str, str, str, int, Mapping[str, float]]]:
    """Each run's name, what is missing in it, its budget and seed, and its numbers (those of the curve left out)."""
    runs: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        settings = row["settings"]
        if "step" not in settings:
            missing = f", {1 - settings['kept']:.0%} missing" if settings.get("kept", 1) < 1 else ""
            key = named(row["model"], row["recipe"]), missing, row["budget"], row["seed"]
            accuracy = settings["classifier_accuracy"]
            found = runs.setdefault((*key, accuracy), {CLASSIFIERS: accuracy})
            found[row["metric"]] = row["value"]
    for (*key, _), found in runs.items():
        yield *key, found


def show(item: str, rows: Sequence[RowDict]) -> None:
    """Print our results, a line per run, above the published ones."""
    lines: list[list[str]] = []
    for name, missing, budget, seed, found in numbers_of_runs(rows):
        which = f", seed {seed}" if seed else ""
        numbers = (found.get(metric) for metric in (*COLUMNS.values(), CLASSIFIERS))
        lines.append([f"{name}, {budget}{which}{missing}", *map(_percent, numbers)])
    lines.append([])
    for known in published()["coherence"]:
        absent = ["–"] * (len(COLUMNS) + 1 - len(known["given"]))
        lines.append([f"{known['model']}, published", *map(_percent, known["given"]), *absent])
    title = f"{item}: coherence in % by number given (0: samples of the prior); linear accuracy; classifiers"
    show_values(title, ["model", *COLUMNS, "classifier"], lines, left=("model",))


def _percent(share: float | None) -> str:
    return signed(None if share is None else 100 * share, ".1f")


def draw(rows: Sequence[RowDict], path: Path) -> None:
    """Draw coherence on validation rows over training steps, with published values as horizontal lines.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    curves: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for row in rows:
        if "step" in row["settings"] and row["settings"].get("kept", 1) == 1:
            name = f"{named(row['model'], row['recipe'])} ({row['budget']})"
            own = curves.setdefault(name, {1: [], 4: []})[int(row["metric"].split()[-1])]
            own.append((row["settings"]["step"], row["value"]))
    with saved_figure(path, figsize=(10, 3.4), layout="constrained") as figure:
        for axis, n in zip(figure.subplots(1, 2, sharey=True), (1, 4), strict=True):
            for i, (name, points) in enumerate(curves.items()):
                if points[n]:
                    style = {"color": f"C{i}", "linestyle": "-" if i < 10 else "--", "label": name}
                    axis.plot(*zip(*sorted(points[n]), strict=True), marker="o", markersize=3, linewidth=1, **style)
            for known in published()["coherence"]:
                axis.axhline(known["given"][n - 1], linewidth=0.5, linestyle=":", color="grey")
                place = {"transform": axis.get_yaxis_transform(), "fontsize": 6, "color": "grey"}
                axis.text(0.01, known["given"][n - 1], known["model"], **place)
            axis.set_title(f"coherence given {n}", fontsize=9)
            axis.set_xlabel("step", fontsize=8)
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
            if curves and n == 1:
                handles, labels = axis.get_legend_handles_labels()
                figure.legend(handles, labels, fontsize=7, loc="outside right upper")


@torch.no_grad()
def draw_given(run: Run, path: Path) -> None:
    """Draw the other modalities given one: for each given one, its test rows, and below E[x | z] of every other.

    The modality m2 is not shown: its background in the original is under copyright.
    """
    names = [name for name in run.model.names if name not in HIDDEN]
    test, groups = run.data.test.first(SHOWN), {}
    generator = torch.Generator(run.model.device).manual_seed(0)
    for given in names:
        groups[f"given {given}"] = levels(test.select_rows(given, torch.arange(len(test))), 255)
        others = [name for name in names if name != given]
        made = run.model.generate(test.select([given]), others, mean=True, generator=generator)
        groups |= {f"  {name} from {given}": levels(made[name][0].cpu(), 255) for name in others}
    save_named_rows(groups, path)
