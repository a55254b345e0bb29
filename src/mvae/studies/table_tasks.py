"""Further tasks on tables: predicting the target of rows with holes, and finding outliers; with their baselines.

The target is hidden in a fifth of the rows. Planted outliers are rows in which a third of the values come from another
row: each value is usual by itself. Natural outliers are a few rows of one class among those of another.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from mvae.data.fields import Field
from mvae.studies.table_sets import Holes, Whole

FOREST, HGB = "IsolationForest", "HistGradientBoosting"
ASKED = 5  # the target is hidden in one row in this many
OUTLIERS = 0.05  # of the rows
SWAPPED = 3  # one value in this many is replaced


def with_target(holes: Holes, found: Whole, seed: int) -> Holes:
    """Add the target as the last column, hidden in a fifth of the rows; other hidden cells are not scored."""
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
    """The accuracy over the rows with a hidden target, or the RMSE in standard deviations."""
    asked, truth = ~holes.observed[:, -1], holes.truth[:, -1]
    if holes.fields[-1].kind == "categorical":
        return {"accuracy": float((answer == truth)[asked].mean())}
    return {"target error": float(np.sqrt(np.mean((answer - truth)[asked] ** 2)) / truth.std())}


def target_of_boosting(holes: Holes, seed: int) -> Float[np.ndarray, "rows"]:
    """Targets predicted by scikit-learn's boosted trees with its defaults, which accept missing values."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    known, x, y = holes.observed[:, -1], holes.truth[:, :-1], holes.truth[:, -1]
    classes = holes.fields[-1].kind == "categorical"
    own = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return own(random_state=seed).fit(x[known], y[known]).predict(x).astype(np.float64)


def planted(found: Whole, seed: int) -> tuple[Float[np.ndarray, "rows fields"], Bool[np.ndarray, "rows"]]:
    """The values with some rows mixed from two, and which rows those are."""
    generator, values = np.random.default_rng(seed), found.values.copy()
    odd = generator.random(len(values)) < OUTLIERS
    odd[0] = True  # at least one
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
    """The AUROC of scikit-learn's IsolationForest with its defaults."""
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(odd, -IsolationForest(random_state=seed).fit(values).score_samples(values)))
