"""A run's learning curves as a picture, from `metrics.jsonl`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mvae.errors import RunError
from mvae.report.figure import plain, saved_figure
from mvae.report.history import metric_points

__all__ = ["draw_curves"]

PANELS: dict[str, Callable[[str], bool]] = {
    "validation objective, nats (β = 1)": lambda name: name == "validation/objective",
    "KL from the prior, nats": lambda name: name.startswith("validation/kl complete/"),
    "coupling C, nats": lambda name: name == "validation/coupling",
    "accuracy of one from another": lambda name: name.startswith("validation/accuracy "),
}


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw objective, KLs, coupling and accuracies on the validation rows at every epoch, as one PNG.

    The first tenth of the epochs is left out for the objective, because it would dwarf the rest.

    Raises:
        RunError: no epoch has ended yet. MissingDependencyError: matplotlib is not installed.
    """
    if not rows:
        raise RunError("the run has no metrics yet: its first epoch has not ended")
    names = list(dict.fromkeys(name for row in rows for name in row))
    panels = {title: [n for n in names if wanted(n)] for title, wanted in PANELS.items()}
    panels = {title: found for title, found in panels.items() if found}
    with saved_figure(path, figsize=(3.6 * max(1, len(panels)), 2.8), layout="constrained") as figure:
        for i, (title, found) in enumerate(panels.items()):
            axis = figure.add_subplot(1, len(panels), i + 1)
            for name in found:
                label = plain(name.split("/")[-1].removeprefix("accuracy "))
                axis.plot(*zip(*metric_points(rows, name), strict=True), linewidth=1, label=label)
            if len(found) > 1:
                axis.legend(fontsize=7)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("epoch", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.3)
