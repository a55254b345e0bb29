"""Draws of one modality next to the data: from the prior, given the other modalities, and given itself."""

import numpy as np
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import MvaeError
from mvae.models.base import MultimodalVAE
from mvae.report.charts import bars, histogram
from mvae.report.fields import Fill, field_section
from mvae.report.page import Chart, Grid, Picture, Section
from mvae.report.views import View

__all__ = ["modality_section"]

DRAWN = 400  # samples from the prior, except of pictures and text
PICTURES = 24
EXAMPLES = 8  # rows that are shown one by one
DRAWS = 5  # draws per picture given the others
INTERVAL = 200  # draws of numbers and classes, for intervals and shares
COLUMNS = 6  # the most columns of numbers that are shown
NAMED = 25  # the most classes that a chart has room for


def modality_section(model: MultimodalVAE, table: Table | None, view: View, fill: Fill, seed: int = 0) -> Section:
    """Samples, conditional samples and reconstructions of a modality.

    Args:
        model: any model.
        table: held-out rows; None where the data is gone: then only samples from the prior are shown.
        view: view of the modality.
        fill: how hidden values of columns are drawn.
        seed: seed of the draws.
    """
    section, name, picture = Section(f"Modality: {view.name}"), view.name, view.kind == "picture"
    if name not in model.answerable:
        section.text.append(f"No training row had {name}: its networks are untrained, and nothing is drawn.")
        return section
    if view.kind == "table":
        return field_section(model, table, view, fill, seed)
    data = None if table is None or name not in table.columns else _present(table, name, 4096)
    try:
        n = PICTURES if picture else EXAMPLES if view.kind == "text" else DRAWN
        drawn = model.generate(of=[name], n=n, mean=picture, seed=seed)[name][:, 0]
        section.shown += _spread(view, drawn, data)
    except MvaeError as error:
        section.text.append(f"No samples from the prior: {error}.")
    if table is None or data is None:
        return section
    others = [other for other in model.known if other != name and other in table.columns]
    for given, n, title in ((others, DRAWS, "given the other modalities"), ([name], 1, "reconstructed from itself")):
        rows = _rows_with(table, name, given)
        if not len(rows):
            continue
        truth, known = table.select_rows(name, rows), table.take(rows).select(given)
        n = n if picture else 1 if view.kind == "text" else INTERVAL
        try:
            drawn = model.generate(known, of=[name], n=n, mean=picture, seed=seed)[name]
        except MvaeError as error:
            section.text.append(f"Not {title}: {error}.")
        else:
            section.shown += _examples(view, truth, drawn, given, title)
    return section


def _present(table: Table, name: str, most: int) -> Tensor:
    rows = table.has(name).nonzero().flatten()[:most]
    return table.select_rows(name, rows)


def _rows_with(table: Table, name: str, given: list[str]) -> Tensor:
    """The first rows that have the modality and something to condition on."""
    has = torch.stack([table.has(other) for other in given]).any(0) if given else torch.zeros(len(table)).bool()
    return (has & table.has(name)).nonzero().flatten()[:EXAMPLES]


def _spread(view: View, drawn: Tensor, data: Tensor | None) -> list[Chart | Picture | Grid]:
    """Samples from the prior next to the data."""
    if view.kind == "picture":
        title = "Samples: z from the prior, and the mean image of each z"
        return [Picture(title, view.images(drawn), 8, f"{len(drawn)} images of {view.name}, drawn with nothing given.")]
    if view.kind == "text":
        return [Grid([f"samples of {view.name}"], [[text] for text in view.words(drawn)])] if view.write else []
    if view.kind == "classes" and drawn.dim() == 1:
        return [_classes(view, drawn, data)]
    if view.kind == "classes":
        return []
    groups = {"samples": view.numbers(drawn)} | ({} if data is None else {"data": view.numbers(data)})
    if view.kind == "flags":
        shares = {name: np.nanmean(values, 0)[:NAMED].tolist() for name, values in groups.items()}
        return [bars(f"Share of yes in {view.name}", view.columns[:NAMED], shares, "share")]
    return [
        histogram(f"Samples of {column}", {name: values[:, i] for name, values in groups.items()}, column)
        for i, column in enumerate(view.columns[:COLUMNS])
    ]


def _classes(view: View, drawn: Tensor, data: Tensor | None) -> Chart:
    count = max(len(view.classes), int(drawn.max()) + 1, 0 if data is None else int(data.max()) + 1)
    groups = {"samples": drawn} | ({} if data is None else {"data": data})
    shares = {name: torch.bincount(v.long().cpu(), minlength=count).double() / len(v) for name, v in groups.items()}
    order = range(count)
    if count > NAMED:
        order = shares[next(reversed(shares))].argsort(descending=True)[:NAMED].tolist()
    shown = {name: [float(share[code]) for code in order] for name, share in shares.items()}
    names = [view.class_name(code) for code in order]
    return bars(f"How often each class of {view.name} is drawn", names, shown, "share")


def _examples(view: View, truth: Tensor, drawn: Tensor, given: list[str], title: str) -> list[Picture | Grid]:
    """Some held-out rows, one by one: the true values and the model's draws."""
    name, n, rows = view.name, len(drawn), len(truth)
    if view.kind == "picture":
        images = torch.cat([view.images(truth)[None], view.images(drawn).reshape(n, rows, *view.shape)])
        words = f"First line: the data. Below: {n} draw{'s' if n > 1 else ''} for each ({', '.join(given)} given)."
        return [Picture(f"Held-out rows of {name}, {title}", images.flatten(0, 1), rows, words)]
    if view.kind == "text":
        pairs = zip(view.words(truth), view.words(drawn[0]), strict=True)
        return [Grid([f"{name}: data", title], list(pairs))] if view.write else []
    if view.kind == "classes":
        header = [f"row: {name}", f"most drawn, {title}", "share of draws"]
        return [Grid(header, _votes(view, truth, drawn))] if truth.dim() == 1 else []
    real, draws = view.numbers(truth), view.numbers(drawn, 2)
    low, middle, high = np.quantile(draws, (0.05, 0.5, 0.95), axis=0)
    if view.kind == "flags":
        columns = list(enumerate(view.columns[:COLUMNS]))
        cells = [[c, bool(real[r, i]), float(draws[:, r, i].mean())] for r in range(rows) for i, c in columns]
        return [Grid(["", f"{name}: data", f"share of yes, {title}"], cells)]
    cells = [
        [column, float(real[r, i]), float(middle[r, i]), float(low[r, i]), float(high[r, i])]
        for i, column in enumerate(view.columns[:COLUMNS])
        for r in range(rows)
    ]
    return [Grid(["", f"{name}: data", f"median, {title}", "5 %", "95 %"], cells)]


def _votes(view: View, truth: Tensor, drawn: Tensor) -> list[list[object]]:
    found = []
    for row, code in enumerate(truth.tolist()):
        counts = torch.bincount(drawn[:, row].long().cpu())
        share = float(counts.max() / counts.sum())
        found.append([view.class_name(int(code)), view.class_name(int(counts.argmax())), share])
    return found
