"""Logistic regression from features of x1 to the class x2, learned from the pairs alone (Sec. 5.1)."""

import warnings
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mvae.data.dataset import Dataset
from mvae.data.masking import complete_rows, pair_fraction
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.paper.baselines.features import Features

STRENGTHS = (1.0, 10.0, 0.1, 0.01)  # C, one over the weight of the squared norm; scikit-learn's default first
FOLDS = 5
ENOUGH = 1_000  # validation pairs that suffice to choose the strength
ITERATIONS = 300  # of L-BFGS; stopping there regularises a little more


def logistic_accuracy(features: Features, splits: Dataset, fraction: float, seed: int = 0, shift: int = 0) -> float:
    """The test accuracy of a classifier trained on a fraction of the pairs.

    The pairs are those that an MVAE of the same seed is given (`mvae.data.masking`). The strength of regularisation is
    the one with the highest accuracy on the pairs among the validation rows; if these are few, on them and on the
    training pairs in five-fold cross-validation. Ties go to the first of `STRENGTHS`.
    ``shift``: training also uses each image of a pair shifted up, down, left and right by this number of pixels.

    Raises:
        DataError: x2 is not one class per row, or x1 is to be shifted but is not an image. SettingsError: the fraction
            leaves no pair to learn from.

    >>> from mvae.paper.baselines.features import pixels
    >>> from mvae.paper.datasets import digits
    >>> logistic_accuracy(pixels, digits.load(), 0.1) > 0.8
    True
    """
    train = complete_rows(pair_fraction(splits.train, fraction, seed))
    if train is None:
        raise SettingsError(f"{fraction:g} of {len(splits.train)} rows leave no pair to learn from")
    copies = shifted_copies(train, shift) if shift else [train]
    x, y = np.concatenate([features(copy) for copy in copies]), np.tile(_classes(train), len(copies))
    image = np.tile(np.arange(len(train)), len(copies))
    validation = complete_rows(pair_fraction(splits.validation, fraction, seed))
    strengths = [c / len(copies) for c in STRENGTHS]  # an image and its copies together weigh as much as one image
    found = {c: _classifier(x, y, c) for c in strengths}
    right = dict.fromkeys(strengths, 0.0)
    if validation is not None:
        known = features(validation), _classes(validation)
        right = {c: classifier.score(*known) * len(validation) for c, classifier in found.items()}
    if validation is None or len(validation) < ENOUGH:
        right = {c: right[c] + _right_in_folds(x, y, image, c) / len(copies) for c in strengths}
    best = max(strengths, key=lambda c: right[c])  # the first, if several are equal
    return float(found[best].score(features(splits.test), _classes(splits.test)))


def _classifier(x: np.ndarray, y: np.ndarray, strength: float) -> Any:
    """A fitted classifier; if all rows are of one class, it always predicts that class."""
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y)) == 1:
        return DummyClassifier(strategy="most_frequent").fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(x, y)


def _right_in_folds(x: np.ndarray, y: np.ndarray, image: np.ndarray, strength: float) -> float:
    """The number of rows predicted right by a classifier trained without their image and its copies."""
    right = 0.0
    for fold in range(FOLDS):
        out = image % FOLDS == fold
        if out.any() and not out.all():
            right += (_classifier(x[~out], y[~out], strength).predict(x[out]) == y[out]).sum()
    return float(right)


def shifted_copies(table: Table, pixels: int) -> list[Table]:
    """The table, and four copies with all images shifted by this number of pixels; zeros come in from the edge.

    Raises:
        DataError: the first modality is not an image.

    >>> table = Table({"image": torch.tensor([[[1, 2], [3, 4]]])})
    >>> [copy.columns["image"].tolist() for copy in shifted_copies(table, 1)[1:3]]
    [[[[0, 0], [1, 2]]], [[[3, 4], [0, 0]]]]
    """
    first = table.names[0]
    image = torch.as_tensor(table.columns[first])
    if image.dim() < 3:
        raise DataError(
            f"{first} is not an image, so it cannot be shifted by pixels: shape {tuple(image.shape[1:])} per row"
        )
    framed = F.pad(image, (pixels,) * 4)
    height, width = image.shape[-2:]
    places = [(pixels, pixels), (0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels)]
    return [
        Table({**table.columns, first: framed[..., top : top + height, left : left + width]}) for top, left in places
    ]


def _classes(table: Table) -> np.ndarray:
    second = table.names[1]
    column = np.asarray(table.columns[second])
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise DataError(f"{second} is not one class per row: logistic regression cannot predict it")
    return column
