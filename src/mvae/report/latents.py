"""A map of rows in the latent space: posterior means on their two main axes, coloured by any modality."""

from collections.abc import Sequence

import numpy as np
import torch

from mvae.data.table import Table
from mvae.errors import MvaeError
from mvae.models.base import MultimodalVAE
from mvae.report.charts import points
from mvae.report.fields import field_colours
from mvae.report.page import Section
from mvae.report.views import View

__all__ = ["latents_section", "main_axes"]

ROWS = 1500
NAMED = 16  # the most classes that colours can distinguish


def main_axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions ``n 2`` of ``n dimensions`` points on their two main axes (PCA), and the axes' shares of variance.

    >>> places, shares = main_axes(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    >>> np.abs(places).round(6).tolist(), shares.round(6).tolist()
    ([[1.0, 0.0], [1.0, 0.0]], [1.0, 0.0])
    """
    centred = values - values.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    places, shares = np.zeros((len(values), 2)), np.zeros(2)
    count = min(2, len(size))
    places[:, :count] = left[:, :count] * size[:count]
    shares[:count] = size[:count] ** 2 / max(float((size**2).sum()), 1e-300)
    return places, shares


def latents_section(model: MultimodalVAE, table: Table, views: Sequence[View]) -> Section:
    """The map of held-out rows as a section."""
    section, table = Section("Latents in two dimensions"), table.first(ROWS)
    try:
        mean = model.posterior(table).mean
    except MvaeError as error:
        section.text.append(f"Not shown: {error}.")
        return section
    places, shares = main_axes(mean.double().cpu().numpy())
    axes = tuple(f"axis {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares.tolist()))
    colourings = {}
    for view in views:
        if view.kind == "table" and view.name in table.columns:
            colourings |= field_colours(table, view)
        elif view.name in table.columns and view.kind != "text":
            colourings |= _colouring(table, view)
    colourings = colourings or {"": [0.0] * len(table)}
    note = "Each point is a held-out row: the mean of q(z | its values), on the two axes along which rows differ most."
    section.shown.append(points("Posterior means of held-out rows", places, colourings, axes, note))  # pyright: ignore
    return section


def _colouring(table: Table, view: View) -> dict[str, list[object]]:
    """Colourings of rows by a modality: classes, a picture's mean level, or the first few numbers or flags."""
    here = table.has(view.name)
    values = table.select_rows(view.name, torch.arange(len(table)))
    if view.kind == "classes":
        if values.dim() > 1 or len(set(values[here].tolist())) > NAMED:
            return {}
        return {view.name: [view.class_name(int(v)) if h else None for v, h in zip(values, here, strict=True)]}
    if view.kind == "picture":
        level = values.double().flatten(1).mean(1) / view.levels
        return {f"{view.name} (mean level)": _known(level.numpy(), here)}
    numbers = view.numbers(values)
    if view.kind == "flags":
        return {
            column: [("yes" if v > 0.5 else "no") if h else None for v, h in zip(numbers[:, i], here, strict=True)]
            for i, column in enumerate(view.columns[:4])
        }
    return {column: _known(numbers[:, i], here) for i, column in enumerate(view.columns[:4])}


def _known(values: np.ndarray, here: torch.Tensor) -> list[object]:
    return [float(v) if h and np.isfinite(v) else None for v, h in zip(values.tolist(), here.tolist(), strict=True)]
