"""A model of a user's table: columns keep their names and types, and missing cells have no influence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mvae
from mvae.data.tables.describe import describe
from mvae.data.tables.frames import of_frame
from mvae.data.tables.schema import TableSchema
from mvae.data.tables.tensors import encoded_parts
from mvae.errors import DataError, QueryError, RunError, SettingsError
from mvae.report.calibration import calibration_section
from mvae.report.views import view_of
from mvae.runs import tables
from mvae.runs.answers import draws_given
from mvae.runs.config import Config
from mvae.runs.sample import names_columns, parse_given, sample, sample_cells
from mvae.runs.table_data import completed_by, learned_from
from tests.patients import FEW, ROWS, patients
from tests.unchecked import unchecked

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def trained() -> mvae.TableModel:
    return mvae.fit_table(patients(), changes=FEW, callbacks=[])


@pytest.mark.parametrize("missing", ["-999", -999, -999.0, ["-999"]])
def test_missing_may_be_one_cell_or_several(missing: Any) -> None:
    frame = pd.DataFrame({"a": [1.5, 2.5, 9.0, 9.5, -999.0] * 8, "b": np.arange(40.0)})
    model = mvae.fit_table(frame, missing=missing, changes={"training": {"epochs": 1}}, callbacks=[])
    filled = model.impute(frame)["a"].to_numpy()
    assert (filled == frame["a"])[frame["a"] != -999].all()
    assert (filled[frame["a"] == -999] != -999).all()


def test_missing_may_be_a_numpy_number(tmp_path: Path) -> None:
    missing: Any = np.int64(-999)
    frame = pd.DataFrame({"hb": [9.5, -999.0, 8.0, 7.5] * 9, "n": [41, 7, -999, 5] * 9})
    model = mvae.fit_table(frame, missing=missing, changes=FEW, callbacks=[])
    model.save(tmp_path / "x.mvae")
    assert (mvae.load_table(tmp_path / "x.mvae").impute(frame) > 0).all(axis=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": {"hb": -1}}, "missing names cells that mean missing in any column"),
        ({"missing": ["?", True]}, "cells that mean missing, .* and True is not text, a number or a date"),
        ({"modalities": ["hb"]}, "modalities of fit_table must be a mapping by name"),
        ({"modalities": {"a": "hb"}}, "modalities of fit_table must be a mapping by name"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options: Any, message: str) -> None:
    with unchecked(), pytest.raises(SettingsError, match=message):
        mvae.fit_table(patients(), **options)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (lambda model: model.impute(patients(), samples=0), "samples must be at least 1, not 0"),
        (lambda model: model.score(patients(), seed="a"), "seed of TableModel.score must be a whole number"),
        (lambda model: model.predict(patients(), ["hb"]), "of of TableModel.predict must be text"),
    ],
)
def test_query_arguments_are_checked(trained: mvae.TableModel, query: Any, message: str) -> None:
    with unchecked(), pytest.raises(QueryError, match=message):
        query(trained)


def test_interval_with_draws_is_refused(trained: mvae.TableModel) -> None:
    with pytest.raises(QueryError, match="not with draws: leave out one, or take quantiles"):
        trained.impute(patients(), draws=2, interval=0.9)


def test_class_scores_are_at_most_0_and_depend_only_on_the_row(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    found, turned = trained.score(frame, samples=20), trained.score(frame.iloc[::-1], samples=20)
    for column in ("city", "stage"):
        own = found[f"log p({column} | rest)"]
        assert (own.dropna() <= 0).all()
        assert own.notna().any()
        np.testing.assert_allclose(turned[own.name].iloc[::-1], own, atol=1e-4)


def test_declared_levels_keep_their_order() -> None:
    kinds = {"stage": {"kind": "ordinal", "levels": [4, 2, 1, 3]}, "hb": "real"}
    config = Config.from_dict({"data": {"source": "x.csv"}, "modalities": {"t": {"kind": "columns", "kinds": kinds}}})
    frames = of_frame(patients())
    schema = learned_from(config, frames, np.zeros(frames.rows, np.int8))
    assert schema.named["stage"].classes == (4, 2, 1, 3)
    assert schema.encode(of_frame({"stage": [3, 4]}).whole())[0]["t"][:, 0].tolist() == [3.0, 0.0]
    completed = completed_by(config, schema, encoded_parts(frames, schema, np.zeros(frames.rows, np.int8), 1)[0])
    assert completed.modalities["t"].fields[0].classes == 4


def test_impute_keeps_observed_cells_types_names_and_index(trained: mvae.TableModel) -> None:
    frame = patients(seed=1).set_index("id", drop=False)
    filled = trained.impute(frame)
    assert filled.index.equals(frame.index)
    assert list(filled.columns) == list(frame.columns)
    assert (filled.dtypes == frame.dtypes).all()
    there = frame.notna()
    assert filled.where(there).equals(frame.where(there))
    assert filled.notna().all(axis=None)
    assert set(filled["city"]) <= {"Oslo", "Bergen", "Hamar"}
    assert set(filled["stage"]) <= {1, 2, 3, 4}
    assert set(filled["clinic"]) == {"north"}
    assert filled["share"].between(0, 1).all()
    assert (filled["crp"] > 0).all()
    assert trained.impute(frame).equals(filled)  # the same seed


def test_only_imputed_cells_have_intervals(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    frame["sex"] = "f"
    found = trained.impute(frame, interval=0.9)
    assert [name for name in found.columns if name not in frame.columns] == [
        "hb.low", "hb.high", "crp.low", "crp.high", "visits.low", "visits.high", "stage.p", "city.p", "visit.low",
        "visit.high", "share.low", "share.high",
    ]  # fmt: skip
    gone = frame["hb"].isna()
    assert (found["hb.low"].notna() == gone).all()
    assert (found["hb.low"] < found["hb.high"])[gone].all()
    assert found.loc[frame["city"].isna(), "city.p"].between(1 / 3, 1).all()
    chances = trained.predict(frame, "stage").filter(like="stage=").rename(columns=lambda name: name[6:])
    for row in frame.index[frame["stage"].isna()]:  # the median, which need not be the most probable class
        assert chances.loc[row, str(found.loc[row, "stage"])] == pytest.approx(found.loc[row, "stage.p"])


def test_report_measures_the_intervals_of_impute() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=300)
    frame = pd.DataFrame({f"x{i}": hidden + 0.3 * rng.normal(size=300) for i in range(3)})
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    ((name, modality),) = model.model.modalities.items()
    modality.stretch.fill_(0.6)  # pyright: ignore
    found = model.impute(frame.assign(x1=np.nan), interval=0.9)
    inside = frame["x1"].between(found["x1.low"], found["x1.high"]).mean()
    assert inside < 0.85
    table = encoded_parts(of_frame(frame), model.schema, np.zeros(300, np.int8), 1)[0]
    section = calibration_section(model.model, table, [view_of(name, modality, (3,))], draws_given)  # pyright: ignore
    rows = {row[0]: row[1:] for row in section.shown[0].table.rows}  # pyright: ignore
    assert rows[0.9][1] == inside


@pytest.mark.parametrize("options", [{"interval": 0.9}, {"draws": 3}, {}])
def test_rows_are_answered_few_but_filled_in_many_at_a_time(
    trained: mvae.TableModel, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, calls = patients(seed=1), []
    monkeypatch.setattr("mvae.runs.tables.AT_ONCE", 20 * trained.schema.width * 7)  # seven rows at a time
    answered, encode = tables.answers, TableSchema.encode
    monkeypatch.setattr(tables, "answers", lambda *a, **k: calls.append("answered") or answered(*a, **k))
    monkeypatch.setattr(TableSchema, "encode", lambda *a, **k: calls.append("encoded") or encode(*a, **k))
    few = trained.impute(frame, samples=20, **options)
    lacking = int(frame[trained.schema.seen].isna().any(axis=1).sum())
    assert lacking / 7 <= calls.count("answered") < len(frame) / 7
    assert calls.count("encoded") <= -(-len(frame) // (20 * 7 // 3))
    if not options:  # draws differ: all rows that are answered together share a generator
        monkeypatch.undo()
        pd.testing.assert_frame_equal(few, trained.impute(frame, samples=20, **options))


@pytest.mark.parametrize("options", [{"interval": 0.9}, {"draws": 3}, {}])
def test_only_rows_with_missing_cells_are_answered(trained: mvae.TableModel, options: Any) -> None:
    """Rows without missing cells cost as much as others; a column that the table does not have is not filled in."""
    complete = patients(missing=0).drop(columns="share")
    holes = complete.copy()
    holes.loc[[3, 80], ["hb", "crp"]] = np.nan
    seen = []
    (columns,) = trained.model.modalities.values()
    hook = columns.decoder.register_forward_hook(lambda _network, inputs, _output: seen.append(len(inputs[0])))
    try:
        found = trained.impute(holes, samples=100, **options)
    finally:
        hook.remove()
    assert 200 <= sum(seen) < 210  # 100 samples of z for two rows; values are checked on one z
    first = found[list(complete)][:ROWS]  # of the draws, the first
    assert first.drop(index=[3, 80]).equals(complete.drop(index=[3, 80]))
    if "draws" not in options:  # draws depend on the rows that are answered together
        alone = trained.impute(holes.loc[[80, 3]], samples=100)
        pd.testing.assert_frame_equal(first.loc[[80, 3]], alone)
    assert trained.impute(complete, samples=100, **options)[list(complete)][:ROWS].equals(complete)


def test_draws_have_long_form_and_differ_in_missing_cells(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    found = trained.impute(frame, draws=3)
    assert list(found.columns[:2]) == [".imp", ".id"]
    assert found[".imp"].tolist() == [1] * ROWS + [2] * ROWS + [3] * ROWS
    assert found[".id"].tolist() == list(range(ROWS)) * 3
    hb = found.pivot(index=".id", columns=".imp", values="hb")
    assert (hb.nunique(axis=1) == 1)[frame["hb"].notna()].all()
    assert (hb.nunique(axis=1) > 1)[frame["hb"].isna()].mean() > 0.9


def test_categories_stay_categories_in_draws() -> None:
    """A draw that fills in a category that the frame does not list made the column one of text."""
    frame = pd.DataFrame(
        {"x": np.arange(90) % 3 + 0.5, "c": pd.Categorical(np.array(["a", "b", "c"])[np.arange(90) % 3])}
    )
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    some = frame[:1].assign(c=pd.Categorical(["a"]))
    rows = pd.concat([some, *[some.assign(c=pd.Categorical([None], ["a"]))] * 6])
    found = model.impute(rows, draws=20)["c"]
    assert str(found.dtype) == "category"
    assert set(found) > {"a"}


def test_prediction_does_not_use_the_column_itself(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    found = trained.predict(frame, "city")
    chances = found[["city=Bergen", "city=Hamar", "city=Oslo"]].to_numpy()
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-6)
    assert (found["city"] == np.array(["Bergen", "Hamar", "Oslo"])[chances.argmax(1)]).all()
    for other in (frame.drop(columns="city"), frame.assign(city="Oslo")):
        pd.testing.assert_frame_equal(trained.predict(other, "city"), found)
    number = trained.predict(frame, "hb", interval=0.5)
    assert (number["hb.low"] < number["hb.high"]).all()
    assert trained.predict(frame, "visit")["visit"].dtype.kind == "M"


@pytest.mark.parametrize("written", ["{:.0f}", "{:.1f}"])
def test_a_predicted_class_names_its_probability(written: str, tmp_path: Path) -> None:
    """Also where a file writes the classes 1, 2, 3 as 1.0, 2.0, 3.0, as pandas does if some cells are empty."""
    file = tmp_path / "t.csv"
    file.write_text("hb,stage\n" + "".join(f"{row / 7},{written.format(row % 3 + 1)}\n" for row in range(60)))
    found = mvae.fit_table(file, changes=FEW, callbacks=[]).predict(file, "stage")
    assert {f"stage={stage}" for stage in found["stage"]} <= set(found)


def test_column_order_types_and_further_columns_do_not_matter(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    other = frame[list(reversed(frame.columns))].assign(extra=1.0)
    other["visits"] = other["visits"].astype("float64")
    other["stage"] = other["stage"].astype(str).where(frame["stage"].notna(), None)
    other["visit"] = other["visit"].dt.strftime("%Y-%m-%d")
    other["city"] = other["city"].astype("category")
    np.testing.assert_allclose(trained.embed(other), trained.embed(frame), atol=1e-6)
    assert trained.impute(other)["visits"].notna().all()


def test_contents_of_missing_cells_are_not_read(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    named = frame.assign(hb=frame["hb"].fillna(-999.0))
    model = mvae.TableModel(trained.model, trained.schema)
    given = mvae.fit_table(named, missing=[-999], changes=FEW, callbacks=[])
    assert given.schema.named["hb"].missing == (-999,)
    np.testing.assert_array_equal(given.embed(named), given.embed(frame))
    assert given.impute(named)["hb"].min() > -999
    assert model.embed(frame).shape == (ROWS, model.model.latent_dim)


def test_empty_row_gets_the_priors_answer(trained: mvae.TableModel) -> None:
    empty = patients(seed=1).head(3).copy()
    empty.loc[1, ["hb", "crp", "sex", "city", "share", "clinic"]] = None
    empty.loc[1, ["visits", "stage", "visit"]] = pd.NA
    assert trained.impute(empty).notna().all(axis=None)
    z = trained.embed(empty, scale=True).loc[1]
    assert (z.filter(regex=r"^z\d+$") == 0).all()
    assert (z.filter(like="scale") == 1).all()
    scored = trained.score(empty, samples=10)
    assert np.isnan(scored["log p"][1])
    assert np.isfinite(scored["log p"][[0, 2]]).all()
    assert trained.predict(empty.iloc[[1]], "hb")["hb"].between(5, 15).all()


def test_unusual_cell_has_the_lowest_score(trained: mvae.TableModel) -> None:
    frame = patients(seed=1)
    frame.loc[5, "hb"] = 60.0
    found = trained.score(frame, samples=50)
    assert list(found.columns[:2]) == ["log p", "log p(hb | rest)"]
    assert found["log p(hb | rest)"].idxmin() == 5
    assert found["log p"].idxmin() == 5
    assert (found["log p(hb | rest)"].notna() == frame["hb"].notna()).all()


def test_vae_imputes_only_its_modality(tmp_path: Path) -> None:
    groups = {"labs": ["hb", "crp"], "rest": ["sex", "city"]}
    changes = {"model": {"name": "vae"}, "training": {"epochs": 1}}
    model = mvae.fit_table(patients(), modalities=groups, changes=changes, callbacks=[])
    assert model.model.names == ("labs",)
    filled = model.impute(patients())
    assert filled["hb"].notna().all()
    assert filled["sex"].isna().any()


def test_unsuitable_model_is_refused_before_training() -> None:
    groups = {"labs": ["hb", "crp"], "rest": ["sex", "city"]}
    with pytest.raises(SettingsError, match=r"bivcca has no posterior .* rows of this table have labs, rest: choose"):
        mvae.fit_table(patients(), modalities=groups, changes={"model": {"name": "bivcca"}}, callbacks=[])
    three = {"labs": ["hb", "crp"], "sex": ["sex"], "city": ["city"]}
    with pytest.raises(SettingsError, match=r"cvae is given a whole modality of arrays, never some columns of a table"):
        mvae.fit_table(patients(), modalities=groups, changes={"model": {"name": "cvae"}}, callbacks=[])
    with pytest.raises(SettingsError, match=r"jmvae has no posterior given some of several modalities"):
        mvae.fit_table(patients(), modalities=three, changes={"model": {"name": "jmvae"}}, callbacks=[])
    changes = {"model": {"name": "telbo"}, "training": {"epochs": 1, "anneal_epochs": 0}}
    # trained in stages, without patience
    telbo = mvae.fit_table(patients(), modalities=groups, changes=changes, callbacks=[])
    assert telbo.impute(patients())["sex"].notna().all()


def test_saved_model_answers_the_same(trained: mvae.TableModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "patients.mvae")
    again = mvae.load_table(tmp_path / "patients.mvae")
    assert again.schema == trained.schema
    frame = patients(seed=1)
    pd.testing.assert_frame_equal(again.impute(frame), trained.impute(frame))
    mvae.save(trained.model, tmp_path / "bare.mvae")
    with pytest.raises(RunError, match="is not a model of a table"):
        mvae.load_table(tmp_path / "bare.mvae")


def test_predictions_use_the_other_columns() -> None:
    """hb, visits, stage, share and city depend on each other."""
    frame, test = patients(300, missing=0.3), patients(100, seed=9, missing=0.0)
    changes = {"training": {"epochs": 40, "learning_rate": 5e-3, "anneal_epochs": 5}, "seed": 1}
    model = mvae.fit_table(frame, changes=changes, callbacks=[])
    guess = model.predict(test, "hb")
    error = ((guess["hb"] - test["hb"]) ** 2).mean() ** 0.5
    assert error < 0.7 * test["hb"].std()
    assert ((guess["hb.low"] <= test["hb"]) & (test["hb"] <= guess["hb.high"])).mean() > 0.75


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (lambda m: m.predict(patients(), "hbb"), SettingsError, "no column 'hbb'.*did you mean 'hb'"),
        (lambda m: m.predict(patients(), "id"), SettingsError, "does not see the column 'id': 108 different texts"),
        (lambda m: m.predict(patients(), "hb", interval=90.0), QueryError, "between 0 and 1, such as 0.9, not 90.0"),
        (lambda m: m.impute(patients(), interval="90%"), QueryError, "between 0 and 1, such as 0.9, not '90%'"),
        (lambda m: m.impute(patients(), draws=-1), QueryError, "draws must be at least 0"),
        (lambda m: m.embed({"x": [1.0]}), DataError, "the table has none of the model's columns"),
        (lambda m: m.embed(3), DataError, "not a int"),
    ],
)  # fmt: skip
def test_invalid_query_says_why(trained: mvae.TableModel, query: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        query(trained)


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"x": [1.5, 2.5]}, {}, DataError, "has 2 rows"),
        ({"x": [1.5, 2.5, 3.5]}, {"modalities": {"a": ["y"]}}, SettingsError, "no column 'y'; it has x"),
        ({"x": [1.5, 2.5, 3.5]}, {"kinds": {"x": "reel"}}, SettingsError, "did you mean 'real'"),
        ({"x": [1.5, 2.5, 3.5]}, {"modalities": {"a": ["x"], "b": ["x"]}}, SettingsError, "in two modalities"),
        (
            {"x": [1.5, 2.5, 3.5], "t": ["a b", "b c", "c d"]},
            {"modalities": {"a": ["x", "t"]}, "kinds": {"t": "text"}},
            SettingsError,
            "column 't' is a text, which is a modality by itself: take it out of 'a'",
        ),
        ({"x": ["a"] * 9}, {}, DataError, "no column to learn from: x: always a"),
        ({"x": [None] * 9}, {}, DataError, "no training row has it"),
    ],
)
def test_unusable_table_says_why(data: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        mvae.fit_table(data, changes=FEW, callbacks=[], **options)


def test_polars_frames_and_multi_indexes_are_accepted() -> None:
    frame = patients(missing=0.1)
    levels = frame.set_index(["city", "id"], drop=False)
    levels.index.names = ["a", "b"]
    model = mvae.fit_table(levels, changes=FEW, callbacks=[])
    assert model.impute(levels).index.equals(levels.index)
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    assert model.embed(polars.from_pandas(frame.astype({"visits": "float64", "stage": "float64"}))).shape[0] == ROWS


def test_picture_column_is_a_modality(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = 40
    for i in range(rows):
        Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    frame = pd.DataFrame({"scan": [f"{i}.png" for i in range(rows)], "age": rng.normal(50, 9, rows).round(1)})
    frame.loc[3, "scan"] = "absent.png"
    frame.loc[4, "scan"] = None
    frame.to_csv(tmp_path / "x.csv", index=False)
    model = mvae.fit_table(tmp_path / "x.csv", changes=FEW, callbacks=[])
    assert model.schema.shapes == {"scan": (1, 12, 10)}
    _, present = model.schema.encode(pd.read_csv(tmp_path / "x.csv").astype(object))
    assert present["scan"].sum() == rows - 2
    assert torch.isfinite(torch.tensor(model.score(tmp_path / "x.csv", samples=10)["log p"].to_numpy())).all()
    with pytest.raises(QueryError, match="holds pictures"):
        model.predict(tmp_path / "x.csv", "scan")


def test_covariates_of_a_table_are_refused(tmp_path: Path) -> None:
    patients().to_csv(tmp_path / "patients.csv", index=False)
    declared = {"data": {"source": str(tmp_path / "patients.csv")}, "covariates": {"city": {"kind": "categorical"}}}
    with pytest.raises(SettingsError, match=r"covariates\.city: a table has no covariates.*column of a modality"):
        mvae.train(mvae.Config.from_dict(declared), tmp_path / "run")


def test_text_column_is_a_modality(tmp_path: Path) -> None:
    frame = patients()
    ill = frame["hb"].fillna(0) < 10.5
    frame["note"] = np.where(ill, "the patient is tired and pale", "no complaint at all, goes home") + frame["id"]
    frame.loc[[3, 4], "note"] = None
    frame.to_csv(tmp_path / "x.csv", index=False)
    found = describe(of_frame(frame))
    assert next(c for c in found.columns if c.name == "note").reason.endswith("sentences; to use them, declare text")
    model = mvae.fit_table(tmp_path / "x.csv", kinds={"note": "text"}, changes=FEW, callbacks=[])
    assert model.schema.shapes == {"note": (8,)}
    values, present = model.schema.encode(frame)
    words = model.schema.named["note"].classes
    assert [words[i] for i in values["note"][0] if i][:2] in (["the", "patient"], ["no", "complaint"])
    assert present["note"].sum() == ROWS - 2
    assert np.isfinite(model.score(frame, samples=5)["log p(note | rest)"].dropna()).all()
    filled = model.impute(frame, samples=5)
    assert filled["note"].isna().sum() == 2  # an input, but not an output
    assert filled["hb"].notna().all()
    with pytest.raises(QueryError, match="holds texts"):
        model.predict(frame, "note")
    model.save(tmp_path / "x.mvae")
    assert mvae.load_table(tmp_path / "x.mvae").embed(frame).equals(model.embed(frame))


@pytest.mark.parametrize(
    ("modality", "key", "value", "expected"),
    [
        ("note", "classes", 500, "the table says 7. Leave it out"),
        ("note", "levels", 255.0, "such a modality has none"),
        ("rest", "classes", 3, "such a modality has none"),
        ("rest", "length", 9, "such a modality has none"),
        ("note", "length", 99, None),
    ],
)
def test_declared_sizes_must_match_the_table(modality: str, key: str, value: Any, expected: str) -> None:
    frames = of_frame({"note": ["so it is", "or not"] * 20, "a": np.arange(40.0) ** 2})
    declared: dict[str, Any] = {"note": {"kind": "text"}, "rest": {"columns": ["a"]}}
    declared[modality][key] = value
    config = Config.from_dict({"data": {"source": "x.csv"}, "modalities": declared})
    schema = learned_from(config, frames, np.zeros(40, np.int8))
    (train,) = encoded_parts(frames, schema, np.zeros(40, np.int8), 1)
    if expected is None:
        assert completed_by(config, schema, train).modalities["note"].length == 4
    else:
        with pytest.raises(SettingsError, match=rf"^modalities\.{modality}\.{key} = {value}: {expected}"):
            completed_by(config, schema, train)


@pytest.mark.parametrize("epochs", [1, 2, 60, 1_000])
def test_learning_rate_decays_over_half_of_the_epochs(epochs: int) -> None:
    frames = of_frame({"a": np.arange(1_500.0), "b": np.arange(1_500.0) % 7})
    schema = TableSchema.learn(frames)
    (train,) = encoded_parts(frames, schema, np.zeros(1_500, np.int8), 1)
    config = mvae.Config.from_dict({"data": {"source": "table"}, "training": {"epochs": epochs}})
    assert completed_by(config, schema, train).training.decay_epochs == epochs // 2


def test_spread_of_draws_does_not_depend_on_their_number() -> None:
    frame = patients()[["hb", "crp"]].iloc[:60].copy()
    frame.loc[::2, "crp"] = np.nan
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    for modality in model.model.modalities.values():
        modality.stretch.fill_(3.0)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    gone = frame["crp"].isna().to_numpy()

    def spread(draws: int) -> float:
        """The mean spread of the draws over seeds, always from 40 tables in all."""
        found = [
            model.impute(frame, draws=draws, seed=seed)["crp"].to_numpy().reshape(draws, -1)[:, gone]
            for seed in range(40 // draws)
        ]
        logs = np.log(np.concatenate(found))
        return float(logs.std(0).mean())

    assert spread(1) == pytest.approx(spread(40), rel=0.15)


@pytest.mark.parametrize("name", ["mmvae", "mopoe", "mmvae_plus"])
def test_mixture_predictions_do_not_depend_on_row_order(name: str) -> None:
    frame = patients()[["hb", "crp", "sex"]]
    changes = {**FEW, "model": {"name": name}}
    model = mvae.fit_table(frame, modalities={"u": ["hb", "crp"], "v": ["sex"]}, changes=changes, callbacks=[])
    found, turned = (model.predict(rows, "hb")["hb"].to_numpy() for rows in (frame, frame[::-1]))
    np.testing.assert_allclose(found, turned[::-1], rtol=1e-4)


def test_float64_model_stays_float64_when_saved(tmp_path: Path) -> None:
    model = mvae.fit_table(patients(), changes=FEW, callbacks=[])
    model.model.double()
    model.save(tmp_path / "model.mvae")
    again = mvae.load_table(tmp_path / "model.mvae")
    assert again.model.dtype == torch.float64
    pd.testing.assert_frame_equal(again.impute(patients()), model.impute(patients()))


def test_clash_with_an_added_column_is_refused() -> None:
    frame = patients()[["hb", "crp"]].rename(columns={"crp": "hb.low"})
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    with pytest.raises(QueryError, match=r"adds a column 'hb.low', and the table already has one"):
        model.impute(frame, interval=0.9)


def test_scores_of_empty_rows_have_the_same_columns() -> None:
    frame = patients()[["hb", "crp"]]
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    nothing = frame.iloc[:3].assign(hb=np.nan, crp=np.nan)
    assert list(model.score(nothing)) == list(model.score(frame.iloc[:3]))
    assert model.score(nothing).isna().all(axis=None)


def test_error_names_the_row_of_the_table() -> None:
    frame = patients()[["hb", "crp"]].assign(visits=np.arange(ROWS) % 17)
    frame.loc[ROWS - 1, "visits"] = -4
    train = np.arange(50, ROWS)
    with pytest.raises(DataError, match=f"row {ROWS - 1}: -4 is not a value of kind count"):
        TableSchema.learn(of_frame(frame), kinds={"visits": "count"}, training=lambda a, b: np.isin(range(a, b), train))


def test_each_column_is_warned_of_once(trained: mvae.TableModel, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvae.runs.tables.MOST_ROWS", 10)
    frame = patients()
    frame.loc[[7, 11, 110], "city"] = ["Bodø", "Vadsø", "Bodø"]
    with caplog.at_level("WARNING", "mvae"):
        trained.embed(frame)
    expected = "column 'city': 3 cells are treated as missing; row 7: 'Bodø' is a category that no training row has"
    assert caplog.messages == [expected]


@pytest.mark.parametrize("interval", ["0.9", True, 0, 1.0, np.nan])
def test_invalid_interval_is_refused(trained: mvae.TableModel, interval: Any) -> None:
    for query in (trained.impute, lambda data, interval: trained.predict(data, "hb", interval=interval)):
        with pytest.raises(QueryError, match="an interval is a share of the probability"):
            query(patients(), interval=interval)


def test_load_table_requires_a_path() -> None:
    nothing: Any = None
    with pytest.raises(RunError, match="must be text or a path, not None"):
        mvae.load_table(nothing)


def test_given_column_name_may_contain_an_equals_sign(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    pd.DataFrame({"b": ["x", "y"] * 20, "b=c": [1, 2] * 20, "d": np.arange(40) ** 0.5}).to_csv(source, index=False)
    with unchecked():
        run, _ = mvae.train(Config.from_dict(FEW | {"data": {"source": str(source)}}), tmp_path / "run", callbacks=[])
    assert list(sample_cells(run, ("b=c=2", "d=1.5"), 3, 0)) == ["b"]
    assert list(sample_cells(run, ("b=x",), 3, 0)) == ["b=c", "d"]


def test_given_names_a_column_before_a_modality_of_several_columns(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    frame = pd.DataFrame({"hb": np.arange(40) ** 0.5, "crp": np.arange(40) % 7 + 0.5, "age": np.arange(40) ** 1.5})
    frame.to_csv(source, index=False)
    groups = {"x": {"columns": ["age"]}, "hb": {"columns": ["hb", "crp"]}}
    config = Config.from_dict(FEW | {"data": {"source": str(source)}, "modalities": groups})
    with unchecked():
        run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    assert run.model.names == ("x", "hb")
    assert names_columns(run, ("hb=2.5",))
    assert names_columns(run, (), ("hb",))
    assert not names_columns(run, ("x=2.5",))
    assert list(sample_cells(run, ("hb=2.5",), 2, 0)) == ["age", "crp"]


@pytest.mark.parametrize("value", [1e15, 1e30, 1e42, -1e308])
def test_huge_value_leaves_other_answers_of_its_row_finite(value: float) -> None:
    frame = patients()[["hb", "visits", "city"]]
    model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    row = frame.iloc[:1].assign(hb=value, visits=np.nan, city=None)
    filled = model.impute(row, interval=0.9)
    assert 0 <= filled["visits.low"][0] <= filled["visits"][0] <= filled["visits.high"][0] <= 1000
    chances = model.predict(row, of="city").drop(columns="city")
    assert np.isclose(chances.sum(axis=1), 1).all()
    assert np.isfinite(model.score(row)["log p"]).all()


def test_a_given_picture_is_found_here_or_in_the_tables_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "birds"
    folder.mkdir()
    for row in range(24):
        Image.new("L", (4, 4), 250 * (row % 2)).save(folder / f"{row}.png")
    cells = {"photo": [f"{row}.png" for row in range(24)], "size": np.arange(24) % 5 + 0.5}
    pd.DataFrame(cells).to_csv(folder / "x.csv", index=False)
    monkeypatch.chdir(tmp_path)
    declared = {"photo": {"kind": "picture", "columns": ["photo"]}, "rest": {"kind": "columns", "columns": ["size"]}}
    config = Config.from_dict(FEW | {"data": {"source": "birds/x.csv"}, "modalities": declared})
    with unchecked():
        run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    found = [
        sample_cells(run, (f"photo={path}",), 3, 0, of=("size",))["size"].tolist()
        for path in (folder / "1.png", "birds/1.png", "1.png")
    ]
    assert found[0] == found[1] == found[2]
    with pytest.raises(QueryError, match=r"--given photo=absent\.png: there is no such file"):
        sample_cells(run, ("photo=absent.png",), 3, 0, of=("size",))


def test_texts_are_sampled_given_cells(tmp_path: Path) -> None:
    notes = ["a good day", "a bad day"] * 30
    pd.DataFrame({"x": np.arange(60) ** 0.5, "y": np.arange(60) % 7 + 0.5, "n": notes}).to_csv(
        tmp_path / "x.csv", index=False
    )
    declared = {"rest": {"kind": "columns", "columns": ["x", "y"]}, "note": {"kind": "text", "columns": ["n"]}}
    same = {"x": declared["rest"], "note": declared["note"]}  # a modality with the name of one of its columns
    with unchecked():
        other, _ = mvae.train(
            Config.from_dict(FEW | {"data": {"source": str(tmp_path / "x.csv")}, "modalities": same}),
            tmp_path / "other",
            callbacks=[],
        )
    given = parse_given(other, ("x=2.5",))
    assert given is not None
    assert given["x"].tolist() == [[2.5, pytest.approx(np.nan, nan_ok=True)]]
    config = Config.from_dict(FEW | {"data": {"source": str(tmp_path / "x.csv")}, "modalities": declared})
    with unchecked():
        run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    assert list(sample_cells(run, ("x=2.5",), 2, 0)) == ["y"]
    assert list(sample_cells(run, ("n=a good day",), 2, 0)) == ["x", "y"]
    for of, message in [
        ("rest", "--of rest: name columns of this modality that are not given: y"),
        ("y,note", "--of note: a text is not sampled together with columns: ask for each alone"),
    ]:
        with pytest.raises(QueryError, match=message):
            sample_cells(run, ("x=2.5",), 2, 0, of=tuple(of.split(",")))
    cell, mask = torch.tensor([[2.5, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
    generator = torch.Generator().manual_seed(0)
    tokens = run.model.generate(
        mvae.Table({"rest": cell}, present={"rest": mask}), of=["note"], n=5, generator=generator
    )
    for of in ("note", "n"):
        assert not names_columns(run, ("x=2.5",), (of,))
        found = sample(run, parse_given(run, ("x=2.5",)), 5, 0, tmp_path / "unused.png", (of,))[1]
        assert found == {"note": [run.data.codecs["note"].format(row) for row in tokens["note"][:, 0]]}
    given = parse_given(run, ("x=2.5", "n=a bad day"))
    assert given is not None
    assert list(given) == ["rest", "note"]
    for twice in (("x=1", "x=2"), ("n=a", "note=a")):
        with pytest.raises(QueryError, match="twice: give one value"):
            parse_given(run, twice)
    with pytest.raises(QueryError, match="2 numbers, separated by commas, are needed, or cells by column, as x=…"):
        parse_given(run, ("rest=…",))
