"""Figures 9 and 10: rows for each p and k, recorded once; curves over seeds; the pictures."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mvae.data.dataset import Dataset
from mvae.data.masking import kept_cells
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.evaluation.prediction import prediction_accuracy
from mvae.models.mvae import MVAE
from mvae.paper.attributes import ATTRIBUTES, separated
from mvae.paper.cell import Cell, cell_of
from mvae.paper.datasets import faces19
from mvae.paper.harness import finished_run, reproduce
from mvae.paper.item import Options
from mvae.paper.mvae19 import FIGURE9, FIGURE10, JOINT, VARIANCE, curve
from mvae.paper.results import Row, read_rows
from mvae.runs.run import read_run, train
from mvae.training.callbacks import Callback
from tests.built import built
from tests.paper.common import assert_made_once, assert_picture, paths


def tiny(data_dir: Path | None) -> Dataset:
    """A small substitute for the 19 modalities: random images and attributes on which a run takes a second."""
    g = torch.Generator().manual_seed(0)
    train, validation, test = (
        Table({
            "image": torch.randint(0, 256, (rows, 3, 64, 64), generator=g, dtype=torch.uint8),
            "attributes": torch.rand(rows, len(ATTRIBUTES), generator=g) < 0.3,
        })
        for rows in (40, 30, 10)
    )  # fmt: skip
    return separated(Dataset("faces", train, validation, test), "faces19")


@pytest.fixture
def tiny_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces19, "load", tiny)


@pytest.mark.usefixtures("tiny_faces")
def test_each_p_is_measured_once_with_dropped_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = partial(reproduce, FIGURE9, Options(levels=(0.05, 1.0), budget="smoke"), paths(tmp_path))
    rows = make()
    assert rows == read_rows(tmp_path / "results" / "figure9.json")
    joint, rest = {"log p(x1,x2)", "log p(x1|x2)"}, {"log p(x1)", "accuracy x1->x2", "accuracy ->x2"}
    for p in (0.05, 1.0):
        own = [row for row in rows if row["settings"]["kept"] == p]
        found = {row["metric"] for row in own}
        assert rest <= found
        assert joint <= found if p == 1 else not joint & found  # with p = 0.05, some attribute has no values
        empty = int((~kept_cells(40, 19, p, seed=0).any(1)).sum())
        for row in own:
            assert set(row) == set(Row.__dataclass_fields__)
            assert (row["item"], row["dataset"], row["n"], row["paper"]) == ("figure9", "faces19", 5, None)
            counts = (row["settings"]["rows_trained_on"], row["settings"]["rows_dropped"])
            assert counts == (40 - empty, empty)
            assert f"--levels {p:g} " in row["command"]
    assert rows[0]["settings"]["rows_dropped"] > 0

    data = tiny(None)
    test_rows = data.test.take(range(5))  # the scored rows
    run = finished_run(Cell.of("faces19", "paper", kept=1.0, epochs=1, rows=60), paths(tmp_path))
    shares, often = [], []
    for name in test_rows.names[1:]:
        shares.append(prediction_accuracy(run.model, test_rows, ["image"], name)[""].mean)
        most = torch.as_tensor(data.train.columns[name]).flatten().tolist()
        value = most.count(True) > most.count(False)
        test = torch.as_tensor(test_rows.columns[name]).flatten().tolist()
        often.append(test.count(value) / len(test))
    found = {row["metric"]: row["value"] for row in rows if row["settings"]["kept"] == 1.0}
    assert found["accuracy x1->x2"] == pytest.approx(sum(shares) / 18, abs=1e-4)
    assert found["accuracy ->x2"] == pytest.approx(sum(often) / 18, abs=1e-4)

    assert_made_once(make, rows, tmp_path)
    assert FIGURE9.draw is not None
    FIGURE9.draw(rows, tmp_path / "made" / "figure9.png")
    assert_picture(tmp_path / "made" / "figure9.png")
    monkeypatch.setenv("COLUMNS", "160")
    FIGURE9.show("figure9", rows)
    assert "mvae, p = 0.05" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny_faces")
def test_validation_rows_lose_cells_and_test_rows_none(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Watching(Callback):
        def on_epoch(self, values: dict[str, float]) -> None:
            seen.append(values)

    config = Cell.of("faces19", "paper", kept=0.02, epochs=1).config
    run, _ = train(config, tmp_path / "run", device="cpu", callbacks=[Watching()])
    assert run.data.test.complete
    (values,) = seen
    assert "validation/coupling" not in values  # none of the validation rows is complete


def test_paper_budget_spans_all_levels_with_paper_settings() -> None:
    spend = FIGURE9.budgets["paper"]
    assert (spend.levels[0], spend.levels[-1]) == (0.001, 1.0)
    assert (spend.training("celeba19"), spend.rows("celeba19"), spend.samples) == ({}, None, None)


@pytest.mark.usefixtures("tiny_faces")
def test_each_k_is_measured_once_with_both_kinds_of_noise(tmp_path: Path) -> None:
    make = partial(reproduce, FIGURE10, Options(levels=(0, 2), budget="smoke"), paths(tmp_path))
    rows = make()
    assert rows == read_rows(tmp_path / "results" / "figure10.json")
    values = {(r["settings"]["random_subsets"], r["settings"]["shared_noise"], r["metric"]): r["value"] for r in rows}
    for metric in (JOINT, VARIANCE):
        found = [values[k, shared, metric] for k in (0, 2) for shared in (False, True)]
        assert len(set(found)) == 4  # each is a different model
    assert all(f"--levels {row['settings']['random_subsets']} " in row["command"] for row in rows)

    cells = [cell_of(read_run(folder)[0]) for folder in (tmp_path / "runs").iterdir()]
    (cell,) = (cell for cell in cells if cell["random_subsets"] == 2 and cell["shared_noise"])
    assert cell == Cell.of("faces19", "paper", epochs=1, rows=60, random_subsets=2, shared_noise=True)
    model = finished_run(cell, paths(tmp_path)).model
    assert isinstance(model, MVAE)
    assert (model.random_subsets, model.shared_noise) == (2, True)

    assert_made_once(make, rows, tmp_path)
    assert FIGURE10.draw is not None
    FIGURE10.draw(rows, tmp_path / "figure10.png")
    assert_picture(tmp_path / "figure10.png")


def row_of(k: int, seed: int, value: float, metric: str = "m") -> dict[str, Any]:
    return {"metric": metric, "seed": seed, "value": value, "settings": {"random_subsets": k}}


def test_curve_is_sorted_by_k_and_averages_seeds() -> None:
    rows = [row_of(5, 0, 1.0), row_of(0, 0, 1.0), row_of(0, 1, 2.0), row_of(0, 2, 6.0), row_of(0, 2, 3.0)]
    found = curve([*rows, row_of(1, 0, 9.0, "other")], "random_subsets", "m")
    assert [(x, one.value, one.stderr) for x, one in found] == [(0, 2.0, pytest.approx(1 / 3**0.5)), (5, 1.0, None)]


def test_k_defaults_to_declaration_and_needs_mvae() -> None:
    model, other = built("faces19"), built("faces19", random_subsets=0)
    assert isinstance(model, MVAE)
    assert isinstance(other, MVAE)
    assert (model.random_subsets, model.shared_noise, other.random_subsets) == (1, False, 0)
    several: list[dict[str, Any]] = [{"random_subsets": 1}, {"shared_noise": True}]
    for changed in several:
        with pytest.raises(SettingsError, match="is the MVAE's; jmvae has no such setting"):
            Cell.of("mnist", model="jmvae", **cast("Any", changed))
