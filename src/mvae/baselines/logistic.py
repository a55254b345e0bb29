"""Logistic regression from features of x1 to the class x2, learned from the pairs alone (Sec. 5.1)."""

import warnings

import numpy as np

from mvae.baselines.features import Features
from mvae.data.splits import Splits
from mvae.data.table import Table
from mvae.data.weak import complete_rows, weak_supervision
from mvae.errors import DataError, SettingsError

__all__ = ["accuracy"]

STRENGTHS = (1.0, 10.0, 0.1, 0.01)  # C, one over the weight of the squared norm; scikit-learn's own first
ITERATIONS = 300  # of L-BFGS; stopped there, it is a little more regular


def accuracy(features: Features, splits: Splits, fraction: float, seed: int = 0) -> float:
    """The share of test rows whose class is predicted right, after learning from a fraction of the pairs.

    The pairs are those that an MVAE of the same seed is given (`mvae.data.weak`). The strength of regularisation is
    chosen by accuracy on the pairs among the validation rows; among equals, or without a pair, the default is.

    Raises:
        DataError: x2 is not one class a row. SettingsError: the level leaves no pair to learn from.

    >>> from mvae.baselines.features import pixels
    >>> from mvae.data import digits
    >>> accuracy(pixels, digits.load(), 0.1) > 0.8
    True
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train = complete_rows(weak_supervision(splits.train, fraction, seed))
    if train is None:
        raise SettingsError(f"{fraction:g} of {len(splits.train)} rows leave no pair to learn from")
    x, y = features(train), _classes(train)
    if len(set(y.tolist())) == 1:  # so few pairs that all are of one class
        found = [DummyClassifier(strategy="most_frequent").fit(x, y)]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = [LogisticRegression(C=c, max_iter=ITERATIONS).fit(x, y) for c in STRENGTHS]
    best = found[0]
    validation = complete_rows(weak_supervision(splits.validation, fraction, seed))
    if validation is not None and len(found) > 1:
        x, y = features(validation), _classes(validation)
        best = max(found, key=lambda classifier: classifier.score(x, y))
    return float(best.score(features(splits.test), _classes(splits.test)))


def _classes(table: Table) -> np.ndarray:
    second = table.names[1]
    column = np.asarray(table.columns[second])
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise DataError(f"{second} is not one class a row: logistic regression cannot predict it")
    return column
