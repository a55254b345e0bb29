"""Figure 10: rows for each k, with separate and with shared noise; curves over seeds; the picture."""

from pathlib import Path
from typing import Any, cast

import pytest

from mvae.errors import SettingsError
from mvae.models.mvae import MVAE
from mvae.paper.cell import Cell, cell_of
from mvae.paper.figure10 import FIGURE10, JOINT, VARIANCE
from mvae.paper.harness import finished_run, reproduce
from mvae.paper.item import Options, Paths
from mvae.paper.mvae19 import curve
from mvae.paper.results import read_rows
from mvae.runs.run import read_run
from tests.built import built
from tests.paper.faces import use_tiny_faces

OPTIONS = Options(levels=(0, 2), budget="smoke")


def paths(folder: Path) -> Paths:
    return Paths(folder / "results", folder / "runs", device="cpu", callbacks=[])


def test_each_k_is_measured_once_with_both_kinds_of_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_faces(monkeypatch)
    rows = reproduce(FIGURE10, OPTIONS, paths(tmp_path))
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

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert reproduce(FIGURE10, OPTIONS, paths(tmp_path)) == rows
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == before
    assert FIGURE10.draw is not None
    FIGURE10.draw(rows, tmp_path / "figure10.png")
    assert (tmp_path / "figure10.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


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
