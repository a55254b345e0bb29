"""The study of incomplete tables: its errors against naive loops, and its command on a small budget."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvae.data.fields import Field
from mvae.errors import DataError
from mvae.studies import tables
from mvae.studies.table_baselines import BASELINES
from mvae.studies.table_sets import Holes, holes_of, whole
from mvae.studies.table_tasks import (
    auroc_of_forest,
    planted,
    rare_class,
    target_error,
    target_of_boosting,
    with_target,
)
from mvae.studies.tables import NO_COPIES, SPENDS, copied, error, filled, fitted, of_cells
from tests.command import mvae as command

FIELDS = (Field("a"), Field("b", "categorical", classes=3), Field("c", "ordinal", classes=4))


def small() -> Holes:
    truth = np.array([[0.0, 1, 3], [10, 2, 0], [4, 0, 1], [6, 2, np.nan]])
    observed = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    return Holes("wine", "cells 50 %", FIELDS, truth, observed)


def test_error_matches_the_definition_of_hi_vae() -> None:
    holes, found = small(), np.array([[3.0, 1, 1], [10, 2, 0], [0, 1, 1], [6, 2, 0]])
    numbers = math.sqrt((3**2 + 4**2) / 2) / 10
    classes, ordered = 1 / 2, (2 + 0) / 2 / 4
    assert error(holes, found) == pytest.approx((numbers + classes + ordered) / 3)


def test_rows_without_a_copy_have_a_separate_error() -> None:
    truth = np.array([[0.0, 1, 3], [10, 2, np.nan], [0, 1, 3], [10, 2, np.nan], [4, 0, 1]])
    assert copied(truth).tolist() == [True, True, True, True, False]
    observed = np.array([[0, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 1, 1]], bool)
    values, _ = of_cells(Holes("wine", "cells 10 %", FIELDS, truth, observed), "mean", 0, SPENDS["smoke"])
    mean = 20 / 3
    assert values["error"] == pytest.approx(math.sqrt((mean**2 + (mean - 4) ** 2) / 2) / 10)
    assert values[NO_COPIES] == pytest.approx((mean - 4) / 10)
    assert NO_COPIES not in of_cells(small(), "mean", 0, SPENDS["smoke"])[0]


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "miceforest"])
def test_baselines_keep_observed_values_and_impute_valid_ones(name: str) -> None:
    g = np.random.default_rng(0)
    truth = np.stack([g.normal(size=80), g.integers(0, 3, 80), g.integers(0, 4, 80)], 1)
    x = np.where(g.random(truth.shape) < 0.7, truth, np.nan)
    found = BASELINES[name](x, FIELDS, 0)
    assert np.array_equal(found[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(found).all()
    assert set(found[:, 1]) <= {0, 1, 2}
    assert set(found[:, 2]) <= {0, 1, 2, 3}


def test_holes_hide_the_stated_share() -> None:
    cells, views = holes_of("breast-cancer", "cells 30 %", 0), holes_of("breast-cancer", "views 30 %", 0)
    assert cells.hidden.mean() == pytest.approx(0.3, abs=0.01)
    whole = views.hidden.reshape(-1, 3, 10)
    assert (whole.all(2) == whole.any(2)).mean() > 0.97  # a row that would be empty keeps one value
    assert not np.array_equal(cells.hidden, holes_of("breast-cancer", "cells 30 %", 1).hidden)
    with pytest.raises(DataError, match="hi-vae"):
        holes_of("wine", "cells 10 %", 0, Path("nowhere"))


def test_views_of_digits_are_their_quadrants() -> None:
    digits = whole("digits")
    place = np.array([int(name.removeprefix("pixel_").replace("_", ""), 8) for name in digits.names])
    assert np.array_equal(digits.view, place // 32 * 2 + place % 8 // 4)
    assert digits.classes == 10
    assert (digits.values.std(0) > 0).all()


def test_targets_are_predicted_only_where_hidden() -> None:
    found = whole("wine-classes")
    holes = with_target(holes_of("wine-classes", "views 30 %", 3), found, 3)
    hidden = ~holes.observed[:, -1]
    assert hidden.sum() == 178 // 5
    assert target_error(holes, holes.truth[:, -1]) == {"accuracy": 1.0}
    assert target_error(holes, np.where(hidden, (found.target + 1.0) % 3, found.target)) == {"accuracy": 0.0}
    shuffled = np.where(hidden, 0.0, holes.truth[:, -1])
    blind = replace(holes, truth=np.c_[holes.truth[:, :-1], shuffled])
    assert np.array_equal(target_of_boosting(holes, 0), target_of_boosting(blind, 0))  # the hidden targets are not seen


def test_outliers_are_mixed_rows_or_a_rare_class() -> None:
    found = whole("wine-classes")
    values, outlier = planted(found, 0)
    changed = (values != found.values).any(1)
    assert not changed[~outlier].any()
    assert changed[outlier].mean() > 0.8
    rows, rare = rare_class(found, 0)
    assert rare.sum() == round(0.05 * (~rare).sum())
    assert rows.shape[1] == found.values.shape[1]
    assert auroc_of_forest(rows, rare, 0) > 0.5


@pytest.mark.parametrize("suffix", ["", ", neighbours"])
def test_command_measures_and_records_once(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FEWEST", 100 if suffix else 1_000)  # of 120 rows
    args = ["reproduce", "tables", "--budget", "smoke", "--json", "--results", str(tmp_path)]
    rows = command(*args).json()["rows"]
    assert {row["model"] for row in rows} == {
        "mvae", "mean", "kNN", "iterated ridge", "HistGradientBoosting", "IsolationForest",
    }  # fmt: skip
    assert {row["settings"]["hidden"]: row["metric"] for row in rows if row["model"] == "mvae"} == {
        "cells 30 %": f"coverage{suffix}", "views 30 %": f"coverage{suffix}",
        "target of views 30 %": "target error", "outliers planted": "AUROC",
    }  # fmt: skip
    assert all(math.isfinite(row["value"]) for row in rows)
    assert command(*args).json()["rows"] == rows


def test_baselines_predict_a_class_from_numbers() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 300).astype(float)
    x = np.c_[label, label + random.normal(0, 0.1, 300), (label == 1) + random.normal(0, 0.1, 300)]
    hidden = np.arange(300) % 3 == 0
    holes = x.copy()
    holes[hidden, 0] = np.nan
    fields = [Field("label", "categorical", classes=3), Field("a"), Field("b")]
    for name in ("kNN", "iterated ridge", "ridge with draws", "iterated trees"):
        assert (BASELINES[name](holes, fields, 0)[hidden, 0] == label[hidden]).mean() > 0.95, name


def test_ridge_with_draws_is_near_the_conditional_mean() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=400)
    x = np.c_[a, 2 * a + random.normal(0, 0.5, 400)]
    hidden = random.random(400) < 0.3
    holes = np.where(np.c_[np.zeros(400, bool), hidden], np.nan, x)
    found = BASELINES["ridge with draws"](holes, (Field("a"), Field("b")), 0)[hidden, 1]
    assert np.abs(found - 2 * a[hidden]).mean() < 0.5 / 20**0.5 + 0.1  # one draw: 0.4
    assert np.abs(found - 2 * a[hidden]).std() > 0


@pytest.mark.parametrize("kind", ["count", "categorical", "real"])
def test_empty_row_is_imputed(kind: str) -> None:
    fields = (Field("first", kind, classes=3 if kind == "categorical" else None), Field("second"))
    rng = np.random.default_rng(0)
    truth = np.stack([rng.integers(0, 3, 60), rng.normal(size=60)], 1).astype(float)
    observed = np.ones_like(truth, bool)
    observed[3] = False
    model, table, _ = fitted(Holes("wine", "cells 10 %", fields, truth, observed), 0, SPENDS["smoke"])
    assert np.isfinite(np.asarray(filled(model, table, 0, SPENDS["smoke"]).table["t"])[3]).all()
