"""Reproducing a table: exact counts, complete rows, runs trained once and resumed."""

import json
import subprocess
import sys
from dataclasses import replace
from math import comb
from pathlib import Path

import pytest
import torch

from mvae.errors import RunError
from mvae.paper import coupling
from mvae.paper.cell import Cell
from mvae.paper.coupling import LAMBDA
from mvae.paper.harness import finished_run, reproduce
from mvae.paper.item import BUDGETS, Options, Paths
from mvae.paper.items import ITEMS
from mvae.paper.record import Origin, evaluation_rows, improvement
from mvae.paper.results import Row, add_rows, read_rows
from mvae.paper.tables import PAPER_MODELS, TABLE1
from mvae.runs.evaluation import evaluate
from mvae.training.callbacks import Callback
from tests.paper.common import assert_picture, paths


def test_inference_parameters_match_paper() -> None:
    rows = reproduce(TABLE1, Options(datasets=("mnist", "binary-mnist", "fashion-mnist", "multimnist")))
    assert len(rows) == 6 + 6 + 6 + 5  # the paper has no CVAE for MultiMNIST
    for row in rows:
        assert row["value"] == row["paper"], row


def test_celeba_inference_parameters_match_paper() -> None:
    rows = {row["model"]: row for row in reproduce(TABLE1, Options(datasets=("celeba",)))}
    for model in PAPER_MODELS:
        assert rows[model]["value"] == rows[model]["paper"], model
    counted, trained, joint = (row for model, row in rows.items() if "19" in model)
    assert counted["value"] == counted["paper"] == 10_857_048
    assert trained["value"] == 10_857_048 - 18 * 17 * 512
    # The sum over subsets one size at a time: with the image or without, and n of the 18 attributes.
    trunk, attribute, heads = 4_070_472 - 102_600, 377_032 - 102_600, 102_600
    total = sum(
        comb(18, n) * (image * trunk + n * attribute + 512 * (512 * (n + image) + 1) + heads)
        for n in range(19)
        for image in (0, 1)
    )
    assert joint["value"] == total
    assert joint["paper"] == 3.6259e12
    assert abs(total / joint["paper"] - 1) < 0.02


def test_table_is_trained_once_and_fully_recorded(tmp_path: Path) -> None:
    options = Options(datasets=("digits",), models=("vae", "cvae", "mvae"), budget="smoke")
    rows = reproduce(ITEMS["table2"], options, paths(tmp_path))
    found = {(row["model"], row["recipe"], row["metric"]) for row in rows}
    assert ("vae", "paper", "log p(x1)") in found
    assert ("vae", "paper", "log p(x1,x2)") not in found  # no joint distribution: no number
    assert ("cvae", "paper", "log p(x1|x2)") in found
    assert ("mvae", "paper", "accuracy x1->x2") in found
    assert ("mvae", "coupled", "log p(x1,x2)") in found
    for row in rows:
        assert set(row) == set(Row.__dataclass_fields__)
        assert row["budget"] == "smoke"
        assert row["n"] == BUDGETS["smoke"].rows("digits")
        assert row["settings"]["proposal"] == ["image"]
        assert "unconverged" in row["settings"]

    runs = sorted((tmp_path / "runs").iterdir())
    stamps = [(run / "checkpoint.safetensors").stat().st_mtime_ns for run in runs]
    again = reproduce(ITEMS["table2"], options, paths(tmp_path))
    assert again == rows  # nothing new was measured
    joint = reproduce(ITEMS["table6"], options, paths(tmp_path))
    assert {row["model"] for row in joint} == {"mvae"}
    assert {tuple(row["settings"]["proposal"]) for row in joint} == {("image", "label")}
    assert stamps == [(run / "checkpoint.safetensors").stat().st_mtime_ns for run in runs]


def test_parallel_runs_match_sequential_runs(tmp_path: Path) -> None:
    """Each worker has one thread, as this process has: more threads add up in another order."""
    options = Options(datasets=("digits",), models=("vae", "bivcca"), budget="smoke")
    table = ITEMS["table2"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = reproduce(table, options, paths(tmp_path / "one"))
    finally:
        torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        both = reproduce(table, replace(options, jobs=2), paths(tmp_path / "two"))
    assert [(r["model"], r["metric"], r["value"]) for r in both] == [
        (r["model"], r["metric"], r["value"]) for r in rows
    ]


def test_conditional_variance_equals_joint_variance(tmp_path: Path) -> None:
    options = Options(datasets=("digits",), models=("jmvae",), budget="smoke")
    rows = reproduce(ITEMS["table3"], options, paths(tmp_path))
    value = {row["metric"]: row["value"] for row in rows}
    assert value["var log w p(x1|x2)"] == pytest.approx(value["var log w p(x1,x2)"], rel=1e-6)


def test_unpublished_proposal_has_no_published_value(tmp_path: Path) -> None:
    run = finished_run(Cell.of("digits", "paper", epochs=1), paths(tmp_path))
    origin = Origin(Cell.of("mnist", "paper", epochs=1), "laptop", "mvae score")  # the paper has values for it
    for proposal, printed in ((("image",), True), (("image", "label"), True), (("label",), False)):
        rows = evaluation_rows(run, evaluate(run, rows=2, samples=2, proposal=proposal), origin)
        values = [row.paper for row in rows if row.metric == "log p(x1)"]
        assert [value is not None for value in values] == [printed]


def test_unfinished_run_is_resumed(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    class Stop(Callback):
        def on_epoch(self, values: dict[str, float]) -> None:
            if values["epoch"] == 2:
                raise Interrupted

    cell = Cell.of("digits", "paper", 0, "vae", epochs=3)
    with pytest.raises(Interrupted):
        finished_run(cell, Paths(runs=tmp_path, callbacks=[Stop()]))
    run = finished_run(cell, Paths(runs=tmp_path, callbacks=[]))
    assert run.progress["epoch"] == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_coupling_map_changes_one_setting_at_a_time() -> None:
    cells = list(coupling.cells_of_map("mnist", 60, seeds=2))
    assert len(cells) == 2 * 19
    assert len({str(c) for c in cells}) == len(cells)
    assert {c["anneal_epochs"] for c in cells} == {0, 24}
    assert {(c["epochs"], c["decay_epochs"]) for c in cells} == {(60, 0)}
    usual = {"model": "mvae", "recipe": "paper", "anneal_epochs": 24, "weights": {"label": 50.0}, "repeat_pairs": 1}
    for cell in cells:
        changed = [name for name, value in usual.items() if cell.identity()[name] != value]
        assert len(changed) <= (2 if {"weights", "repeat_pairs"} & set(changed) else 1), cell
        assert not cell.config.modalities["image"].augment, cell


def test_coupling_map_is_recorded_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coupling, "WEIGHTS", (50.0,))
    monkeypatch.setattr(coupling, "ANNEALED", (0.4,))
    rows = reproduce(LAMBDA, Options(datasets=("digits",), budget="smoke"), paths(tmp_path))
    assert {row["model"] for row in rows} == {"mvae", *coupling.EXTREMES, *coupling.REMEDIES}
    assert {row["settings"]["pairs"] for row in rows} == {None, 0.01}
    assert {"log p(x1)", "log p(x1,x2)", "accuracy x1->x2", "coupling"} <= {row["metric"] for row in rows}
    coupling.draw_map(rows, tmp_path / "lambda.png")
    assert_picture(tmp_path / "lambda.png")


def write_metrics(folder: Path, objectives: list[float], beta: float = 1.0) -> None:
    lines = [{"epoch": i + 1, "beta": beta, "validation/objective": o} for i, o in enumerate(objectives)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_improvement_is_gain_of_last_fifth(tmp_path: Path) -> None:
    write_metrics(tmp_path, [10, 9, 8, 7, 6, 5, 4.5, 4.2, 4.0, 3.2])
    assert improvement(tmp_path) == pytest.approx(1.0)  # best up to epoch 8 is 4.2, best of all 3.2
    write_metrics(tmp_path, [10, 9, 8, 7, 6, 5, 4.5, 3.0, 4.0, 3.2])
    assert improvement(tmp_path) == 0.0
    write_metrics(tmp_path, [10, 9, 8, 7, 6], beta=0.5)
    assert improvement(tmp_path) is None


ROW = Row("table2", "mnist", "vae", "log p(x1)", -91.0, 0.1, 10, None, "smoke", "paper", {}, 0, "c", "d", "e", "f")


def test_results_are_appended_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table2.json"
    add_rows(path, [ROW])
    add_rows(path, [ROW])
    assert len(read_rows(path)) == 2
    path.write_text('[{"item": "table2"}]')
    with pytest.raises(RunError, match=r"table2\.json is not a list of result rows"):
        add_rows(path, [ROW])
    assert path.read_text() == '[{"item": "table2"}]'


def test_invalid_result_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table2.json"
    add_rows(path, [ROW])
    written = path.read_text()
    for good, bad, name in (("-91.0", '"x"', "value"), ("{}", "null", "settings")):
        path.write_text(written.replace(good, bad))
        with pytest.raises(RunError, match=f"table2.json: row 1 has .* as its {name}: fix or delete the row"):
            read_rows(path)


def test_processes_append_results_without_loss(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mvae.paper.results import Row, add_rows\n"
        "row = Row('t', 'mnist', 'vae', 'm', 1.0, 0.1, 10, None, 'b', 'r', {}, 0, 'c', 'd', 'e', 'f')\n"
        "for _ in range(40): add_rows(Path(sys.argv[1]), [row])"
    )
    path = tmp_path / "t.json"
    both = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(read_rows(path)) == 80
