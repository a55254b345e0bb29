"""Differences between models, paired by row, compared with each model's own estimates."""

import math
from pathlib import Path

import pytest

from mvae.paper.harness import directory_of, finished_run, reproduce
from mvae.paper.item import BUDGETS, Options
from mvae.paper.items import ITEMS
from mvae.paper.paired import values_file
from mvae.paper.tables import _cells
from mvae.runs.evaluation import evaluate
from tests.paper.common import paths


def test_differences_are_paired_by_row_with_standard_error(tmp_path: Path) -> None:
    options = Options(datasets=("digits",), models=("vae", "mvae"), budget="smoke")
    where, table, spend = paths(tmp_path), ITEMS["table2"], BUDGETS["smoke"]
    rows = reproduce(table, options, where)
    found = {(row["model"], row["recipe"], row["metric"]): row for row in rows}
    values = {}
    for cell in _cells(False, table.completed(options), spend):
        run = finished_run(cell, where)
        own = evaluate(run, rows=spend.rows("digits"), samples=spend.samples, proposal=("image",), seed=0)
        values[cell.model, cell.recipe] = own.likelihoods["log p(x1)"].values.tolist()
    assert len(values) == 3
    for who in (("vae", "paper"), ("mvae", "coupled")):
        row = found[*who, "log p(x1) − mvae paper"]
        each = [a - b for a, b in zip(values[who], values["mvae", "paper"], strict=True)]
        mean = sum(each) / len(each)
        spread = math.sqrt(sum((d - mean) ** 2 for d in each) / (len(each) - 1))
        assert row["value"] == pytest.approx(mean, abs=1e-3)
        assert row["stderr"] == pytest.approx(spread / math.sqrt(len(each)), abs=1e-3)
        assert row["n"] == len(each)
        assert row["paper"] is None  # nothing is published for digits
    assert ("mvae", "paper", "log p(x1) − mvae paper") not in found


def test_results_without_stored_values_have_no_differences(tmp_path: Path) -> None:
    options = Options(datasets=("digits",), models=("vae", "mvae"), recipes=("paper",), budget="smoke")
    where, table = paths(tmp_path), ITEMS["table2"]
    first = Options(datasets=("digits",), models=("mvae",), recipes=("paper",), budget="smoke")
    reproduce(table, first, where)
    (cell,) = _cells(False, table.completed(first), BUDGETS["smoke"])
    values_file(directory_of(cell, where), joint=False, budget="smoke").unlink()
    assert not [row for row in reproduce(table, options, where) if "−" in row["metric"]]
