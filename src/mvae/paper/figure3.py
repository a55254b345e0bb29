"""`mvae reproduce figure3`: accuracy against the paired fraction, our curves next to the published ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvae.paper.few_pairs import FRACTIONS, METRIC, STUDIES, WEAK_MODELS, accuracies, few_pairs, name_of_line
from mvae.paper.published import published_at
from mvae.paper.results import RowDict
from mvae.report.figure import saved_figure

COLOURS = {
    "logreg": "tab:olive",
    "rbm": "tab:green",
    "ae": "tab:pink",
    "vae": "tab:purple",
    "nn": "tab:blue",
    "jmvae": "tab:orange",
    "mvae": "tab:red",
}


def _draw(rows: Sequence[RowDict], path: Path) -> None:
    """Draw two panels per dataset: ours on the left (bars: standard errors over seeds), the paper's on the right."""
    found = [(name_of_line(one.row), one) for one in accuracies(rows) if one.row["metric"] == METRIC]
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
            printed = {} if dataset == "digits" else _published_curves(STUDIES[dataset].item)
            for model, values in printed.items():
                theirs.plot(FRACTIONS, values, label=model, **_style(model))
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


def _published_curves(item: str) -> dict[str, list[float | None]]:
    """Published accuracies at every level, of the models that the paper's table has."""
    curves = {model: [published_at(item, model, fraction) for fraction in FRACTIONS] for model in WEAK_MODELS}
    return {model: values for model, values in curves.items() if None not in values}


FIGURE3 = few_pairs(
    "figure3",
    "tables 8, 9 and 10 as curves next to the published ones, in RESULTS/figure3.png",
    "MNIST and FashionMNIST (downloaded where --data-dir has none)",
    ("mnist", "fashion-mnist", "multimnist"),
    draw=_draw,
)
