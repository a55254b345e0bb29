"""Corrects a model's predictions by its errors on similar rows, for tables whose rows resemble each other closely.

A model learns what rows have in common and forgets single ones, so a near copy of a row says more about the row's
missing values. Observed numbers are hidden in turns and filled in. Each missing number then moves by the mean error of
the most similar rows, as far as the hidden numbers show that this helps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvae.modality.columns import ColumnsModality
from mvae.models.base import MultimodalVAE
from mvae.runs.answers import Answer, answers, rows_at_once
from mvae.runs.held_back import missing_together
from mvae.runs.intervals import LEVEL

__all__ = ["FEWEST", "NEIGHBOURS_AMONG", "Correction", "correction_of", "corrections"]

NEIGHBOURS_AMONG = 20_000  # similar rows are searched among this many consecutive rows of a table
FEWEST = 1_000  # below this number of rows nothing is corrected: errors of memorised rows mislead
TURNS, SAMPLES = 5, 100  # turns in which observed numbers are hidden; samples of z per row
CHECKED = 4_000  # rows, each with one turn's numbers hidden, on which the correction is chosen
TOGETHER = 256  # rows compared with all others at once
WAYS = ((8, 1e-3), (16, 1e-2), (32, 1e-1))  # number of neighbours, and what is added to their squared distances
CLEAR = 3.0  # standard errors from 0 that the slope of errors on neighbours' errors must have

Numbers = Float[np.ndarray, "rows numbers"]
Here = Bool[np.ndarray, "rows numbers"]


@dataclass(frozen=True, eq=False)
class Correction:
    """A correction of the missing numbers of some rows.

    Attributes:
        shift: modality → how far each number moves, in standard deviations of its field, ``rows fields``.
        factor: factor of the width of intervals: the ratio of errors after the correction to those before it.
        share: share of the neighbours' mean error that is used; 0: nothing changes.
    """

    shift: Mapping[str, Float[np.ndarray, "rows fields"]]
    factor: float = 1.0
    share: float = 0.0

    def of(self, rows: slice) -> "Correction":
        """The correction of some of the rows."""
        return replace(self, shift={name: own[rows] for name, own in self.shift.items()})

    def applied(self, model: MultimodalVAE, found: Mapping[str, Answer]) -> dict[str, Answer]:
        """The corrected answers for these rows; a draw at an end of the possible range (no rain) stays there."""
        if not self.share:
            return dict(found)
        return {name: self._applied(_columns(model, name), answer, self.shift[name]) for name, answer in found.items()}

    def _applied(self, modality: ColumnsModality, answer: Answer, shift: np.ndarray) -> Answer:
        draws = _as_features(modality, answer.draws.reshape(-1, shift.shape[1])).reshape(answer.draws.shape)
        middle = _as_features(modality, answer.point)  # not the mean of these draws, which may be few
        moved = _in_units(modality, middle + self.factor * (draws - middle) + shift, answer.draws, whole=True)
        low, high = (end.cpu().numpy() for end in modality.scaling.ends)
        inside = (answer.draws > low) & (answer.draws < high)
        points = _in_units(modality, middle + shift, answer.point)
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
    places, shift = _places(model, of), {name: np.zeros(present[name].shape) for name in of}
    here = _side_by_side(present, places)
    if (rows := len(here)) < FEWEST or not here.any() or here.all():
        return Correction(shift)
    truth = np.where(here, _features(model, values, places), 0.0)
    group = missing_together(here)
    turn = np.random.default_rng(seed).integers(TURNS, size=(rows, group.max() + 1))[:, group]
    errors = np.full(here.shape, np.nan)
    for number in range(TURNS):
        hidden = here & (turn == number)
        guess = _guessed(model, values, _without(present, places, hidden), of, places, seed)
        errors[hidden] = (truth - guess)[hidden]
    guess = _guessed(model, values, present, of, places, seed)
    rows_alike = _Neighbours(np.where(here, truth, guess), errors)
    way, share, factor = _decided(rows_alike, here, turn, seed)
    if not share:
        return Correction(shift)
    lacking = np.flatnonzero(~here.all(1))
    moved = np.zeros(here.shape)
    moved[lacking] = share * rows_alike.errors_of(lacking, here[lacking], [way])[0]
    moved[here] = 0.0
    for i, (name, place) in enumerate(places):
        shift[name][:, place] = moved[:, i]
    return Correction(shift, factor, share)


def _decided(
    rows_alike: "_Neighbours", here: Here, turn: Int[np.ndarray, "rows numbers"], seed: int
) -> tuple[tuple[int, float], float, float]:
    """The way (number of neighbours), the share of their error that is used, and the factor by which errors shrink."""
    generator = np.random.default_rng(seed)
    rows, number = generator.integers(len(here), size=CHECKED), generator.integers(TURNS, size=CHECKED)
    hidden = here[rows] & (turn[rows] == number[:, None])
    own, best = rows_alike.errors[rows][hidden], (WAYS[0], 0.0, 1.0, 0.0)
    for way, found in zip(WAYS, rows_alike.errors_of(rows, here[rows] & ~hidden, WAYS), strict=True):
        theirs = found[hidden]
        if (size := (theirs**2).sum()) <= 0:
            continue
        share, noise = (theirs * own).sum() / size, np.sqrt((theirs**2 * own**2).sum()) / size
        gain = share * size * share  # in squared errors
        if share > CLEAR * noise and gain > best[-1]:
            share = min(1.0, float(share))
            factor = np.quantile(np.abs(own - share * theirs), LEVEL) / np.quantile(np.abs(own), LEVEL)
            best = way, share, float(min(1.0, factor)), gain
    return best[:3]


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
    seed: int,
) -> Numbers:
    """The model's means of all numbers, as features (standardised)."""
    parts: list[dict[str, np.ndarray]] = []
    step = rows_at_once(model, values, SAMPLES)
    for start in range(0, len(present[of[0]]), step):
        rows = slice(start, start + step)
        x, here = ({name: own[rows] for name, own in mapping.items()} for mapping in (values, present))
        found = answers(model, x, here, of, SAMPLES, seed, draws=0)
        parts.append({name: answer.point for name, answer in found.items()})
    points = {name: np.concatenate([part[name] for part in parts]) for name in of}
    return _features(model, points, places)


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
