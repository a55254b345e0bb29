"""A modality of columns, field by field: samples next to the data, and hidden values that are filled in."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import MvaeError
from mvae.evaluation.impute import between
from mvae.models.base import MultimodalVAE
from mvae.report.charts import as_dates, bars, histogram
from mvae.report.page import Chart, Grid, Section
from mvae.report.views import View

__all__ = ["Fill", "field_colours", "field_section", "filled_in", "observed", "without_field"]

FIELDS = 20  # the most fields that are shown
EXAMPLES = 6  # rows per field that are filled in
DRAWS = 400  # number of samples from the prior

#: Draws of a modality of columns given the rows' observed values, ``draws rows fields``
#: (`mvae.runs.answers.draws_given`).
Fill = Callable[[MultimodalVAE, Table, str, int], np.ndarray]


def observed(table: Table, name: str, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Values of a modality of columns and the mask of the observed ones, ``rows fields`` each."""
    values = np.asarray(table.select_rows(name, rows).double().cpu())
    mask = table.values_of(name, rows)
    here = table.has(name)[rows].numpy()[:, None]
    return values, np.broadcast_to(here, values.shape) & (True if mask is None else mask.cpu().numpy())


def without_field(table: Table, name: str, place: int, rows: Tensor) -> tuple[Table | None, Tensor]:
    """Rows with this field and something else observed, with the field hidden; and the numbers of these rows."""
    part = table.take(rows)
    everything = torch.arange(len(part))
    masks = {other: part.has(other).clone() for other in part.names}
    for other in part.names:
        own = part.values_of(other, everything)
        if own is not None:
            masks[other] = own & masks[other].reshape(-1, *[1] * (own.dim() - 1))
    there = observed(part, name, everything)[1]
    hidden = torch.from_numpy(there.copy())
    hidden[:, place] = False
    masks[name] = hidden
    left = torch.stack([mask.reshape(len(mask), -1).any(1) for mask in masks.values()]).any(0)
    kept = torch.from_numpy(there[:, place].copy()) & left
    if not kept.any():
        return None, rows[kept]
    columns = {other: part.select_rows(other, everything)[kept] for other in part.names}
    return Table(columns, {other: mask[kept] for other, mask in masks.items()}), rows[kept]


def filled_in(
    model: MultimodalVAE, table: Table, view: View, place: int, most: int, fill: Fill, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """True values of a field (``n``) and draws given everything else in their rows (``draws n``); None without any."""
    values, there = observed(table, view.name, torch.arange(min(len(table), 20 * most)))
    rows = torch.from_numpy(there[:, place].nonzero()[0])[:most]
    given, rows = without_field(table, view.name, place, rows) if len(rows) else (None, rows)
    if given is None:
        return None
    known = given.select([name for name in given.names if name in model.known])
    return values[rows.numpy(), place], fill(model, known, view.name, seed)[..., place]


def field_section(model: MultimodalVAE, table: Table | None, view: View, fill: Fill, seed: int = 0) -> Section:
    """Samples and filled-in values of each field.

    Args:
        model: a model that was trained on this modality of columns.
        table: held-out rows; None where the data is gone.
        view: view of the modality.
        fill: how hidden values are drawn.
        seed: seed of the draws.
    """
    section = Section(f"Modality: {view.name}")
    try:
        drawn = model.generate(of=[view.name], n=DRAWS, seed=seed)[view.name][:, 0].double().cpu().numpy()
    except MvaeError as error:
        section.text.append(f"No samples from the prior: {error}.")
        return section
    values, there = (None, None) if table is None else observed(table, view.name, torch.arange(min(len(table), 4096)))
    cells: list[list[object]] = []
    for i, field in enumerate(view.fields[:FIELDS]):
        data = None if values is None or there is None else values[there[:, i], i]
        section.shown.append(_spread(field, drawn[:, i], data))
        if table is not None and (found := filled_in(model, table, view, i, EXAMPLES, fill, seed)) is not None:
            cells += _cells(field, *found)
    if len(view.fields) > FIELDS:
        section.text.append(f"The first {FIELDS} of {len(view.fields)} columns are shown.")
    if cells:
        section.text.append("Below the charts, known cells of held-out rows are hidden and filled in from the rest.")
        header = ["column", "hidden value", "median, or most drawn class", "5 %, or share of draws", "95 %"]
        section.shown.append(Grid(header, cells))
    return section


def _spread(field: View, drawn: np.ndarray, data: np.ndarray | None) -> Chart:
    groups = {"samples": drawn} | ({} if data is None else {"data": data})
    if field.kind != "classes":
        return histogram(f"Samples of {field.name}", groups, field.name, dates=field.date)
    codes = range(max(len(field.classes), int(max(v.max(initial=0) for v in groups.values())) + 1))
    shares = {key: [float((v == code).mean()) if len(v) else 0.0 for code in codes] for key, v in groups.items()}
    names = [field.class_name(code) for code in codes]
    return bars(f"How often each class of {field.name} is drawn", names, shares, "share")


def _cells(field: View, truth: np.ndarray, draws: np.ndarray) -> list[list[object]]:
    found: list[list[object]] = []
    for row, value in enumerate(truth):
        own = draws[:, row]
        if field.kind == "classes":
            codes, counts = np.unique(own, return_counts=True)
            likeliest, share = field.class_name(int(codes[counts.argmax()])), float(counts.max() / len(own))
            found.append([field.name, field.class_name(int(value)), likeliest, share, None])
        else:
            ends = (float(end) for end in between(torch.tensor(own), 0.9))
            shown = np.array([value, np.median(own), *ends])
            found.append([field.name, *(as_dates(shown) if field.date else shown.tolist())])
    return found


def field_colours(table: Table, view: View) -> dict[str, list[object]]:
    """Colourings of the rows: by each of the first few fields."""
    values, there = observed(table, view.name, torch.arange(len(table)))
    found: dict[str, list[object]] = {}
    for i, field in enumerate(view.fields[:8]):
        pairs = zip(values[:, i].tolist(), there[:, i].tolist(), strict=True)
        found[field.name] = [_colour(field, value) if here else None for value, here in pairs]
    return found


def _colour(field: View, value: float) -> object:
    if field.kind == "classes":
        return field.class_name(int(value))
    return np.datetime64(int(value), "s") if field.date else float(value)
