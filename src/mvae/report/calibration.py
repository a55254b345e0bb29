"""Calibration of the model's intervals and probabilities, on held-out values given everything else."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import MvaeError
from mvae.evaluation.impute import between
from mvae.models.base import MultimodalVAE
from mvae.report.charts import lines
from mvae.report.fields import FIELDS, Fill, filled_in
from mvae.report.page import Section
from mvae.report.views import View

__all__ = ["calibration_section", "coverage", "reliability"]

ROWS = 300
DRAWS = 200
LEAST = 20  # the fewest values from which a share is computed
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BINS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

Curve = list[tuple[float, float]]


def coverage(truth: np.ndarray, draws: np.ndarray, levels: Sequence[float] = LEVELS) -> Curve:
    """The share of true values (``n``) inside the intervals (`between`) of their draws (``draws n``), at each level.

    Counts are spread evenly over one unit, because an interval may need only a part of a whole number's probability.

    >>> coverage(np.array([0.5, 9.0]), np.linspace(0, 1, 101)[:, None].repeat(2, 1), [0.9])
    [(0.9, 0.5)]
    """
    known, found = np.isfinite(truth), []
    if (draws == np.round(draws)).all():
        jitter = np.random.default_rng(0)
        truth, draws = (x + jitter.uniform(-0.5, 0.5, x.shape) for x in (truth, draws))
    for level in levels:
        low, high = (end.numpy() for end in between(torch.tensor(draws), level))
        found.append((level, float(((truth >= low) & (truth <= high))[known].mean())))
    return found


def reliability(confidence: np.ndarray, right: np.ndarray) -> Curve:
    """Mean confidence and accuracy of predictions, in bins of confidence with enough of them.

    >>> reliability(np.full(40, 0.75), np.arange(40) < 30)
    [(0.75, 0.75)]
    """
    found = []
    for low, high in pairwise(BINS):
        here = (confidence > low) & (confidence <= high)
        if here.sum() >= LEAST:
            found.append((float(confidence[here].mean()), float(right[here].mean())))
    return found


def calibration_section(
    model: MultimodalVAE, table: Table, views: Sequence[View], fill: Fill, seed: int = 0
) -> Section:
    """Coverage of intervals for numbers, and accuracy against confidence for classes and flags.

    Args:
        model: any model.
        table: held-out rows.
        views: views of the modalities.
        fill: how hidden values of columns are drawn.
        seed: seed of the draws.
    """
    section = Section("Calibration")
    intervals: dict[str, Curve] = {}
    values: dict[str, int] = {}  # number of values, by curve of coverage
    sure: dict[str, Curve] = {}
    for view in views:
        if view.name not in table.columns:
            continue
        measured = (
            _of_fields(model, table, view, fill, seed) if view.kind == "table" else _of_values(model, table, view, seed)
        )
        try:
            for name, curve, count in measured:
                if count is not None:
                    intervals[name], values[name] = curve, count
                elif curve:
                    sure[name] = curve
        except MvaeError as error:
            section.text.append(f"{view.name}: {error}.")
    if intervals:
        note = (
            "Below the dotted line, intervals are too narrow: the model is over-confident. Above it, they are too wide."
        )
        title = "Coverage of intervals for held-out numbers, given everything else"
        section.shown.append(lines(title, intervals, "nominal level", "coverage", note, diagonal=True))
        verdicts = [_verdict(name, dict(curve)[0.9], values[name]) for name, curve in intervals.items()]
        section.text += [said for said, _ in verdicts]
        section.faults += [said for said, wrong in verdicts if wrong]
    if sure:
        title = "Accuracy against confidence of held-out classes, given everything else"
        note = "Below the dotted line, the model is over-confident."
        section.shown.append(lines(title, sure, "mean probability of the prediction", "accuracy", note, diagonal=True))
    if not (intervals or sure or section.text):
        section.text.append(
            f"There is too little to measure: no number or class was held out in {LEAST} rows or more that have "
            "something to predict it from."
        )
    return section


def _of_values(model: MultimodalVAE, table: Table, view: View, seed: int) -> Iterator[tuple[str, Curve, int | None]]:
    """A modality's name and curve, and for coverage its number of values (None for a curve of confidence)."""
    others = [name for name in model.known if name != view.name and name in table.columns]
    if view.kind in ("picture", "text") or not others:
        return
    has = table.has(view.name) & torch.stack([table.has(name) for name in others]).any(0)
    rows = has.nonzero().flatten()[:ROWS]
    if len(rows) < LEAST:
        return
    truth, known = table.select_rows(view.name, rows), table.take(rows).select(others)
    if view.kind == "numbers":
        draws = model.generate(known, of=[view.name], n=DRAWS, seed=seed)[view.name]
        numbers = view.numbers(truth).ravel()
        curve = coverage(numbers, view.numbers(draws, 2).reshape(DRAWS, -1))
        yield view.name, curve, int(np.isfinite(numbers).sum())
    else:
        yield view.name, _sureness(model, known, truth, view, seed), None


def _of_fields(
    model: MultimodalVAE, table: Table, view: View, fill: Fill, seed: int
) -> Iterator[tuple[str, Curve, int | None]]:
    """`_of_values` for each field of a modality of columns, given everything else in its rows."""
    for i, field in enumerate(view.fields[:FIELDS]):
        found = filled_in(model, table, view, i, ROWS, fill, seed)
        if found is None or len(found[0]) < LEAST:
            continue
        truth, draws = found
        if field.kind == "numbers":
            yield field.name, coverage(truth, draws), len(truth)
        else:
            shares = np.stack([(draws == code).mean(0) for code in range(int(draws.max()) + 1)], -1)
            yield field.name, reliability(shares.max(-1), shares.argmax(-1) == truth), None


def _sureness(model: MultimodalVAE, known: Table, truth: Tensor, view: View, seed: int) -> Curve:
    probabilities = model.predict(known, of=view.name, n=50, seed=seed).double().cpu()
    if view.kind == "classes":
        confidence, code = probabilities.max(-1)
        return reliability(confidence.flatten().numpy(), (code == truth.cpu()).flatten().numpy())
    p, yes = view.numbers(probabilities).ravel(), view.numbers(truth).ravel() > 0.5
    return reliability(np.maximum(p, 1 - p), (p > 0.5) == yes)


def _verdict(name: str, share: float, values: int) -> tuple[str, bool]:
    """A sentence on a column's 90 % intervals, and whether they are wrong by more than two standard errors."""
    chance = 2 * math.sqrt(0.9 * 0.1 / values)
    said = f"90 % intervals of {name} cover {share:.0%} of {values:,} held-out values"
    if share < min(0.8, 0.9 - chance):
        return f"{said}: too narrow, so do not rely on them.", True
    wide = share > max(0.97, 0.9 + chance)
    return f"{said}{': too wide' if wide else ''}.", wide
