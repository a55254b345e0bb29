"""scikit-learn estimators that impute, transform, classify and regress from rows with missing values.

They take arrays (all numbers, NaN means missing) and data frames of pandas, polars or PyArrow, whose columns may be of
any kind (`mvae describe` shows which; if all are numbers, they are real unless ``kinds`` says otherwise). Answers are
means and probabilities under fixed noise, so that a row's answer depends on that row alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mvae.arguments import require_whole_number
from mvae.data.tables.column import ALONE
from mvae.data.tables.frames import DataFrame, as_frame, checked_names, of_frame, pandas, stacked
from mvae.data.tables.schema import Kind, TableSchema
from mvae.errors import DataError, SettingsError, abridged
from mvae.runs.answers import Answer, answers, latents
from mvae.runs.fit_table import fit_table
from mvae.runs.tables import TableModel

__all__ = ["MVAEClassifier", "MVAEImputer", "MVAERegressor", "MVAETransformer"]

TARGET = "target of mvae.sklearn"  # the name of y's column
LEAST = 3  # rows needed for training


class _Estimator(BaseEstimator):
    """What all estimators share: settings, training, and the conversion of rows to the model's input."""

    model_: TableModel
    n_features_in_: int

    def __init__(
        self,
        *,
        epochs: Any = None,
        latents: Any = None,
        kinds: Any = None,
        samples: Any = 100,
        random_state: Any = None,
    ):
        self.epochs = epochs
        self.latents = latents
        self.kinds = kinds
        self.samples = samples
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = False
        return tags

    def _learn(self, frame: DataFrame, kinds: Mapping[str, Kind]) -> None:
        """Train on a data frame."""
        require_whole_number("samples", self.samples, 2)
        if len(frame) < LEAST:
            raise DataError(f"n_samples={len(frame)}: at least {LEAST} are needed to learn from")
        changes: dict[str, Any] = {"training": {}, "model": {}}
        if self.epochs is not None:
            changes["training"]["epochs"] = self.epochs
        if self.latents is not None:
            changes["model"]["latents"] = self.latents
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        learned = TableSchema.learn(of_frame(frame), kinds=kinds).columns
        groups = {c.name: [c.name] for c in learned if c.kind in ALONE}
        together = [c.name for c in learned if c.kind not in ALONE]
        groups = {"table": together} | groups if together else groups
        self.model_ = fit_table(frame, kinds=kinds, modalities=groups, changes=changes, seed=seed, callbacks=[])
        self.model_.model.double()  # so that a row's answer is the same to 1e-12, whatever the other rows are

    def _frame(self, X: Any, reset: bool) -> tuple[DataFrame, dict[str, Kind]]:
        """The rows as a data frame and, for training (``reset``), the known kinds of its columns."""
        pd = pandas()
        X = as_frame(X) if hasattr(X, "to_pandas") else X  # of polars or PyArrow
        if isinstance(X, pd.DataFrame) and any(dtype.kind not in "biuf" for dtype in map(_plain_dtype, X.dtypes)):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X, self._kinds()
        checked: Any = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        numbers = np.asarray(checked)
        names = checked_names(getattr(self, "feature_names_in_", [f"x{i}" for i in range(numbers.shape[1])]), "X")
        frame = pd.DataFrame(numbers, columns=list(names), index=X.index if isinstance(X, pd.DataFrame) else None)
        if not reset:
            return frame, {}
        varies = frame.nunique() > 1  # a constant is imputed as itself, if there are other columns to learn from
        known = [name for name in names if varies[name] or not varies.any()]
        return frame, dict.fromkeys(known, "real") | self._kinds()

    def _kinds(self) -> dict[str, Kind]:
        """The declared kinds."""
        if not isinstance(self.kinds, Mapping | None):
            raise SettingsError(f"kinds must be a mapping by column to kinds, not {abridged(self.kinds)}")
        return dict(self.kinds or {})

    def _predicted_parts(self, frame: DataFrame) -> Iterator[tuple[Answer, int]]:
        """The model's answers for each part of the rows, and the position of the target among the columns."""
        modality, place = self.model_.schema.home_of(TARGET)
        for _, values, present in self.model_.schema.encoded(of_frame(frame), self.model_.rows_at_once(self.samples)):
            yield answers(self.model_.model, values, present, [modality], self.samples, draws=0)[modality], place


class MVAEImputer(OneToOneFeatureMixin, TransformerMixin, _Estimator):
    """Fill in missing values given the row's observed values: the mean of numbers, the most probable class.

    Args:
        epochs: maximum number of training epochs; by default it depends on the number of rows.
        latents: the number of latents; by default it depends on the number of columns.
        kinds: column → its kind. By default columns of numbers alone, in an array or a data frame, are real, and in a
            data frame with other columns every kind is inferred.
        samples: number of latent samples per row that means are taken over (`TableModel.impute` takes 400).
        random_state: random state of training; answers have fixed noise.

    Numbers are not corrected by similar rows (`TableModel.impute` does so from 1,000 rows on). A column without any
    value stays as it is. Arrays and frames of numbers become arrays; other frames become frames of pandas
    (``set_output(transform="polars")``: of polars).

    >>> import numpy
    >>> X = numpy.array([[1.0, 2.0], [2.0, numpy.nan], [3.0, 6.5], [numpy.nan, 8.0]] * 5)
    >>> bool(numpy.isfinite(MVAEImputer(epochs=2, random_state=0).fit_transform(X)).all())
    True
    """

    def fit(self, X: Any, y: Any = None) -> "MVAEImputer":
        """Learn from rows with missing values; y is not used."""
        self._learn(*self._frame(X, reset=True))
        return self

    def transform(self, X: Any) -> Any:
        """Return the rows with their missing values filled in."""
        check_is_fitted(self, "model_")
        frame, _ = self._frame(X, reset=False)
        parts = self.model_.impute_parts(of_frame(frame), neighbours=False, samples=self.samples)
        filled = stacked(list(parts))
        return filled.to_numpy(np.float64) if all(dtype.kind == "f" for dtype in filled.dtypes) else filled


class MVAETransformer(TransformerMixin, _Estimator):
    """Map rows to points in the latent space: the mean of q(z | row), whichever values are missing.

    Args:
        epochs, latents, kinds, random_state: as in `MVAEImputer`.
        samples: not used.
        scale: also return the standard deviations of q.
    """

    def __init__(
        self,
        *,
        epochs: Any = None,
        latents: Any = None,
        kinds: Any = None,
        samples: Any = 100,
        random_state: Any = None,
        scale: Any = False,
    ):
        super().__init__(epochs=epochs, latents=latents, kinds=kinds, samples=samples, random_state=random_state)
        self.scale = scale

    def fit(self, X: Any, y: Any = None) -> "MVAETransformer":
        """Learn from rows with missing values; y is not used."""
        self._learn(*self._frame(X, reset=True))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return ``rows latents``, or twice as many columns with ``scale``."""
        check_is_fitted(self, "model_")
        frame, _ = self._frame(X, reset=False)
        parts = []
        for _, values, present in self.model_.schema.encoded(of_frame(frame), self.model_.rows_at_once(1)):
            mean, scale = latents(self.model_.model, values, present)
            parts.append(np.concatenate([mean, scale], 1) if self.scale else mean)
        return np.concatenate(parts)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names z1, z2 …, and with ``scale`` also z1.scale …"""
        check_is_fitted(self, "model_")
        names = [f"z{i + 1}" for i in range(self.model_.model.latent_dim)]
        return np.array(names + [f"{name}.scale" for name in names] * self.scale, object)


class MVAEClassifier(ClassifierMixin, _Estimator):
    """Predict classes from a row's observed values; the class is one more column of the joint model.

    Args:
        epochs, latents, kinds, samples, random_state: as in `MVAEImputer`.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> "MVAEClassifier":
        """Learn from rows with missing values and their classes."""
        y = _target(self, X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("y has one class: at least two are needed")
        frame, kinds = self._frame(X, reset=True)
        self._learn(_beside(frame, codes.astype(np.int64)), kinds | {TARGET: "categorical"})
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each of ``classes_``, ``rows classes``."""
        check_is_fitted(self, "model_")
        frame, _ = self._frame(X, reset=False)
        known, parts = self.model_.schema.named[TARGET].classes, []
        if len(known) == 1:  # all others are of rows that training held back
            return np.repeat(self.classes_[None] == self.classes_[int(known[0])], len(frame), 0).astype(np.float64)
        for found, place in self._predicted_parts(frame):
            share = np.zeros((len(found.point), len(self.classes_)))
            share[:, list(map(int, known))] = found.probabilities[place]  # a class may occur in no training row
            parts.append(share)
        return np.concatenate(parts)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        chances = self.predict_proba(X)
        return self.classes_[chances.argmax(1)]


class MVAERegressor(RegressorMixin, _Estimator):
    """Predict a number from a row's observed values; it is one more column of the joint model.

    Args:
        epochs, latents, kinds, samples, random_state: as in `MVAEImputer`.
    """

    def fit(self, X: Any, y: Any) -> "MVAERegressor":
        """Learn from rows with missing values and their targets."""
        y = _target(self, X, y, numeric=True)
        frame, kinds = self._frame(X, reset=True)
        self._learn(_beside(frame, y), kinds | {TARGET: "real"})
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The predicted mean for each row."""
        check_is_fitted(self, "model_")
        frame, _ = self._frame(X, reset=False)
        return np.concatenate([found.point[:, place] for found, place in self._predicted_parts(frame)])


def _beside(frame: DataFrame, y: np.ndarray) -> DataFrame:
    """The frame with y as an additional column."""
    if TARGET in frame.columns:
        raise DataError(f"a column is named {TARGET!r}, which is the name of y here: rename it")
    return frame.assign(**{TARGET: y})


def _target(estimator: Any, X: Any, y: Any, numeric: bool = False) -> np.ndarray:
    """Check that y has as many rows as X and no missing values, and return it as one array."""
    from sklearn.utils.validation import _check_y, check_consistent_length

    if y is None:
        raise DataError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    found = _check_y(y, y_numeric=numeric, estimator=estimator)
    check_consistent_length(X, found)
    if len(missing := np.flatnonzero(pandas().isna(found))):
        raise DataError(f"y is missing in {len(missing)} rows, first in row {missing[0]}: fit on rows that have y")
    return np.asarray(found, np.float64) if numeric else np.asarray(found)


def _plain_dtype(dtype: Any) -> Any:
    """The NumPy dtype that a nullable dtype is based on."""
    return getattr(dtype, "numpy_dtype", dtype)
