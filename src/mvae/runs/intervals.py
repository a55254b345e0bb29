"""Calibrated intervals: their width is learned from a few values that are held out from training.

A model that has partly memorised the training rows is over-confident about their missing values. Separate validation
rows do not show this, because they are not memorised. So a few values all over the training rows are hidden from
training (`mvae.runs.held_back`). Afterwards they are filled in, and draws are stretched about their mean, or shrunk
towards it (`mvae.Columns.stretch`), by the factor with which 90 % of the intervals cover the hidden value.
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

LEAST = 40  # below this number of hidden values of a modality, nothing is learned from them
LEVEL = 0.9  # the level of the intervals
OFTEN = 0.05  # a column is left out from this share of values at the least or the largest possible one
BOUNDS = 0.5, 3.0  # the range of the factor


def fit_holding_back(
    model: MultimodalVAE, table: Table, settings: TrainingSettings, *, seed: int = 0, **how: Any
) -> History:
    """Train with `mvae.fit` on what `held_back` leaves of a table; then `stretch_draws`, unless it was interrupted.

    Args:
        model: a model with modalities of columns.
        table: the rows to learn from.
        settings: how to train.
        seed: seed of the training, and of what is held back.
        how: other arguments of `mvae.fit`.

    Raises:
        SettingsError, DataError, RunError, TrainingError: as `mvae.fit`.
    """
    shown, held = held_back(table, seed)
    history = fit(model, shown, settings, seed=seed, **how)
    if not history.interrupted:
        stretch_draws(model, table, held, seed)
    return history


def stretch_draws(model: MultimodalVAE, table: Table, held: Held, seed: int = 0) -> None:
    """Learn how far the draws of each modality of columns are to be stretched, in place.

    Args:
        model: a model trained on what `held_back` left.
        table: the table that `held_back` was given.
        held: the values that it hid.
        seed: seed of the draws.
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
    """The distance of hidden numbers from the mean of their draws, ``rows fields``, on the scale that is modelled.

    A distance of 1 is the end of the interval. A number at the least or the largest possible value counts as inside
    (0) where the interval reaches that value. NaN where no number was hidden.
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
