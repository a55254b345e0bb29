"""Figure 3: accuracy against the share of pairs, our curves beside the published ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvae.errors import MissingDependencyError
from mvae.paper.published import published_at
from mvae.paper.weak import LEVELS, METRIC, MODELS, STUDIES, Summary

__all__ = ["draw"]

COLOURS = {
    "logreg": "tab:olive",
    "rbm": "tab:green",
    "ae": "tab:pink",
    "vae": "tab:purple",
    "nn": "tab:blue",
    "jmvae": "tab:orange",
    "mvae": "tab:red",
}


def draw(found: Sequence[Summary], path: Path) -> None:
    """A row of two panels a dataset: ours on the left (bars: standard errors over seeds), the paper's on the right.

    Raises:
        MissingDependencyError: matplotlib is absent.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingDependencyError("figures need matplotlib: pip install 'mvae[plots]'") from None
    found = [one for one in found if one.metric == METRIC]
    datasets = list(dict.fromkeys(one.dataset for one in found))
    figure, axes = plt.subplots(
        len(datasets), 2, figsize=(11, 4.2 * len(datasets)), sharex=True, sharey="row", squeeze=False
    )
    for (ours, theirs), dataset in zip(axes, datasets, strict=True):
        own = [one for one in found if one.dataset == dataset]
        for name in dict.fromkeys(one.name for one in own):
            points = sorted((one for one in own if one.name == name), key=lambda one: one.level)
            ours.errorbar(
                [one.level for one in points],
                [one.value for one in points],
                [one.stderr or 0.0 for one in points],
                label=name,
                linestyle="--" if name == "mvae, paper" else "-",
                **_style(points[0].model),
            )
        ours.set_title(f"{dataset}: measured here", fontsize=10)
        printed = _printed(STUDIES[dataset].item) if dataset != "digits" else {}
        for model, values in printed.items():
            theirs.plot(LEVELS, values, label=model, **_style(model))
        if printed:
            theirs.set_title(f"{dataset}: published", fontsize=10)
        else:
            theirs.axis("off")
        for axis in (ours, theirs):
            axis.set_xscale("log")
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("share of rows that are pairs")
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8, loc="lower right")
        ours.set_ylabel("accuracy of x2 from x1")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _style(model: str) -> dict[str, Any]:
    return {"color": COLOURS[model], "marker": "o", "markersize": 3.5, "linewidth": 2.2 if model == "mvae" else 1.1}


def _printed(item: str) -> dict[str, list[float]]:
    """Published accuracies at every level, of the models that the paper's table has."""
    curves = {model: [published_at(item, model, level) for level in LEVELS] for model in MODELS}
    return {model: [v for v in values if v is not None] for model, values in curves.items() if None not in values}
