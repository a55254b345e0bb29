"""Common methods of filling in a table, with one signature: ``(values with NaN, fields, seed) → values``."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mvae.data.fields import CLASSED, Field
from mvae.data.tables.frames import pandas
from mvae.errors import MissingDependencyError

COMPLETED, DRAWN = 5, 20  # tables completed by miceforest, and by a ridge with draws
Matrix = Float[np.ndarray, "rows fields"]


def mean(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """Fill in the mean of numbers, the most frequent class, the median of ordered classes."""
    found = x.copy()
    for i, field in enumerate(fields):
        seen = x[~np.isnan(x[:, i]), i]
        if field.kind == "ordinal":
            fill = np.median(seen)
        else:
            fill = np.bincount(seen.astype(int)).argmax() if field.kind in (*CLASSED, "binary") else seen.mean()
        found[np.isnan(x[:, i]), i] = fill
    return found


def knn(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """scikit-learn's KNNImputer with ten rows, on standardised numbers and a column for each class but the first."""
    from sklearn.impute import KNNImputer

    return _by(KNNImputer(n_neighbors=10), x, fields)


def ridge(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """scikit-learn's IterativeImputer with a Bayesian ridge regression."""
    return _by(_iterative(seed), x, fields)


def ridge_with_draws(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """The mean of 20 tables drawn by the same imputer, each value from its predictive distribution."""
    return _by(_MeanOfDraws(seed), x, fields)


def trees(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """scikit-learn's IterativeImputer with 50 extremely random trees, as missForest does it."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(50, min_samples_leaf=2, n_jobs=1, random_state=seed)
    return _by(_iterative(seed, forest, max_iter=5), x, fields)


def miceforest(x: Matrix, fields: Sequence[Field], seed: int) -> Matrix:
    """The mean (for classes, the mode) of five tables completed by miceforest, each in five rounds of boosted trees.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        forests: Any = importlib.import_module("miceforest")
    except ImportError:
        why = "this baseline needs miceforest: pip install miceforest 'lightgbm<4.6'"
        raise MissingDependencyError(why) from None
    frame = pandas().DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    classes = [i for i, field in enumerate(fields) if field.kind == "categorical"]
    for i in classes:
        frame[f"x{i}"] = frame[f"x{i}"].astype("Int64").astype("category")
    kernel = forests.ImputationKernel(frame, num_datasets=COMPLETED, random_state=seed)
    kernel.mice(5, num_threads=1)
    made = np.stack([kernel.complete_data(k).astype(np.float64).to_numpy() for k in range(COMPLETED)])
    found = made.mean(0)
    for i in classes:
        found[:, i] = [np.bincount(own).argmax() for own in made[:, :, i].astype(int).T]
    return rounded(found, x, fields)


#: Name in the results → baseline; miceforest only if it is requested.
BASELINES: dict[str, Callable[[Matrix, Sequence[Field], int], Matrix]] = {
    "mean": mean,
    "kNN": knn,
    "iterated ridge": ridge,
    "ridge with draws": ridge_with_draws,
    "iterated trees": trees,
    "miceforest": miceforest,
}


def _iterative(seed: int, estimator: object = None, max_iter: int = 10, **options: Any) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return IterativeImputer(estimator, max_iter=max_iter, random_state=seed, **options)


@dataclass(frozen=True)
class _MeanOfDraws:
    seed: int

    def fit_transform(self, x: Matrix) -> Matrix:
        drawn = (_iterative(DRAWN * self.seed + i, sample_posterior=True) for i in range(DRAWN))
        return np.mean([imputer.fit_transform(x) for imputer in drawn], 0)


def _by(imputer: Any, x: Matrix, fields: Sequence[Field]) -> Matrix:
    """Apply an imputer to standardised numbers and a column for each class but the first, and convert back.

    With a column for the first class, too, each would be determined by the others, and iterations would never leave
    their first guess.
    """
    parts, widths = [], []
    center, scale = np.nanmean(x, 0), np.nanstd(x, 0)
    scale[scale == 0] = 1
    for i, field in enumerate(fields):
        here = ~np.isnan(x[:, i])
        if field.kind == "categorical":
            part = np.full((len(x), (field.classes or 0) - 1), np.nan)
            part[here] = np.eye(field.classes or 0)[x[here, i].astype(int), 1:]
            seen = part[here].any(0)
            part[:, ~seen] = 0
        else:
            part = (x[:, i : i + 1] - center[i]) / scale[i]
        parts.append(part)
        widths.append(part.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about not having converged
        filled = imputer.fit_transform(np.concatenate(parts, 1))
    found, first = x.copy(), 0
    for i, (field, width) in enumerate(zip(fields, widths, strict=True)):
        own, first = filled[:, first : first + width], first + width
        gone = np.isnan(x[:, i])
        if field.kind == "categorical":
            found[gone, i] = np.c_[1 - own.sum(1), own][gone].argmax(1)
        else:
            found[gone, i] = own[gone, 0] * scale[i] + center[i]
    return rounded(found, x, fields)


def rounded(found: Matrix, x: Matrix, fields: Sequence[Field]) -> Matrix:
    """Round filled-in classes to valid class numbers."""
    for i, field in enumerate(fields):
        if field.kind in (*CLASSED, "binary"):
            gone = np.isnan(x[:, i])
            found[gone, i] = found[gone, i].round().clip(0, (field.classes or 2) - 1)
    return found
