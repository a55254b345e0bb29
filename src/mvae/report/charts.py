"""Charts for a report: lines, bars, histograms, points and a heat map, as plain data for Plotly."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mvae.data.tables.dates import FIRST, LAST
from mvae.report.page import Chart, Grid

__all__ = ["as_dates", "bars", "heat_map", "histogram", "lines", "points"]

#: Okabe and Ito's colours, which people with any kind of colour vision can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
BINS = 30
MOST_POINTS = 1500
DAYS = 3  # over fewer days, the time of a date matters


def as_dates(seconds: np.ndarray) -> list[str]:
    """Seconds since 1970 as ISO dates; with the time if all lie within three days.

    >>> as_dates(np.array([0.0, 1e9])), as_dates(np.array([60.0]))
    (['1970-01-01', '2001-09-09'], ['1970-01-01 00:01'])
    """
    unit = "m" if np.ptp(seconds) < DAYS * 86_400 else "D"
    stamps = np.clip(seconds, FIRST, LAST).astype("int64").astype("datetime64[s]")
    return [text.replace("T", " ") for text in np.datetime_as_string(stamps, unit, casting="unsafe").tolist()]


def lines(
    title: str,
    named: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    y: str,
    note: str = "",
    diagonal: bool = False,
) -> Chart:
    """Curves over one axis; the table has a row for each of at most 25 positions on it."""
    traces = []
    for i, (name, points) in enumerate(named.items()):
        at = {"x": [_finite(a) for a, _ in points], "y": [_finite(b) for _, b in points]}
        traces.append(_trace("scatter", name, i, mode="lines+markers" if len(points) < 15 else "lines", **at))
    if diagonal:
        dotted = {"line": {"dash": "dot", "color": "#999999"}, "hoverinfo": "skip"}
        traces.append({"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "exact"} | dotted)
    places = sorted({a for points in named.values() for a, _ in points})
    places = places[:: max(1, math.ceil(len(places) / 25))]
    values = {name: dict(points) for name, points in named.items()}
    rows = [[place, *(values[name].get(place) for name in named)] for place in places]
    return Chart(title, traces, _layout(x, y, 2), Grid([x, *named], rows), note)  # a single curve has a legend, too


def bars(title: str, names: Sequence[str], groups: Mapping[str, Sequence[float]], y: str) -> Chart:
    """Groups of bars side by side, with one bar of each group per name."""
    shown = [_text(name) for name in names]
    traces = [
        _trace("bar", group, i, x=shown, y=[_finite(v) for v in values])
        for i, (group, values) in enumerate(groups.items())
    ]
    rows = [[name, *(values[i] for values in groups.values())] for i, name in enumerate(names)]
    layout: dict[str, Any] = _layout("", y, len(groups)) | {"barmode": "group"}
    layout["xaxis"]["type"] = "category"
    return Chart(title, traces, layout, Grid(["", *groups], rows))


def histogram(title: str, groups: Mapping[str, np.ndarray], x: str, dates: bool = False) -> Chart:
    """The distributions of several groups of values in the same bins; the table has their quantiles.

    Values that are ``dates`` are given in seconds since 1970.

    Bins go from the 0.5 % to the 99.5 % quantile of all values, so that one outlier does not hide the rest.
    """
    finite = {name: values[np.isfinite(values)].astype(float) for name, values in groups.items()}
    everything = np.concatenate(list(finite.values()))
    low, high = np.quantile(everything, (0.005, 0.995)) if len(everything) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    places = np.clip(centres, FIRST, LAST).astype("datetime64[s]").astype(str).tolist() if dates else centres.tolist()
    traces = []
    for i, (name, values) in enumerate(finite.items()):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        traces.append(_trace("bar", name, i, x=places, y=share.tolist(), opacity=0.6))
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows = []
    for name, v in finite.items():
        found = np.append(np.quantile(v, quantiles), v.mean()) if len(v) else np.empty(0)
        rows.append([name, len(v), *((as_dates(found) if dates else found.tolist()) if len(v) else [None] * 6)])
    table = Grid(["", "values", "5 %", "25 %", "median", "75 %", "95 %", "mean"], rows)
    layout: dict[str, Any] = _layout(x, "share of values", len(groups)) | {"barmode": "overlay", "bargap": 0}
    if dates:
        layout["xaxis"]["type"] = "date"
    return Chart(title, traces, layout, table)


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], values: np.ndarray, unit: str, note: str = ""
) -> Chart:
    """Numbers for pairs, shown as colours and text of their cells; NaN leaves a cell empty."""
    most = float(np.nanmax(np.abs(values), initial=1e-9))
    cells = [[_finite(float(v)) for v in row] for row in values]
    trace = {
        "type": "heatmap",
        "x": [_text(c) for c in columns],
        "y": [_text(r) for r in rows],
        "z": cells,
        "zmin": -most,
        "zmax": most,
        "colorscale": [[0, COLOURS[1]], [0.5, "#ffffff"], [1, COLOURS[0]]],
        "text": [["" if v is None else f"{v:.2f}" for v in row] for row in cells],
        "texttemplate": "%{text}",
        "colorbar": {"title": {"text": _text(unit)}},
        "hoverongaps": False,
    }
    layout = _layout("", "", 1)
    layout["yaxis"] |= {"autorange": "reversed", "type": "category", "automargin": True}
    layout["xaxis"] |= {"type": "category", "automargin": True}
    layout["plot_bgcolor"] = "#eeeeee"
    layout["height"] = max(320, 120 + 40 * len(rows))
    table = Grid(["", *columns], [[name, *(float(v) for v in row)] for name, row in zip(rows, values, strict=True)])
    return Chart(title, [trace], layout, table, note)


def points(
    title: str, places: np.ndarray, colourings: Mapping[str, Sequence[Any]], axes: tuple[str, str], note: str = ""
) -> Chart:
    """Points in a plane (``n 2``), coloured by one variable at a time, which a menu selects.

    A colouring is numbers or ``np.datetime64`` (a scale), or words (one colour each); None is grey. The table has the
    mean position of each.
    """
    places = places[:MOST_POINTS]
    traces, owners, rows = [], [], []
    for number, (name, values) in enumerate(colourings.items()):
        values = list(values)[:MOST_POINTS]
        for trace, where in _coloured(values, places):
            traces.append(trace | {"visible": number == 0})
            owners.append(number)
            if where is not None:
                rows.append([name, trace["name"], int(where.sum()), *places[where].mean(0).tolist()])
    buttons = [
        {"label": _text(name), "method": "update", "args": [{"visible": [owner == number for owner in owners]}]}
        for number, name in enumerate(colourings)
    ]
    layout: dict[str, Any] = _layout(*axes, 2) | {"height": 460}
    if len(buttons) > 1:
        layout["updatemenus"] = [{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}]
        layout["legend"] = {"itemsizing": "constant", "orientation": "h", "y": -0.2}
    return Chart(title, traces, layout, Grid(["coloured by", "", "rows", *axes], rows), note)


def _coloured(values: list[Any], places: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray | None]]:
    """The traces of one colouring, and a mask of the points of each."""
    found: list[tuple[dict[str, Any], np.ndarray | None]] = []
    known = np.array([value is not None for value in values], bool)
    numbers, dates = (
        all(isinstance(value, kind) for value in values if value is not None) for kind in (int | float, np.datetime64)
    )
    grey = {"color": "#cccccc", "size": 4}
    if not known.all():
        found.append((_dots("missing", places[~known], grey), ~known))
    if (numbers or dates) and known.any():
        level = np.array([value for value in values if value is not None]).astype(float)
        low, high = np.quantile(level, (0.02, 0.98))
        scale = {"cmin": float(low), "cmax": float(high), "showscale": True, "colorscale": "Viridis"}
        marker: dict[str, Any] = {"color": level.tolist(), "size": 5, **scale}
        if dates:
            ticks = np.linspace(low, high, 5)
            marker["colorbar"] = {"tickvals": ticks.tolist(), "ticktext": as_dates(ticks)}
        return [*found, (_dots("value", places[known], marker), known)]
    for i, word in enumerate(dict.fromkeys(sorted(str(v) for v in values if v is not None))):
        here = np.array([value is not None and str(value) == word for value in values], bool)
        marker = {"color": COLOURS[i % len(COLOURS)], "size": 5, "symbol": i // len(COLOURS)}
        found.append((_dots(word, places[here], marker), here))
    return found


def _dots(name: str, places: np.ndarray, marker: dict[str, Any]) -> dict[str, Any]:
    x, y = np.round(places, 4).T.tolist()
    return {"type": "scatter", "mode": "markers", "name": _text(name), "marker": marker, "x": x, "y": y}


def _trace(kind: str, name: str, number: int, **values: Any) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    paint = {"line": {"color": colour}} if kind == "scatter" else {"marker": {"color": colour}}
    return {"type": kind, "name": _text(name), **paint, **values}


def _layout(x: str, y: str, traces: int) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": _text(x)}, "automargin": True},
        "yaxis": {
            "title": {"text": _text(y)},
            "automargin": True,
            "rangemode": "nonnegative" if y == "accuracy" else "normal",
        },
        "showlegend": traces > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"t": 40, "r": 20, "b": 40, "l": 50},
        "template": None,
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif"},
    }


def _text(value: str) -> str:
    """Text escaped for Plotly, which would interpret tags."""
    return html.escape(str(value), quote=False)


def _finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return None if value is None or not math.isfinite(value) else float(value)
