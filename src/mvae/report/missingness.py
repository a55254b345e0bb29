"""A picture of what is missing together: a row per pattern, and a column per column of the table."""

from pathlib import Path

import numpy as np

from mvae.data.tables.describe import Description
from mvae.report.figure import plain, saved_figure

__all__ = ["draw_missingness"]

MOST = 60  # the most columns whose names are written


def draw_missingness(found: Description, path: Path) -> None:
    """Draw the most frequent patterns of missing columns, with heights by frequency, below each column's missing share.

    Raises:
        MissingDependencyError: matplotlib is not installed. RunError: the file cannot be written.
    """
    names = [column.name for column in found.columns]
    here = np.array([[name not in missing for name in names] for _, missing in found.patterns], float)
    often = [rows / found.rows for rows, _ in found.patterns]
    width = min(16.0, 3.0 + 0.22 * len(names))
    with saved_figure(path, figsize=(width, 5.0), layout="constrained") as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
        top.bar(range(len(names)), [column.missing for column in found.columns], color="#b5483a")
        top.set_ylabel("missing", fontsize=8)
        top.set_ylim(0, 1)
        edges = np.concatenate([[0.0], np.cumsum(often)])
        bottom.pcolormesh(np.arange(len(names) + 1) - 0.5, edges, here, cmap="Greys", vmin=-0.2, vmax=1.6)
        bottom.set_ylim(edges[-1], 0)
        bottom.set_ylabel("share of the rows", fontsize=8)
        bottom.set_title("white: missing", fontsize=8)
        if len(names) <= MOST:
            bottom.set_xticks(range(len(names)), map(plain, names), rotation=90, fontsize=7)
        for axis in (top, bottom):
            axis.tick_params(labelsize=7)
