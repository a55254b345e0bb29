"""Corrects a model's predictions by its errors on similar rows, for tables whose rows resemble each other closely.

A model learns what rows have in common and forgets single ones, so a near copy of a row says more about the row's
missing values. Observed numbers are hidden in turns and filled in. Each missing number then moves by the mean error of
the most similar rows, or towards the number in the row's copies, as far as the hidden numbers show that this helps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvae.modality.columns import ColumnsModality
from mvae.models.base import MultimodalVAE
from mvae.runs.answers import Answer, answers, rows_at_once
from mvae.runs.copies import TOGETHER, Copies
from mvae.runs.held_back import missing_together
from mvae.runs.intervals import LEVEL

__all__ = ["FEWEST", "NEIGHBOURS_AMONG", "Correction", "correction_of", "corrections"]

NEIGHBOURS_AMONG = 20_000  # similar rows are searched among this many consecutive rows of a table
FEWEST = 1_000  # below this number of rows nothing is corrected: errors of memorised rows mislead
TURNS, SAMPLES = 5, 100  # turns in which observed numbers are hidden; samples of z per row
CHECKED = 4_000  # rows, each with one turn's numbers hidden, on which the correction is chosen
WAYS = ((8, 1e-3), (16, 1e-2), (32, 1e-1))  # number of neighbours, and what is added to their squared distances
NARROWEST = 0.05  # least factor of the width of intervals: copies that agree so far may not always
CLEAR = 3.0  # standard errors from 0 that the slope of errors on expected errors must have

Numbers = Float[np.ndarray, "rows numbers"]
Here = Bool[np.ndarray, "rows numbers"]


@dataclass(frozen=True, eq=False)
class Correction:
    """A correction of the missing numbers of some rows.

    Attributes:
        shift: modality → how far each number moves, in standard deviations of its field, ``rows fields``; empty:
            nothing changes.
        factor: modality → factor of the width of each number's interval, ``rows fields``.
        number: modality → each number as its row's copies have it, standardised, instead of a shift; NaN: they do not.
    """

    shift: Mapping[str, Float[np.ndarray, "rows fields"]] = field(default_factory=dict)
    factor: Mapping[str, Float[np.ndarray, "rows fields"]] = field(default_factory=dict)
    number: Mapping[str, Float[np.ndarray, "rows fields"]] = field(default_factory=dict)

    def of(self, rows: slice | Int[np.ndarray, " rows"]) -> "Correction":
        """The correction of some of the rows."""
        parts = (self.shift, self.factor, self.number)
        return Correction(*({name: own[rows] for name, own in part.items()} for part in parts))

    def applied(self, model: MultimodalVAE, found: Mapping[str, Answer]) -> dict[str, Answer]:
        """The corrected answers for these rows; a draw at an end of the possible range (no rain) stays there."""
        return {
            name: self._applied(_columns(model, name), answer, name) if name in self.shift else answer
            for name, answer in found.items()
        }

    def _applied(self, modality: ColumnsModality, answer: Answer, name: str) -> Answer:
        shift, factor, number = self.shift[name], self.factor[name], self.number[name]
        draws = _as_features(modality, answer.draws.reshape(-1, shift.shape[1])).reshape(answer.draws.shape)
        middle = _as_features(modality, answer.point)  # not the mean of these draws, which may be few
        center = np.where(np.isnan(number), middle + shift, number)
        moved = _in_units(modality, center + factor * (draws - middle), answer.draws, whole=True)
        low, high = (end.cpu().numpy() for end in modality.scaling.ends)
        inside = (answer.draws > low) & (answer.draws < high)
        points = _in_units(modality, center, answer.point)
        return replace(answer, point=points, draws=np.where(inside, moved, answer.draws))


def corrections(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    of: Sequence[str],
    step: int,
    seed: int = 0,
) -> Iterator[tuple[slice, Correction]]:
    """`correction_of` for any number of rows; yields ``step`` rows and their correction at a time."""
    rows = len(next(iter(present.values())))
    for start in range(0, rows, NEIGHBOURS_AMONG):
        end = min(start + NEIGHBOURS_AMONG, rows)
        among = ({name: own[start:end] for name, own in mapping.items()} for mapping in (values, present))
        found = correction_of(model, *among, of=of, seed=seed)
        for first in range(start, end, step):
            last = min(first + step, end)
            yield slice(first, last), found.of(slice(first - start, last - start))


def correction_of(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    of: Sequence[str],
    seed: int = 0,
) -> Correction:
    """The correction of these rows' missing numbers by their neighbours; with fewer than 1,000 rows there is none.

    Args:
        model: a model with modalities of columns.
        values: modality → values, as `answers` takes them.
        present: modality → which values are observed.
        of: the modalities of columns.
        seed: seed of the turns and of the draws.
    """
    places = _places(model, of)
    here = _side_by_side(present, places)
    if (rows := len(here)) < FEWEST or not here.any() or here.all():
        return Correction()
    truth = np.where(here, _features(model, values, places), 0.0)
    group = missing_together(here)
    turn = np.random.default_rng(seed).integers(TURNS, size=(rows, group.max() + 1))[:, group]
    errors = np.full(here.shape, np.nan)
    for number in range(TURNS):
        hidden = here & (turn == number)
        guess = _guessed(
            model, values, _without(present, places, hidden), of, places, np.flatnonzero(hidden.any(1)), seed
        )
        errors[hidden] = (truth - guess)[hidden]
    lacking = np.flatnonzero(~here.all(1))
    guess = _guessed(model, values, present, of, places, lacking, seed)
    rows_alike, copies = _Neighbours(np.where(here, truth, guess), errors), Copies(truth, here)
    way, by_rows, by_copies = _decided(rows_alike, copies, truth, here, turn, seed)
    if not by_rows.share and not by_copies.share:
        return Correction()
    shift, factor, number = np.zeros(here.shape), np.full(here.shape, by_rows.factor), np.full(here.shape, np.nan)
    shift[lacking] = by_rows.share * rows_alike.errors_of(lacking, here[lacking], [way])[0]
    if by_copies.share:
        theirs = copies.numbers_of(lacking, here[lacking])
        number[lacking] = guess[lacking] + by_copies.share * (theirs - guess[lacking])
        factor[~np.isnan(number)] = by_copies.factor
    return Correction(*(_by_modality(found, present, places) for found in (shift, factor, number)))


@dataclass(frozen=True)
class _Fit:
    """The share of an expected error that is best subtracted, and what this gains.

    Attributes:
        share: the share; 0: none.
        factor: factor by which errors shrink.
        gain: decrease of the sum of squared errors.
    """

    share: float = 0.0
    factor: float = 1.0
    gain: float = 0.0

    @classmethod
    def of(cls, own: Float[np.ndarray, "cells"], expected: Float[np.ndarray, "cells"]) -> "_Fit":
        """Fit errors by a share, from 0 to 1, of the expected ones; 0 if it is not clearly positive."""
        if (size := (expected**2).sum()) <= 0:
            return cls()
        share, noise = (expected * own).sum() / size, np.sqrt((expected**2 * own**2).sum()) / size
        if share <= CLEAR * noise:
            return cls()
        left = own - min(1.0, float(share)) * expected
        before, after = (float(np.quantile(np.abs(errors), LEVEL)) for errors in (own, left))
        factor = min(1.0, max(NARROWEST, after / before)) if before else 1.0
        return cls(min(1.0, float(share)), factor, _gain(own, left))


def _gain(before: Float[np.ndarray, "cells"], after: Float[np.ndarray, "cells"]) -> float:
    """The decrease of the sum of squared errors."""
    return float((before**2).sum() - (after**2).sum())


def _decided(
    rows_alike: "_Neighbours",
    copies: Copies,
    truth: Numbers,
    here: Here,
    turn: Int[np.ndarray, "rows numbers"],
    seed: int,
) -> tuple[tuple[int, float], _Fit, _Fit]:
    """The way (number of neighbours), and how errors are corrected by neighbours, and by copies where there are any."""
    generator = np.random.default_rng(seed)
    rows, number = generator.integers(len(here), size=CHECKED), generator.integers(TURNS, size=CHECKED)
    hidden = here[rows] & (turn[rows] == number[:, None])
    seen, errors = here[rows] & ~hidden, rows_alike.errors[rows]
    own, ways = errors[hidden], [found[hidden] for found in rows_alike.errors_of(rows, seen, WAYS)]
    of_copies = (copies.numbers_of(rows, seen) - (truth[rows] - errors))[hidden]
    copied = ~np.isnan(of_copies)

    def best(cells: Bool[np.ndarray, "cells"]) -> tuple[int, _Fit]:
        fits = [_Fit.of(own[cells], found[cells]) for found in ways]
        return max(enumerate(fits), key=lambda fit: fit[1].gain)

    (chosen, by_rows), by_copies = best(np.ones_like(copied)), _Fit.of(own[copied], of_copies[copied])
    if by_copies.gain > _gain(own[copied], own[copied] - by_rows.share * ways[chosen][copied]):
        chosen, by_rows = best(~copied)
    else:
        by_copies = _Fit()
    return WAYS[chosen], by_rows, by_copies


class _Neighbours:
    """Rows with everything filled in, and the model's error for each number; NaN where the number is missing."""

    def __init__(self, filled: Numbers, errors: Numbers):
        self.errors = errors
        self._filled = torch.from_numpy(filled.astype(np.float32))
        self._errors = torch.from_numpy(np.nan_to_num(errors).astype(np.float32))
        self._known = torch.from_numpy(~np.isnan(errors)).float()

    def errors_of(
        self, rows: Int[np.ndarray, " queries"], seen: Here, ways: Sequence[tuple[int, float]]
    ) -> list[Numbers]:
        """For each way, the mean error of the rows most similar in the observed numbers; 0 where no error is known."""
        parts: list[list[Tensor]] = [[] for _ in ways]
        for start in range(0, len(rows), TOGETHER):
            part = slice(start, start + TOGETHER)
            distance, nearest = self._nearest(torch.from_numpy(rows[part]), torch.from_numpy(seen[part]), ways)
            for (most, least), found in zip(ways, parts, strict=True):
                weight = 1 / (distance[:, :most] + least)
                known = torch.einsum("qm,qmn->qn", weight, self._known[nearest[:, :most]])
                total = torch.einsum("qm,qmn->qn", weight, self._errors[nearest[:, :most]])
                found.append(torch.where(known > 0, total / known.clamp(min=1e-30), 0.0))
        return [torch.cat(found).double().numpy() if found else np.zeros((0, self.errors.shape[1])) for found in parts]

    def _nearest(self, rows: Tensor, seen: Tensor, ways: Sequence[tuple[int, float]]) -> tuple[Tensor, Tensor]:
        """The nearest rows: mean squared distances over the observed numbers, ascending, and row indices."""
        weight, x = seen.float(), self._filled
        own = weight * x[rows]
        distance = own.square().sum(1, keepdim=True) - 2 * own @ x.T + weight @ x.T.square()
        distance = distance.clamp(min=0) / weight.sum(1, keepdim=True)  # NaN for a row with nothing observed
        distance[torch.arange(len(rows)), rows] = torch.inf
        distance = distance.nan_to_num(torch.inf, torch.inf)
        found = distance.topk(min(max(most for most, _ in ways), x.shape[0] - 1), largest=False)
        return found.values, found.indices


def _places(model: MultimodalVAE, of: Sequence[str]) -> list[tuple[str, int]]:
    """The modality and index of each field of numbers."""
    found = []
    for name in of:
        scaling = _columns(model, name).scaling
        found += [(name, i) for i in torch.nonzero(scaling.scaled | scaling.counted).flatten().tolist()]
    return found


def _columns(model: MultimodalVAE, name: str) -> ColumnsModality:
    modality = model.modalities[name]
    assert isinstance(modality, ColumnsModality)
    return modality


def _side_by_side(of: Mapping[str, np.ndarray], places: Sequence[tuple[str, int]]) -> np.ndarray:
    return np.stack([of[name][:, i] for name, i in places], 1) if places else np.zeros((0, 0), bool)


def _by_modality(
    found: Numbers, present: Mapping[str, np.ndarray], places: Sequence[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """Numbers side by side as ``rows fields`` of each modality; NaN for its other fields."""
    apart = {name: np.full(present[name].shape, np.nan) for name, _ in places}
    for number, (name, i) in enumerate(places):
        apart[name][:, i] = found[:, number]
    return apart


def _without(
    present: Mapping[str, np.ndarray], places: Sequence[tuple[str, int]], hidden: Here
) -> dict[str, np.ndarray]:
    """The masks of what is observed and not hidden."""
    found = {name: mask.copy() for name, mask in present.items()}
    for number, (name, i) in enumerate(places):
        found[name][:, i] &= ~hidden[:, number]
    return found


def _guessed(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    of: Sequence[str],
    places: Sequence[tuple[str, int]],
    wanted: Int[np.ndarray, " wanted"],
    seed: int,
) -> Numbers:
    """The model's means of all numbers of the wanted rows, as features (standardised); NaN in all other rows."""
    guess = np.full((len(present[of[0]]), len(places)), np.nan)
    step = rows_at_once(model, values, SAMPLES)
    for start in range(0, len(wanted), step):
        rows = wanted[start : start + step]
        x, here = ({name: own[rows] for name, own in mapping.items()} for mapping in (values, present))
        found = answers(model, x, here, of, SAMPLES, seed, draws=0)
        guess[rows] = _features(model, {name: answer.point for name, answer in found.items()}, places)
    return guess


def _features(model: MultimodalVAE, values: Mapping[str, np.ndarray], places: Sequence[tuple[str, int]]) -> Numbers:
    """Numbers standardised on the scale of their field; missing ones may have any value."""
    found = {name: _as_features(_columns(model, name), values[name]) for name in {name for name, _ in places}}
    return _side_by_side(found, places)


def _as_features(modality: ColumnsModality, x: Float[np.ndarray, "rows fields"]) -> Float[np.ndarray, "rows fields"]:
    scaling = modality.scaling
    moved = torch.from_numpy(np.asarray(x, np.float64)).to(scaling.mean.device)
    return scaling.as_features(scaling.standardised(moved)).cpu().numpy()


def _in_units(
    modality: ColumnsModality, features: np.ndarray, others: np.ndarray, *, whole: bool = False
) -> np.ndarray:
    """Numbers in the user's units, with the classes of ``others``; ``whole`` rounds counts."""
    scaling = modality.scaling
    u = torch.from_numpy(features).to(scaling.mean.device)
    count = (u * scaling.std + scaling.mean).expm1().clamp(min=0)
    count = count.round() if whole else count
    own = scaling.near_training(torch.where(scaling.counted, count, scaling.in_units(u)))
    number = (scaling.scaled | scaling.counted).cpu().numpy()
    return np.where(number, own.cpu().numpy(), others)
