"""The scikit-learn estimators: scikit-learn's own checks, pipelines, searches and frames."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from mvae.errors import DataError, QueryError, SettingsError
from mvae.sklearn import MVAEClassifier, MVAEImputer, MVAERegressor, MVAETransformer
from tests.patients import patients
from tests.unchecked import unchecked_shapes as unchecked_shapes

pd = pytest.importorskip("pandas")

QUICK: dict[str, Any] = {"epochs": 1, "latents": 2, "samples": 3, "random_state": 0}
LEARNS = ("check_classifiers_train", "check_regressors_train")  # which need more than one epoch


def slow(estimator: Any) -> dict[str, str]:
    return dict.fromkeys(LEARNS, "after one epoch nothing is learned yet: tested below")


@parametrize_with_checks(
    [MVAEImputer(**QUICK), MVAETransformer(**QUICK), MVAEClassifier(**QUICK), MVAERegressor(**QUICK)],
    expected_failed_checks=slow,
)
def test_estimators_pass_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_trained_estimators_pass_scikit_learns_checks() -> None:
    cast("Any", estimator_checks).check_classifiers_train("MVAEClassifier", MVAEClassifier(epochs=20, random_state=0))
    cast("Any", estimator_checks).check_regressors_train("MVAERegressor", MVAERegressor(epochs=60, random_state=0))


def with_holes(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The iris data, with a fifth of the values missing."""
    data: Any = load_iris()
    X, y = data.data, data.target
    X[np.random.default_rng(seed).random(X.shape) < 0.2] = np.nan
    return X, y


def test_estimators_work_in_pipelines_searches_and_clones() -> None:
    X, y = with_holes()
    steps: Any = make_pipeline(MVAETransformer(epochs=2, random_state=0), LogisticRegression(max_iter=500))
    assert steps.fit(X, y).score(X, y) > 0.3
    search = GridSearchCV(MVAEClassifier(epochs=1, random_state=0), {"latents": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["latents"] in (1, 2)
    imputer: Any = MVAEImputer(epochs=1, random_state=3)
    other: Any = clone(imputer)
    first, again = imputer.fit_transform(X), other.fit_transform(X)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[~np.isnan(X)], X[~np.isnan(X)])


def test_frames_of_mixed_columns_keep_their_form() -> None:
    frame = patients(missing=0.2)[["hb", "crp", "sex", "city", "stage"]]
    imputer: Any = MVAEImputer(epochs=2, random_state=0, kinds={"stage": "categorical"})
    filled = imputer.fit_transform(frame)
    assert isinstance(filled, pd.DataFrame)
    assert filled.notna().all(axis=None)
    assert (filled.dtypes == frame.dtypes).all()
    assert imputer.n_features_in_ == 5
    assert imputer.feature_names_in_.tolist() == list(frame.columns)
    assert imputer.get_feature_names_out().tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(frame.rename(columns={"hb": "hbb"}))
    points: Any = MVAETransformer(epochs=1, latents=2, scale=True, random_state=0).set_output(transform="pandas")
    assert list(points.fit_transform(frame).columns) == ["z1", "z2", "z1.scale", "z2.scale"]
    mixed: Any = ColumnTransformer(
        [("blood", MVAEImputer(epochs=1, random_state=0), ["hb", "crp"]), ("rest", "drop", ["sex"])]
    )
    assert mixed.set_output(transform="pandas").fit_transform(frame).notna().all(axis=None)


def test_frames_of_other_libraries_are_read_as_pandas_reads_them() -> None:
    arrow = pytest.importorskip("pyarrow")
    frame = patients(missing=0.2)[["hb", "sex"]]
    other, imputer = arrow.Table.from_pandas(frame), MVAEImputer(epochs=1, random_state=0)
    pd.testing.assert_frame_equal(imputer.fit(other).transform(other), imputer.fit(frame).transform(frame))


def test_classes_are_predicted_by_name_from_incomplete_rows() -> None:
    frame = patients(300, missing=0.2)
    known = frame[frame["city"].notna()]
    model = MVAEClassifier(epochs=30, random_state=0).fit(known[["hb", "visits", "share"]], known["city"])
    assert model.classes_.tolist() == ["Bergen", "Hamar", "Oslo"]
    chances = model.predict_proba(known[["hb", "visits", "share"]])
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-6)
    assert model.score(known[["hb", "visits", "share"]], known["city"]) > 0.7


@pytest.mark.parametrize("estimator", [MVAEClassifier(epochs=1), MVAERegressor(epochs=1)])
def test_unlearnable_data_is_a_value_error(estimator: Any) -> None:
    with pytest.raises(ValueError, match=r"n_samples=2: at least 3|one class"):
        estimator.fit([[1.0], [2.0]], [0, 1])
    with pytest.raises(ValueError, match="target y is None"):
        estimator.fit([[1.0], [2.0], [3.0]], None)
    if isinstance(estimator, MVAEClassifier):
        with pytest.raises(DataError, match="y is missing in 1 rows, first in row 2: fit on rows that have y"):
            estimator.fit([[1.0], [2.0], [3.0]], np.array(["a", "b", None], object))
        with pytest.raises(ValueError, match="one class"):
            estimator.fit([[1.0], [2.0], [3.0]], [1, 1, 1])


def test_columns_of_numbers_alone_are_real_and_others_inferred() -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"flag": generator.integers(0, 2, 30) * 1.0, "size": np.exp(2 * generator.normal(size=30))})
    frame.iloc[::4, 0] = np.nan
    named, word = frame.columns.tolist(), ["a", "b", "c"] * 10
    kinds = {
        form: [MVAEImputer(**QUICK, kinds=own).fit(X).model_.schema.named[name].kind for name in names]
        for form, X, own, names in (
            ("array", frame.to_numpy(), None, ["x0", "x1"]),
            ("numbers", frame, None, named),
            ("declared", frame, {"flag": "binary"}, named),
            ("mixed", frame.assign(word=word), None, named),
        )
    }
    assert kinds == {
        "array": ["real", "real"],
        "numbers": ["real", "real"],
        "declared": ["binary", "real"],
        "mixed": ["binary", "positive"],
    }


def test_constant_column_is_imputed_with_its_value() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    X[:, 2] = 1e-6
    X[::3, 0] = X[::5, 2] = np.nan
    filled = MVAEImputer(**QUICK).fit_transform(X)
    assert (filled[:, 2] == 1e-6).all()
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("samples", [0, 1, -1, 2.5, True, "x"])
def test_invalid_samples_are_refused_before_training(samples: Any) -> None:
    with pytest.raises(QueryError, match="samples must be"):
        MVAEImputer(epochs=1, samples=samples).fit(np.zeros((5, 2)))


def test_feature_named_like_the_target_is_refused() -> None:
    frame = pd.DataFrame({"target of mvae.sklearn": [1.5, 2.5, 4.5, 7.0], "x": [1.0, 5.5, 2.0, 3.0]})
    with pytest.raises(DataError, match=r"a column is named 'target of mvae\.sklearn', which is the name of y here"):
        MVAERegressor(**QUICK).fit(frame, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("seed", [7, 29])
def test_class_without_training_rows_has_probability_0(seed: int) -> None:
    """A search over many splits meets such a class: its only row is a validation row."""
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.array(["v"] * 20)
    y[3] = "u"
    model = MVAEClassifier(**QUICK | {"random_state": seed}).fit(X, y)
    assert model.predict_proba(X[:2]).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert model.predict(X[:2]).tolist() == ["v", "v"]


def test_settings_may_be_numpy_numbers_and_kinds_a_mapping() -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = MVAETransformer(**QUICK | {"epochs": np.int64(1), "latents": np.int32(3)}).fit(X)
    assert model.transform(X).shape == (20, 3)
    wrong: Any = ["real"]
    with pytest.raises(SettingsError, match=r"kinds must be a mapping by column to kinds, not \['real'\]"):
        MVAEImputer(**QUICK, kinds=wrong).fit(X)


@pytest.mark.parametrize("more", [{}, {"c": ["x", "y"] * 10}])
def test_column_name_may_be_empty(more: dict[str, Any]) -> None:
    frame = pd.DataFrame({"a": [1.5, None] * 10, "": np.arange(20) ** 0.5} | more)
    imputer: Any = MVAEImputer(**QUICK).set_output(transform="pandas")
    filled = imputer.fit_transform(frame)
    assert filled.columns.tolist() == frame.columns.tolist()
    assert filled.notna().all(axis=None)


def test_columns_of_texts_and_pictures_are_modalities_of_their_own(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    generator, rows = np.random.default_rng(0), 24
    classes = np.arange(rows) % 2
    for row in range(rows):
        pixels = generator.integers(0, 200, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
    frame = pd.DataFrame(
        {
            "size": classes + generator.normal(size=rows),
            "photo": [str(tmp_path / f"{row}.png") for row in range(rows)],  # a kind that is inferred
            "note": ["a red bird", "a small blue bird"] * (rows // 2),
        }
    )
    classifier = MVAEClassifier(epochs=1, random_state=0, samples=4, kinds={"note": "text"}).fit(frame, classes)
    schema = classifier.model_.schema
    assert {group: names for group, names in schema.modalities.items() if group != "table"} == {
        "photo": ("photo",),
        "note": ("note",),
    }
    assert classifier.predict_proba(frame).shape == (rows, 2)
    only = MVAETransformer(epochs=1, random_state=0, kinds={"note": "text"}).fit(frame[["note"]])
    assert np.isfinite(only.transform(frame[["note"]])).all()


def test_an_imputed_row_depends_on_that_row_alone_in_large_tables_too() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(550, 4)), 2, 0)  # each row twice: `TableModel.impute` would look at the other one
    x[rng.random(x.shape) < 0.2] = np.nan
    imputer = MVAEImputer(epochs=3, random_state=0).fit(x)
    np.testing.assert_allclose(imputer.transform(x)[:20], imputer.transform(x[:20]), rtol=1e-5)
