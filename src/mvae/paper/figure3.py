"""Figure 3: accuracy against the paired fraction, our curves next to the published ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvae.paper.published import published_at
from mvae.paper.summary import Summary
from mvae.report.figure import saved_figure

__all__ = ["draw_accuracies"]

COLOURS = {
    "logreg": "tab:olive",
    "rbm": "tab:green",
    "ae": "tab:pink",
    "vae": "tab:purple",
    "nn": "tab:blue",
    "jmvae": "tab:orange",
    "mvae": "tab:red",
}


def draw_accuracies(
    found: Sequence[tuple[str, Summary]],
    path: Path,
    tables: Mapping[str, str],
    models: Sequence[str],
    fractions: Sequence[float],
) -> None:
    """Draw two panels per dataset: ours on the left (bars: standard errors over seeds), the paper's on the right.

    Args:
        found: the accuracies, each with the name of its curve.
        path: the PNG.
        tables: dataset → the table that its published values are in.
        models, fractions: those of the tables.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    datasets = list(dict.fromkeys(one.row["dataset"] for _, one in found))
    with saved_figure(path, figsize=(11, 4.2 * len(datasets))) as figure:
        axes = figure.subplots(len(datasets), 2, sharex=True, sharey="row", squeeze=False)
        for (ours, theirs), dataset in zip(axes, datasets, strict=True):
            own = [(name, one) for name, one in found if one.row["dataset"] == dataset]
            for name in dict.fromkeys(name for name, _ in own):
                curve = [one for other, one in own if other == name]
                points = sorted((one.row["settings"]["pairs"], one.value, one.stderr or 0.0) for one in curve)
                style = _style(curve[0].row["model"]) | {"linestyle": "--" if name == "mvae, paper" else "-"}
                ours.errorbar(*zip(*points, strict=True), label=name, **style)
            ours.set_title(f"{dataset}: measured here", fontsize=10)
            printed = _published_curves(tables[dataset], models, fractions) if dataset in tables else {}
            for model, values in printed.items():
                theirs.plot(fractions, values, label=model, **_style(model))
            if printed:
                theirs.set_title(f"{dataset}: published", fontsize=10)
            else:
                theirs.axis("off")
            for axis in (ours, theirs):
                _finish(axis)
            ours.set_ylabel("accuracy of x2 from x1")


def _finish(axis: Any) -> None:
    axis.set_xscale("log")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.tick_params(labelbottom=True)
    axis.set_xlabel("share of rows that are pairs")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="lower right")


def _style(model: str) -> dict[str, Any]:
    return {"color": COLOURS[model], "marker": "o", "markersize": 3.5, "linewidth": 2.2 if model == "mvae" else 1.1}


def _published_curves(item: str, models: Sequence[str], fractions: Sequence[float]) -> dict[str, list[float]]:
    """Published accuracies at every level, of the models that the paper's table has."""
    curves = {model: [published_at(item, model, fraction) for fraction in fractions] for model in models}
    return {model: [v for v in values if v is not None] for model, values in curves.items() if None not in values}
