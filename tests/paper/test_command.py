"""`mvae reproduce`: each item by its command, and options that it does not take refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mvae.cli.main import cli
from mvae.errors import MvaeError
from mvae.paper import ITEMS, LEVELS
from mvae.paper.items import MAKERS

OF_COMMAND = {"datasets", "models", "recipes", "levels", "seeds", "budget", "workers", "places"}


def reproduce(*words: object) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *map(str, words)], catch_exceptions=False)


def test_every_item_is_made_by_options_of_the_command() -> None:
    assert MAKERS.keys() == ITEMS.keys()
    for item, maker in MAKERS.items():
        assert set(maker.takes) - OF_COMMAND <= {"n", "seed"}, item
        assert ("levels" in maker.takes) == (item in LEVELS)


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
def test_an_option_that_means_nothing_is_refused(words: tuple[str, ...], message: str) -> None:
    result = reproduce(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "no item 'nope'; there are table1, "),
        (("table8", "--levels", "x"), "write shares of pairs"),
        (("table8", "--levels", ""), "write shares of pairs"),
        (("table11", "--recipes", "paper,coupled"), "table11 is of one recipe at a time, not of paper, coupled"),
        (("figure14", "--recipes", "paper,coupled"), "figure14 is of one recipe at a time"),
    ],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(MvaeError, match=message):
        reproduce(*words)


def test_a_table_and_a_figure_by_their_commands(tmp_path: Path) -> None:
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
