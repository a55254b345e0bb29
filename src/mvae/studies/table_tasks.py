"""What else is asked of tables: the target of rows with holes, and which rows are outliers; beside scikit-learn's best.

A fifth of the rows are asked for their target, which the others have. Planted outliers are rows of which a third of the
values come from another row: each is usual by itself. Natural ones are a few rows of one class among those of another.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from mvae.data.fields import Field
from mvae.studies.table_sets import Holes, Whole

__all__ = [
    "FOREST",
    "HGB",
    "auroc_of_forest",
    "planted",
    "rare_class",
    "target_error",
    "target_of_boosting",
    "with_target",
]

FOREST, HGB = "IsolationForest", "HistGradientBoosting"
ASKED = 5  # one row in so many
OUTLIERS = 0.05  # of the rows
SWAPPED = 3  # one value in so many


def with_target(holes: Holes, found: Whole, seed: int) -> Holes:
    """The same with the target as its last column, hidden in a fifth of the rows, and with no other truth asked for."""
    rows = len(holes.truth)
    asked = np.random.default_rng(seed).permutation(rows) < rows // ASKED
    target = Field("target", "categorical", classes=found.classes) if found.classes else Field("target")
    truth = np.where(holes.observed, holes.truth, np.nan)
    return replace(
        holes,
        fields=(*holes.fields, target),
        truth=np.c_[truth, found.target[:rows].astype(np.float64)],
        observed=np.c_[holes.observed, ~asked],
    )


def target_error(holes: Holes, answer: Float[np.ndarray, "rows"]) -> dict[str, float]:
    """Of the rows that were asked: the share of right classes, or the error in standard deviations."""
    asked, truth = ~holes.observed[:, -1], holes.truth[:, -1]
    if holes.fields[-1].kind == "categorical":
        return {"accuracy": float((answer == truth)[asked].mean())}
    return {"target error": float(np.sqrt(np.mean((answer - truth)[asked] ** 2)) / truth.std())}


def target_of_boosting(holes: Holes, seed: int) -> Float[np.ndarray, "rows"]:
    """scikit-learn's boosted trees with its defaults, which take missing values as they are."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    known, x, y = holes.observed[:, -1], holes.truth[:, :-1], holes.truth[:, -1]
    classes = holes.fields[-1].kind == "categorical"
    own = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return own(random_state=seed).fit(x[known], y[known]).predict(x).astype(np.float64)


def planted(found: Whole, seed: int) -> tuple[Float[np.ndarray, "rows fields"], Bool[np.ndarray, "rows"]]:
    """The values, some rows of which are a mixture of two, and which."""
    generator, values = np.random.default_rng(seed), found.values.copy()
    odd = generator.random(len(values)) < OUTLIERS
    odd[0] = True  # one at least
    for row in np.flatnonzero(odd):
        columns = generator.permutation(values.shape[1])[: max(1, values.shape[1] // SWAPPED)]
        values[row, columns] = found.values[generator.integers(len(values)), columns]
    return values, odd


def rare_class(found: Whole, seed: int) -> tuple[Float[np.ndarray, "rows fields"], Bool[np.ndarray, "rows"]]:
    """All rows of the most frequent class and a few of the least frequent one, and which those are."""
    often = np.bincount(found.target)
    usual, rare = np.flatnonzero(found.target == often.argmax()), np.flatnonzero(found.target == often.argmin())
    few = np.random.default_rng(seed).permutation(rare)[: max(1, round(OUTLIERS * len(usual)))]
    rows = np.sort(np.r_[usual, few])
    return found.values[rows], np.isin(rows, few)


def auroc_of_forest(values: Float[np.ndarray, "rows fields"], odd: Bool[np.ndarray, "rows"], seed: int) -> float:
    """scikit-learn's IsolationForest with its defaults."""
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(odd, -IsolationForest(random_state=seed).fit(values).score_samples(values)))
