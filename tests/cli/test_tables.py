"""The commands for a user's own table: describe, train, impute, predict, embed, score, evaluate."""

import csv
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvae.cli.asking import plain_cells
from mvae.cli.show import show_cells
from mvae.runs.held_out import CellScore
from mvae.runs.tables import load_table
from tests.command import assert_refused, mvae
from tests.patients import csv_of, patients

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, the declaration that describe proposes, and a run of it."""
    here = tmp_path_factory.mktemp("patients")
    source = csv_of(patients(), here)
    assert mvae("describe", source, "-o", here / "run.toml").code == 0
    trained = mvae("train", here / "run.toml", "--epochs", 2, "--run-dir", here / "run", "--json")
    assert trained.code == 0, trained.err
    cells = {cell["column"]: cell for cell in trained.json()["cells"]}
    assert set(cells) <= {"hb", "crp", "visits", "sex", "stage", "city", "visit", "share"}
    assert cells["hb"]["coverage"] is not None
    return here


def cells_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_describe_explains_the_kinds_of_columns(tmp_path: Path) -> None:
    frame = patients()
    frame["hb_copy"] = frame["hb"] * 10
    frame["weight"] = np.where(np.arange(len(frame)) % 9 == 0, -99.0, 70 + np.arange(len(frame)) / 7)
    frame.loc[3] = frame.loc[2]
    source = csv_of(frame, tmp_path)
    shown = mvae("describe", source, "-o", tmp_path / "run.toml", "--picture", tmp_path / "missing.png")
    assert shown.code == 0, shown.err
    for words in ("120 rows, 12 columns", "two values: f, m", "hb and hb_copy: one is a multiple of the other",
                  "rows equal to an earlier one: 1", "weight: -99 is far from all other", "■"):  # fmt: skip
        assert words in " ".join(shown.out.split()), words
    assert (tmp_path / "missing.png").read_bytes().startswith(b"\x89PNG")
    declared = tomllib.loads((tmp_path / "run.toml").read_text())
    assert declared["modalities"]["patients"]["kinds"]["city"] == "categorical"
    found = mvae("describe", source, "--missing", -99, "--json").json()
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["weight"]["missing"] == pytest.approx(14 / 120)
    assert columns["clinic"]["kind"] == "constant"
    assert columns["id"]["kind"] == "ignored"


def test_repeated_option_for_one_column_is_refused(tmp_path: Path) -> None:
    """The last one used to be taken without a warning."""
    source = csv_of(patients(), tmp_path)
    assert_refused(mvae("predict", tmp_path, source, "--of", "hb", "--of", "sex"), "not 2 (hb, sex): ask once for each")
    assert_refused(mvae("describe", source, "--key", "id", "--key", "visit"), "not 2 (id, visit): join them into one")


def test_describe_goes_on_after_an_unreadable_column(tmp_path: Path) -> None:
    frame = patients().astype({"hb": object})
    frame.loc[5, "hb"] = "n/a"
    shown = mvae("describe", csv_of(frame, tmp_path), "-o", tmp_path / "run.toml")
    assert shown.code == 0, shown.err
    assert "hb" not in tomllib.loads((tmp_path / "run.toml").read_text())["modalities"]["patients"]["kinds"]
    assert "except 'n/a'" in (tmp_path / "run.toml").read_text()


def test_a_file_is_one_modality_whatever_is_missing_together(tmp_path: Path) -> None:
    frame = patients()
    frame.loc[::3, ["hb", "crp"]] = None
    (found,) = mvae("describe", csv_of(frame, tmp_path), "--json").json()["modalities"].values()
    assert {"hb", "crp", "visits"} <= set(found)


def test_observed_cells_of_a_text_file_stay_byte_for_byte(folder: Path) -> None:
    before = cells_of(folder / "patients.csv")
    assert mvae("impute", folder / "run", folder / "patients.csv", "-o", folder / "filled.csv").code == 0
    after = cells_of(folder / "filled.csv")
    assert after[0] == before[0]
    assert len(after) == len(before)
    for old, new in zip(before[1:], after[1:], strict=True):
        assert all(cell == there for there, cell in zip(old, new, strict=True) if there)
        assert all(new[:-1])  # the last column is constant, and not declared


def test_parquet_file_has_types_intervals_and_draws(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    done = mvae(
        "impute", folder / "run", folder / "patients.csv", "-o", folder / "x.parquet", "--interval", 0.9, "--json"
    )
    assert done.json()["rows"] == 120
    found = pd.read_parquet(folder / "x.parquet")
    assert str(found["visits"].dtype) in ("int64", "Int64")
    assert found["visit"].dtype.kind == "M"
    assert found["hb"].dtype == float
    assert found["hb.low"].isna().sum() == patients()["hb"].notna().sum()
    mvae("impute", folder / "run", folder / "patients.csv", "-o", folder / "draws.parquet", "--draws", 2)
    assert pd.read_parquet(folder / "draws.parquet")[".imp"].value_counts().tolist() == [120, 120]


def test_predictions_embeddings_and_scores_are_written_row_by_row(folder: Path) -> None:
    run, source = folder / "run", folder / "patients.csv"
    done = mvae("predict", run, source, "--of", "city", "-o", folder / "city.csv")
    assert done.out == f"120 rows: {folder / 'city.csv'}\n"
    assert cells_of(folder / "city.csv")[0] == ["city", "city=Bergen", "city=Hamar", "city=Oslo"]
    embedded = mvae("embed", run, source, "--json").json()
    assert embedded["columns"][0] == "z1"
    assert len(embedded["first"]) == 10
    scored = mvae("score", run, source, "--samples", 10)
    assert "log p(hb | rest)" in scored.out
    evaluated = mvae("evaluate", run, "--samples", 10, "--json").json()
    assert {cell["column"] for cell in evaluated["cells"]} >= {"hb", "city"}
    assert list(evaluated["likelihoods"]) == ["log p(x1)"]
    assert "inside 90 %" in mvae("evaluate", run, "--samples", 10).out


def test_rows_are_sampled_given_some_cells(folder: Path) -> None:
    command = "sample", folder / "run", "--given", "sex=f", "--given", "hb=13.5"
    found = mvae(*command, "--n", 40, "--json").json()["samples"]
    assert set(found) == {"crp", "visits", "stage", "city", "visit", "share"}
    assert {len(cells) for cells in found.values()} == {40}
    assert len(set(found["city"])) > 1
    shown = mvae(*command, "--n", 2, "--of", "city,hb")
    assert shown.out.split()[:2] == ["city", "hb"]
    assert shown.out.count("13.5") == 2
    assert mvae(*command, "--n", 2, "--of", "city,hb").out == shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--given", "hb=high"], "--given hb=high: column 'hb', row 0: 'high' is not a value of kind real"),
        (["--given", "sex=x"], "'x' is none of f, m"),
        (["--given", "city=oslo"], "'oslo' is none of Bergen, Hamar, Oslo (did you mean 'Oslo'?)"),
        (["--given", "HB=7"], "share (did you mean 'hb'?)"),
        (["--given", "hb="], "--given hb=: that means missing; leave it out"),
        (["--given", "hb"], "write COLUMN=VALUE, for example "),
        (["--given", "hb=1", "--given", "hb=2"], "--given names hb twice"),
        (["--given", "ph=7"], "no column 'ph' that this model sees; it has "),
        (["--given", "hb=13", "--of", "ph"], "no column 'ph' that this model sees; it has "),
        ([w for c in ("hb=1", "crp=1", "visits=1", "sex=f", "stage=2", "city=Oslo", "visit=2024-01-01", "share=0.5")
          for w in ("--given", c)], "everything is given, so say what to sample: --of "),
    ],
)  # fmt: skip
def test_invalid_given_cells_are_refused(options: list[str], message: str, folder: Path) -> None:
    assert_refused(mvae("sample", folder / "run", *options), message)


def test_commands_answer_as_python_does(folder: Path) -> None:
    """Also by default, with the same number of samples."""
    run, source = folder / "run", folder / "patients.csv"
    model = load_table(run)
    for words, expected in (
        (["impute", run, source], model.impute(source, seed=3)),
        (["predict", run, source, "--of", "hb"], model.predict(source, "hb", seed=3)),
        (["score", run, source], model.score(source, seed=3)),
    ):
        assert mvae(*words, "--seed", 3, "-o", folder / "answer.parquet").code == 0
        found = pd.read_parquet(folder / "answer.parquet")
        for column in expected.select_dtypes(float).columns:
            np.testing.assert_allclose(found[column].astype(float), expected[column].astype(float), rtol=1e-9)


def test_the_first_rows_are_shown_as_such(folder: Path, tmp_path: Path) -> None:
    run, ten = folder / "run", csv_of(patients(seed=3).head(10), tmp_path, "ten.csv")
    done = mvae("predict", run, folder / "patients.csv", "--of", "hb")
    assert len(done.out.splitlines()) == 11
    assert "the first 10 of 120 rows; -o FILE writes all" in done.err
    found = mvae("predict", run, folder / "patients.csv", "--of", "hb", "--samples", 40_000, "--json").json()
    assert (found["rows"], len(found["first"])) == (120, 10)  # though few rows of so many samples are answered at once
    assert "-o FILE" not in mvae("predict", run, ten, "--of", "hb").err


def test_different_columns_of_a_new_file_are_noted(folder: Path, tmp_path: Path) -> None:
    frame = patients(seed=3).drop(columns="hb").assign(extra=1)
    frame["city"] = "Paris"
    done = mvae("embed", folder / "run", csv_of(frame, tmp_path, "new.csv"), "--json")
    assert done.code == 0
    assert "note: absent, and so missing in every row: hb" in done.err
    assert "note: extra was not in the training table and is not used" in done.err


def test_files_are_joined_by_a_key_and_the_run_is_resumed(tmp_path: Path) -> None:
    frame = patients()
    one = csv_of(frame[["id", "hb", "crp", "city"]].iloc[:100], tmp_path, "labs.csv")
    two = csv_of(frame[["id", "visits", "share"]].iloc[20:], tmp_path, "visits.csv")
    said = mvae("describe", one, two, "--key", "id", "-o", tmp_path / "run.toml", "--json")
    assert said.json()["modalities"] == {"labs": ["hb", "crp", "city"], "visits": ["visits", "share"]}
    run = tmp_path / "run"
    assert mvae("train", tmp_path / "run.toml", "--epochs", 1, "--run-dir", run, "--json").code == 0
    resumed = mvae("train", tmp_path / "run.toml", "--epochs", 1, "--run-dir", run, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert_refused(
        mvae("train", tmp_path / "run.toml", "--epochs", 1, "--run-dir", run, "--resume", "--set", "model.latents=3"),
        "cannot be resumed with other settings: model.latents was",
    )
    filled = mvae("impute", run, one, two, "-o", tmp_path / "x.csv")
    assert filled.code == 0, filled.err
    rows = cells_of(tmp_path / "x.csv")
    assert (len(rows), rows[0]) == (121, ["id", "hb", "crp", "city", "visits", "share"])
    scored = mvae("score", run, one, two, "--samples", 10, "--json").json()
    assert scored["columns"] == ["id", "log p", "log p(labs | rest)", "log p(visits | rest)"]


def test_resuming_with_a_renamed_column_names_only_this_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({f"x{i}": np.random.default_rng(i).normal(size=60) for i in range(40)})
    words = ["train", csv_of(frame, tmp_path, "wide.csv"), "--epochs", 1, "--run-dir", tmp_path / "run", "--json"]
    assert mvae(*words).code == 0
    csv_of(frame.rename(columns={"x7": "y7"}), tmp_path, "wide.csv")
    done = mvae(*words, "--resume")
    assert_refused(done, "modalities.wide.columns had ['x7'], now has ['y7'] instead")
    assert "x8" not in done.err


def test_files_are_joined_as_describe_proposes(tmp_path: Path) -> None:
    frame = patients()
    one = csv_of(frame[["id", "hb", "crp"]].fillna(-999), tmp_path, "labs.csv")
    two = csv_of(frame[["id", "visits", "share"]].iloc[20:], tmp_path, "visits.csv")
    words = [one, two, "--key", "id", "--missing", -999]
    assert mvae("describe", *words).out.endswith(f"try next: mvae train {shlex.join(map(str, words))}\n")
    done = mvae("train", *words, "--epochs", 1, "--run-dir", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    schema = load_table(tmp_path / "run").schema
    assert schema.modalities == {"labs": ("hb", "crp"), "visits": ("visits", "share")}
    assert not schema.named["hb"].present(pd.Series([-999], name="hb")).any()
    assert_refused(mvae("train", one, two, "--run-dir", tmp_path / "other"), "say which, with --key")
    assert_refused(mvae("train", one, "digits"), "digits is not a table")
    for words in (["--missing", -999], ["--key", "id"]):
        assert_refused(mvae("train", "digits", *words), f"{words[0]} is for tables, and digits is not one")


def test_inf_and_nan_may_mean_missing(tmp_path: Path) -> None:
    source = csv_of(patients()[["hb", "crp"]].astype(object).fillna("inf"), tmp_path)
    for words in ([source, "--missing", "inf", "--missing", "nan"], [tmp_path / "run.toml"]):
        done = mvae("train", *words, "--epochs", 1, "--run-dir", tmp_path / f"run {len(words)}", "--json")
        assert done.code == 0, done.err
        assert mvae("describe", source, "--missing", "inf", "-o", tmp_path / "run.toml").code == 0


def test_describing_an_npz_says_that_train_makes_each_array_a_modality(tmp_path: Path) -> None:
    path, random = tmp_path / "x.npz", np.random.default_rng(0)
    np.savez(path, labs=random.normal(size=(30, 2)), image=random.random((30, 1, 4, 4)), sick=np.arange(30) % 2)
    shown = mvae("describe", path).out
    assert "image has rows of shape (1, 4, 4) and is left out of the table" in shown
    assert f"one table, which a declaration (-o) trains; mvae train {path} makes each array a modality" in shown
    assert mvae("train", path, "--epochs", 1, "--run-dir", tmp_path / "run", "--json").code == 0
    trained = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["modalities"]
    assert list(trained) == ["labs", "image", "sick"]


def test_describe_suggests_a_declaration_for_an_unusable_column(tmp_path: Path) -> None:
    pd.DataFrame({"t": pd.to_timedelta(range(30), unit="s"), "x": np.arange(30) ** 0.5}).to_parquet(
        tmp_path / "x.parquet"
    )
    declared = mvae("describe", tmp_path / "x.parquet").out.splitlines()[-1]
    assert declared == f"try next: mvae describe {tmp_path / 'x.parquet'} -o run.toml"
    done = mvae("describe", tmp_path / "x.parquet", "-o", tmp_path / "run.toml")
    assert done.out.endswith(f"try next: mvae train {tmp_path / 'run.toml'}\n")


def test_invalid_commands_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    run, source = folder / "run", folder / "patients.csv"
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "other.csv").write_text("a\n1\n")
    declared = (folder / "run.toml").read_text()
    for text, message in (
        (declared.replace('hb = "real"', 'hbb = "real"'), "has no column 'hbb'"),
        (declared.replace('hb = "real"', 'hb = "reel"'), "did you mean 'real'"),
        (declared.replace('hb = "real"', 'hb = "count"'), "is not a value of kind count"),
        (declared.replace('kind = "columns"', 'kind = "sentence"'), "a table has"),
        (declared.replace('hb = "real"', 'hb = { kind = "bounded", low = 1 }'), "bounds are low and high: give both"),
    ):
        (tmp_path / "run.toml").write_text(text)
        assert_refused(mvae("train", tmp_path / "run.toml", "--run-dir", tmp_path / "run"), message)
    for words, message in (
        (("describe", tmp_path / "empty.csv"), "is empty"),
        (("describe", source, source), "patients.csv is named twice: name each file once"),
        (("describe", source, tmp_path / "other.csv"), "joined by a column"),
        (("impute", tmp_path, source), "is not a run directory"),
        (("impute", source, run), "patients.csv is a table, not a model: name the run directory"),
        (("impute", run, source, "-o", tmp_path / "x.docx"), "its suffix is none of"),
        (("predict", run, source, "--of", "hbb"), "did you mean 'hb'"),
        (("predict", run, source, "--of", "hb", "--interval", 3), "between 0 and 1"),
    ):
        assert_refused(mvae(*words), message)
    assert json.loads((run / "run.json").read_text())["layout"]["modalities"]["patients"][0] == "hb"


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a table with a group of columns, a column by itself and a picture."""
    here = tmp_path_factory.mktemp("grouped")
    frame = patients()[["hb", "crp", "sex"]].assign(photo="photo.png")
    Image.new("L", (8, 8)).save(here / "photo.png")
    text = f'[data]\nsource = "{csv_of(frame, here)}"\n' + "".join(
        f'[modalities.{name}]\nkind = "{kind}"\ncolumns = {columns}\n'
        for name, kind, columns in (
            ("labs", "columns", ["hb", "crp"]), ("sex", "columns", ["sex"]), ("photo", "picture", ["photo"]),
        )
    )  # fmt: skip
    (here / "run.toml").write_text(text + '[evaluation]\nshow = ["sex=f"]\n')
    assert mvae("train", here / "run.toml", "--epochs", 1, "--run-dir", here / "run").code == 0
    return here / "run"


@pytest.mark.parametrize(
    ("options", "sampled", "picture"),
    [
        (["--given", "sex=f"], {"labs"}, True),
        (["--given", "sex=f", "--of", "labs"], {"labs"}, False),
        (["--given", "sex=f", "--given", "labs=12,3"], set(), True),
        (["--given", "sex=f", "--of", "hb"], {"hb"}, False),
        (["--of", "hb,crp"], {"hb", "crp"}, False),
    ],
)
def test_modality_named_like_its_only_column_is_given_by_a_cell(
    options: list[str], sampled: set[str], picture: bool, grouped: Path
) -> None:
    found = mvae("sample", grouped, *options, "--n", 2, "--json").json()
    assert set(found["samples"]) == sampled
    assert (found["picture"] is not None) == picture


def test_training_with_pictures_in_a_table_draws_some(grouped: Path) -> None:
    with Image.open(grouped / "samples.png") as picture:
        assert picture.width > 12 * 8  # a row of 12 pictures of 8 × 8 pixels


def test_picture_is_sampled_given_a_cell(grouped: Path, tmp_path: Path) -> None:
    found = mvae("sample", grouped, "--given", "hb=12", "--of", "photo", "--n", 2, "-o", tmp_path / "x.png", "--json")
    assert found.json() == {"run": str(grouped), "picture": str(tmp_path / "x.png"), "samples": {}}
    assert_refused(mvae("sample", grouped, "--given", "hb=x", "--of", "photo"), "--given hb=x: column 'hb', row 0")


def test_describe_says_what_pictures_a_table_has(tmp_path: Path) -> None:
    for name, size in (("a", (8, 6)), ("b", (80, 60)), ("c", (16, 12))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    cells = [*"abcde"] * 2
    (tmp_path / "x.csv").write_text("photo,hb\n" + "".join(f"{c}.png,{i}.5\n" for i, c in enumerate(cells)))
    found = mvae("describe", tmp_path / "x.csv", "--json").json()
    assert found["columns"][0]["values"] == "8 × 6 to 80 × 60 pixels, read as 16 × 12 in grey"
    absent, damaged = found["notes"]
    assert absent == f"photo: 1 of 5 files are not there, and so missing: {tmp_path / 'e.png'}"
    assert damaged.startswith(f"photo: cannot read the picture {tmp_path / 'd.png'}: it is not an image;")


def test_describe_shortens_long_texts_and_suggests_text(tmp_path: Path) -> None:
    words = "one two three " * 60
    (tmp_path / "x.csv").write_text("note,hb\n" + "".join(f"it's {i % 3} {words},{i}.5\n" for i in range(30)))
    column = mvae("describe", tmp_path / "x.csv", "--json").json()["columns"][0]
    assert column["reason"] == "text with 3 different values; declare text if they are sentences"
    assert column["values"].startswith("it's 0 one two three")
    assert len(column["values"]) < 3 * 60


def test_invalid_cell_of_a_modality_is_refused(grouped: Path) -> None:
    assert_refused(mvae("sample", grouped, "--given", "sex=x"), "--given 'sex=x': column 'sex', row 0: 'x' is none of")
    declared = (grouped.parent / "run.toml").read_text().replace("sex=f", "sex=x")
    (grouped.parent / "other.toml").write_text(declared)
    refused = mvae("train", grouped.parent / "other.toml", "--run-dir", grouped.parent / "other")
    assert_refused(refused, "evaluation.show, 'sex=x': column 'sex', row 0: 'x' is none of f, m")


def test_samples_are_written_as_in_the_table(folder: Path) -> None:
    found = mvae("sample", folder / "run", "--n", 3, "--json").json()["samples"]
    assert {len(rows) for rows in found.values()} == {3}
    for sex, visit, city in zip(*([row[c] for row in _merged(found)] for c in ("sex", "visit", "city")), strict=True):
        assert sex in ("f", "m")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", visit)
        assert city in ("Oslo", "Bergen", "Hamar")
    shown = mvae("sample", folder / "run", "--n", 3).out
    assert re.search(r"\bsex [fm], ", shown)
    assert re.search(r"\bvisit 20\d\d-\d\d-\d\d\b", shown)


def _merged(samples: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several modalities as one row each."""
    return [dict(item for part in parts for item in part.items()) for parts in zip(*samples.values(), strict=True)]


def test_strings_of_a_parquet_file_stay_strings(folder: Path, tmp_path: Path) -> None:
    frame = patients()
    frame["hb"] = frame["hb"].map(lambda value: None if value != value else f"{value:05.1f}")
    frame.to_parquet(tmp_path / "text.parquet")
    assert mvae("impute", folder / "run", tmp_path / "text.parquet", "-o", tmp_path / "out.parquet").code == 0
    made = pd.read_parquet(tmp_path / "out.parquet")["hb"]
    assert made[frame["hb"].notna()].tolist() == frame["hb"].dropna().tolist()


def test_impute_warns_of_too_few_rows_for_neighbours(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, corrected = tmp_path / "plain.csv", tmp_path / "beside.csv"
    assert mvae("impute", folder / "run", folder / "patients.csv", "-o", plain).code == 0
    done = mvae("impute", folder / "run", folder / "patients.csv", "-o", corrected, "--neighbours")
    assert done.code == 0
    assert "neighbours need 1,000 rows at once" in caplog.text
    assert plain.read_text() == corrected.read_text()


def test_predicted_dates_are_written_as_in_the_table(tmp_path: Path) -> None:
    source, run, answer = tmp_path / "d.csv", tmp_path / "run", tmp_path / "a.csv"
    random = np.random.default_rng(0)
    rows = [f"{day:02d}.0{month}.2021,{day + month}" for day, month in random.integers(1, [29, 10], (40, 2))]
    source.write_text("\n".join(["tag,n", *rows]))
    assert mvae("train", source, "--epochs", 1, "--run-dir", run, "--json").code == 0
    assert mvae("predict", run, source, "--of", "tag", "-o", answer).code == 0
    cells = [cell for line in answer.read_text().splitlines()[1:] for cell in line.split(",")]
    assert len(cells) == 120
    assert all(re.fullmatch(r"\d\d\.\d\d\.\d{4}", cell) for cell in cells), cells[:3]
    shown = mvae("predict", run, source, "--of", "tag", "--json").json()["first"]
    assert [cell for row in shown for cell in row] == cells[:30]
    assert_refused(mvae("train", source, "--run-dir", run, "--resume"), "resume with the same rows and options")
    source.write_text("\n".join(["tag,n", *rows * 30]))  # of 1,200 rows, for which the defaults differ
    assert_refused(
        mvae("train", source, "--epochs", 1, "--run-dir", run, "--resume"), "but chosen by the table: resume"
    )


def test_answers_use_the_decimal_comma_of_the_table(tmp_path: Path) -> None:
    """A spreadsheet that expects commas takes 0.49 for text, and 1.5 for a day in May."""
    x = np.random.default_rng(0).normal(size=40)
    rows = [f"{a:.2f};{'Ost' if a > 0 else 'Nord'};{'' if i % 4 == 0 else f'{2 * a:.2f}'}" for i, a in enumerate(x)]
    source = tmp_path / "k.csv"
    source.write_text("\n".join(["x;ort;y", *(row.replace(".", ",") for row in rows)]))
    run = tmp_path / "run"
    assert mvae("train", source, "--epochs", 1, "--run-dir", run, "--json").code == 0
    for command, *options in (("predict", "--of", "x"), ("predict", "--of", "ort"), ("embed",), ("score",)):
        assert mvae(command, run, source, *options, "-o", tmp_path / "a.csv").code == 0
        lines = (tmp_path / "a.csv").read_text().splitlines()[1:]
        assert len(lines) == 40
        assert all("," in line and "." not in line for line in lines), (command, lines[0])
        assert mvae(command, run, source, *options, "-o", tmp_path / "a.parquet").code == 0
        assert (pd.read_parquet(tmp_path / "a.parquet").dtypes == "float64").sum() >= 2


def test_input_files_are_never_overwritten(folder: Path) -> None:
    source = folder / "patients.csv"
    before, other = source.read_bytes(), folder / "link.csv"
    other.symlink_to(source)
    for output in (source, other):
        for words in (("describe", source, "-o"), ("describe", source, "--picture"),
                      ("impute", folder / "run", source, "-o"), ("score", folder / "run", source, "-o")):  # fmt: skip
            assert_refused(mvae(*words, output), "is read, and would be overwritten: choose another output file")
    assert source.read_bytes() == before


def test_directory_is_not_called_absent(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for command in ("describe", "train"):
        assert_refused(mvae(command, tmp_path / "d.csv"), "it is a directory, not a file")


def test_output_that_is_not_written_is_named(folder: Path) -> None:
    shown = mvae("sample", folder / "run", "--given", "hb=12", "--n", 2, "--output", folder / "x.png")
    assert (shown.code, (folder / "x.png").exists()) == (0, False)
    assert "x.png is not written: no picture was sampled" in shown.err


def test_wide_tables_are_listed_in_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).standard_normal((60, 70))
    frame = pd.DataFrame(values, columns=[f"gene{i}" for i in range(70)])
    out = mvae("describe", csv_of(frame, tmp_path)).out
    assert "… and 10 more columns, which --json and the declaration list" in out
    assert "gene59" in out
    assert "gene60" not in out
    score = CellScore("gene", "real", 5, 0.5, 1.0, 0.9, -1.0)
    show_cells([score] * 70)
    shown = capsys.readouterr().out
    assert shown.count("gene") == 60
    assert "… and 10 more columns, which --json lists" in shown


def test_missing_cells_of_every_type_are_null_in_json() -> None:
    """pandas.NA, as in a column of integers that the model does not see, ended in a traceback."""
    assert plain_cells([pd.NA, None, np.nan, pd.NaT, 1, "a"]) == [None] * 4 + [1, "a"]
