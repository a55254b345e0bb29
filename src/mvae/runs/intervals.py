"""Intervals that hold what they say: their width is learned from a few values that training does not see.

A model that has learned the training rows partly by heart is too sure of what these rows lack. Rows of their own for
validation do not show it, as they are not learned by heart. So a few values all over the training rows are hidden
from training (`mvae.runs.held_back`); afterwards they are filled in, and draws are stretched about their mean, or drawn
in (`mvae.Columns.stretch`), by the factor with which 90 % of the intervals hold the hidden value.
"""

from typing import Any

import numpy as np
import torch

from mvae.data.fields import SCALED
from mvae.data.table import Table
from mvae.data.tables.tensors import arrays_of
from mvae.modality.columns import ColumnsModality
from mvae.models.base import MultimodalVAE
from mvae.runs.answers import SAMPLES, Answer, answers, rows_at_once
from mvae.runs.held_back import Held, held_back
from mvae.training.fit import History, fit
from mvae.training.settings import TrainingSettings

__all__ = ["fit_holding_back", "stretch_draws"]

LEAST = 40  # hidden values of a modality, below which nothing is learned from them
LEVEL = 0.9  # of the intervals
OFTEN = 0.05  # share of a column's values at the least or the largest possible one, from which on it is left out
BOUNDS = 0.5, 3.0  # of the factor


def fit_holding_back(
    model: MultimodalVAE, table: Table, settings: TrainingSettings, *, seed: int = 0, **how: Any
) -> History:
    """`mvae.fit` on what `held_back` leaves of a table; then `stretch_draws`, unless it was interrupted.

    Args:
        model: with modalities of columns.
        table: the rows to learn from.
        settings: how to train.
        seed: of what is held back, too.
        how: whatever else `mvae.fit` takes.

    Raises:
        SettingsError, DataError, RunError, TrainingError: as `mvae.fit`.
    """
    shown, held = held_back(table, seed)
    history = fit(model, shown, settings, seed=seed, **how)
    if not history.interrupted:
        stretch_draws(model, table, held, seed)
    return history


def stretch_draws(model: MultimodalVAE, table: Table, held: Held, seed: int = 0) -> None:
    """Learn how far draws of each modality of columns are to be stretched, in place.

    Args:
        model: trained on what `held_back` left.
        table: what `held_back` was given.
        held: what it hid.
        seed: of the draws.
    """
    beyond: dict[str, list[np.ndarray]] = {}
    rows = np.flatnonzero(np.logical_or.reduce([mask.any(1) for mask in held.values()])) if held else np.empty(0, int)
    for name in (n for n in held if n in model.modalities):  # a VAE has one
        if isinstance(modality := model.modalities[name], ColumnsModality):
            modality.stretch.fill_(1.0)
            beyond[name] = []
    step = rows_at_once(model, table.columns)
    for part in np.split(rows, range(step, len(rows), step)) if beyond and len(rows) else []:
        some = table.take(torch.from_numpy(part))
        values, present = arrays_of(some)
        given = present | {name: present[name] & ~hidden[part] for name, hidden in held.items()}
        found = answers(model, values, given, list(beyond), SAMPLES, seed)
        for name, ratios in beyond.items():
            ratios.append(_beyond(model.modalities[name], values[name], found[name], held[name][part]))  # pyright: ignore
    for name, ratios in beyond.items():
        every = np.concatenate(ratios) if ratios else np.empty((0, 0))
        at_end = (every == 0).sum(0) / np.maximum(1, (~np.isnan(every)).sum(0))
        known = (own[~np.isnan(own)] for own in (every[:, at_end < OFTEN], every))
        known = next((own for own in known if len(own) >= LEAST), np.empty(0))
        if len(known):
            model.modalities[name].stretch.fill_(float(np.clip(np.quantile(known, LEVEL), *BOUNDS)))  # pyright: ignore


def _beyond(modality: ColumnsModality, x: np.ndarray, answer: Answer, hidden: np.ndarray) -> np.ndarray:
    """How far hidden numbers are from the mean of their draws, where 1 is the end of the interval; as modelled.

    A number at the least or the largest possible value counts as inside (0) where the interval reaches that value.
    NaN where no number was hidden: ``rows fields``.
    """

    def modelled(numbers: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(numbers.reshape(-1, x.shape[1]))
        return modality.scaling.standardised(flat).numpy().reshape(numbers.shape)

    scaled = np.array([field.kind in SCALED for field in modality.fields])
    least, most = (end.cpu().numpy() for end in modality.scaling.ends)
    low, high = answer.between(LEVEL)
    x = np.where(hidden, x, answer.draws[0])
    at_end = ((x <= least) & (low <= least)) | ((x >= most) & (high >= most))
    u, mean = modelled(x), modelled(answer.draws).mean(0)
    width = np.where(u > mean, modelled(high) - mean, mean - modelled(low))
    counted = hidden & scaled & ((width > 0) | at_end)
    far = np.where(at_end, 0.0, np.abs(u - mean)) / np.where(at_end | ~counted, 1.0, width)
    return np.where(counted, far, np.nan)
