"""Figure 9: rows for each p with the number of dropped rows, recorded once; the picture."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mvae.data.masking import kept_cells
from mvae.evaluation.prediction import prediction_accuracy
from mvae.paper.cell import Cell
from mvae.paper.figure9 import FIGURE9
from mvae.paper.harness import finished_run, reproduce
from mvae.paper.item import Options, Paths
from mvae.paper.results import Row, read_rows
from mvae.runs.run import train
from mvae.training.callbacks import Callback
from tests.paper.faces import tiny, use_tiny_faces

OPTIONS = Options(levels=(0.05, 1.0), budget="smoke")


def paths(folder: Path) -> Paths:
    return Paths(folder / "results", folder / "runs", device="cpu", callbacks=[])


def test_each_p_is_measured_once_with_dropped_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny_faces(monkeypatch)
    rows = reproduce(FIGURE9, OPTIONS, paths(tmp_path))
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

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert reproduce(FIGURE9, OPTIONS, paths(tmp_path)) == rows
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == before

    assert FIGURE9.draw is not None
    FIGURE9.draw(rows, tmp_path / "made" / "figure9.png")
    assert (tmp_path / "made" / "figure9.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    monkeypatch.setenv("COLUMNS", "160")
    FIGURE9.show("figure9", rows)
    assert "mvae, p = 0.05" in capsys.readouterr().out


def test_validation_rows_lose_cells_and_test_rows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_faces(monkeypatch)
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
