"""`mvae reproduce` and `mvae paper-score`: each item by its command, and options that are refused."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mvae.cli.main import cli
from mvae.errors import MvaeError
from mvae.files import read_json
from mvae.paper.command import FLAGS
from mvae.paper.item import Options
from mvae.paper.items import ITEMS
from mvae.paper.results import Row, read_rows
from mvae.runs.run import train
from tests.command import assert_refused, mvae
from tests.declared import changed


def reproduce(*words: object) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *map(str, words)], catch_exceptions=False)


def test_left_out_names_omitted_datasets():
    row = {"dataset": "celeba", "model": "mvae", "recipe": "paper", "seed": 0, "budget": "laptop"}
    rows = [
        {**row, "settings": {"train_minutes": 42.0}},
        {**row, "dataset": "mnist", "settings": {"train_minutes": 7.0}},
    ]
    message = ITEMS["table2"].left_out(Options(), rows)
    assert message == (
        "table2: mnist only. Left out: --datasets binary-mnist,fashion-mnist,multimnist,celeba "
        "(1 recorded runs of these trained for 42 minutes)"
    )
    assert ITEMS["table2"].left_out(Options(datasets=("mnist",)), rows) is None
    assert ITEMS["table1"].left_out(Options(), rows) is None
    assert "(none is recorded)" in str(ITEMS["figure2"].left_out(Options(budget="smoke"), rows))


def test_items_take_options_of_the_command_and_declare_needs() -> None:
    options = {field.name for field in fields(Options)}
    assert {f"--{name}" for name in options} | {"--engine"} == set(FLAGS)
    for name, item in ITEMS.items():
        assert (item.name, set(item.takes) - options) == (name, set())
        assert ("levels" in item.takes) == (item.levels is not None)
        assert (item.cells is None) == (item.make is not None)
        assert item.budgets.keys() - {"long"} == {"smoke", "laptop", "paper"}
        assert bool(item.needs) == (name != "table1")  # table1 only counts parameters


def test_list_shows_training_time(tmp_path: Path) -> None:
    row = dict.fromkeys(Row.__dataclass_fields__) | {"dataset": "digits", "model": "mvae", "recipe": "paper"}
    row |= {"seed": 0, "n": 1, "value": 0.5, "budget": "smoke", "settings": {"train_minutes": 3.4}}
    (tmp_path / "table2.json").write_text(json.dumps([row]))
    listed = mvae("reproduce", "--list", "--results", tmp_path).out
    assert "table2    log p(x1)" in listed
    assert f"smoke: 3 minutes of training, runs: 1, in {tmp_path}/" in listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("table1", "--budget", "smoke"), "--budget: not for table1, which takes --datasets, --models"),
        (("figure2", "--models", "vae", "--engine", "slurm"), "--engine, --models: not for figure2, which takes --dat"),
        (("table5", "--jobs", "2"), "--jobs: not for table5, which takes --recipes, --budget"),
        (("table12", "--seeds", "2"), "--seeds: not for table12"),
        (("table8", "--seeds", "0"), "0 is not in the range x>=1"),
        (("table2", "--jobs", "-1"), "-1 is not in the range x>=1"),
    ],
)
def test_inapplicable_option_is_refused(words: tuple[str, ...], message: str) -> None:
    result = reproduce(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "no item 'nope'; there are table1, "),
        (("table8", "--levels", "x"), "--levels 'x': write paired fractions, for example 0.001,0.1"),
        (("table8", "--levels", ""), "write paired fractions"),
        (("figure9", "--levels", "1%"), "--levels '1%': write probabilities, for example 0.1,1"),
        (("figure10", "--levels", "0.5"), "--levels '0.5': write numbers of random subsets, for example 0,1,10"),
        (("figure10", "--levels", "-1"), "levels are numbers of random subsets, ≥ 0, not -1"),
        (("table8", "--levels", "0.1,0"), r"levels are paired fractions, in \(0, 1\], not 0"),
        (("table4", "--levels", "2"), r"levels are paired fractions, in \(0, 1\], not 2"),
        (("figure9", "--levels", "0"), r"levels are probabilities, in \(0, 1\], not 0"),
        (("table11", "--recipes", "paper,coupled"), "table11 is of one recipe at a time, not of paper, coupled"),
        (("figure14", "--recipes", "paper,coupled"), "figure14 is of one recipe at a time"),
        (("table2", "--datasets", "nope"), "no dataset 'nope' for table2; there are binary-mnist"),
        (("table2", "--models", "nope"), "no model 'nope' for table2; there are bivcca, cvae"),
        (("lambda", "--budget", "nope"), "no budget 'nope'; there are smoke, laptop, paper"),
        (("figure2", "--recipes", "nope"), "no recipe 'nope' for figure2; there are paper, coupled"),
        (("figure9", "--datasets", "mnist"), "no dataset 'mnist' for figure9; there are celeba19, faces19"),
        (("table8", "--datasets", "binary-mnist"), "no dataset 'binary-mnist' for table8; there are mnist"),
        (("table8", "--models", "cvae"), "no model 'cvae' for table8; there are logreg"),
        (("table10", "--models", "rbm"), "no model 'rbm' for table10; there are nn, jmvae, mvae"),
    ],
)
def test_invalid_options_are_refused_before_training(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(MvaeError, match=message):
        reproduce(*words, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_reproduce_makes_table_and_figure(tmp_path: Path) -> None:
    where = "--results", tmp_path / "results", "--runs", tmp_path / "runs", "--budget", "smoke", "--device", "cpu"
    only = "--models", "logreg", "--levels", "0.1", *where
    rows = json.loads(reproduce("table8", "--json", *only).stdout)["rows"]
    assert [(row["item"], row["model"]) for row in rows] == [("table8", "logreg")]
    shown = reproduce("table8", *only)
    assert "table8, budget smoke" in shown.stdout
    pytest.importorskip("matplotlib")
    reproduce("figure3", *only)
    assert (tmp_path / "results" / "figure3.png").stat().st_size > 10_000
    assert not (tmp_path / "results" / "table8.png").exists()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("score") / "run"
    train(changed("digits", epochs=2, anneal_epochs=0), directory, device="cpu", callbacks=[])
    return directory


def test_paper_score_records_likelihoods_and_coherence(digits: Path, tmp_path: Path) -> None:
    words = digits, "--rows", 20, "--samples", 10, "--coherence", "--record", tmp_path, "--device", "cpu"
    scores = mvae("paper-score", *words, "--json").json()
    rows = {
        row["metric"]: row for item in ("table2", "table3", "figure2") for row in read_rows(tmp_path / f"{item}.json")
    }
    assert {"log p(x1)", "var log w p(x1)", "agreement x2->x1", "classifier accuracy on test rows"} <= rows.keys()
    assert rows["classifier accuracy on test rows"]["value"] > 0.9
    assert all(row["value"] == scores[metric] for metric, row in rows.items())
    row = rows["log p(x1)"]
    assert (row["dataset"], row["model"], row["recipe"], row["n"]) == ("digits", "mvae", "coupled", 20)
    assert row["budget"] == "2 of 150 epochs"
    assert row["command"].startswith(read_json(digits / "run.json")["command"] + " && mvae paper-score ")
    assert list(digits.parent.glob("*digits-label.safetensors"))
    assert "log p(x1,x2)" in mvae("paper-score", digits, "--rows", 2, "--samples", 2, "--device", "cpu").out


def test_coherence_needs_conditional_images(tmp_path: Path) -> None:
    train(changed("digits", model="vae", epochs=1), tmp_path / "vae", device="cpu", callbacks=[])
    words = tmp_path / "vae", "--rows", 2, "--samples", 2, "--coherence", "--device", "cpu"
    assert_refused(mvae("paper-score", *words), "conditional coherence is of images")


def test_run_on_other_dataset_is_refused(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    stored = read_json(tmp_path / "run" / "run.json")
    stored["config"]["data"]["source"] = "fashion"
    (tmp_path / "run" / "run.json").write_text(json.dumps(stored))
    assert_refused(mvae("paper-score", tmp_path / "run"), "no dataset 'fashion'")
