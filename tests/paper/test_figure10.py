"""Figure 10: rows for each k, with noise of their own and with one ε; curves over seeds; its picture."""

from pathlib import Path
from typing import Any

import pytest

from mvae.errors import SettingsError
from mvae.models.mvae import MVAE
from mvae.paper import figure10
from mvae.paper.curves import Point, curve
from mvae.paper.experiments import build, experiment
from mvae.paper.harness import Places, finished_run, parse_levels
from mvae.paper.results import read_rows
from mvae.paper.settings import Settings, read_settings
from tests.paper.faces import use_tiny_faces


def places(folder: Path) -> Places:
    return Places(folder / "results", folder / "runs", device="cpu", callbacks=[])


def test_each_k_is_measured_once_with_both_kinds_of_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_faces(monkeypatch)
    rows = figure10.reproduce(levels=(0, 2), budget="smoke", places=places(tmp_path))
    assert rows == read_rows(tmp_path / "results" / "figure10.json")
    values = {(r["settings"]["random_subsets"], r["settings"]["shared_noise"], r["metric"]): r["value"] for r in rows}
    for metric in (figure10.JOINT, figure10.VARIANCE):
        found = [values[k, shared, metric] for k in (0, 2) for shared in (False, True)]
        assert len(set(found)) == 4  # each is a model of its own
    assert all(f"--levels {row['settings']['random_subsets']} " in row["command"] for row in rows)

    (directory,) = (
        folder
        for folder in (tmp_path / "runs").iterdir()
        if (s := read_settings(folder)).random_subsets == 2 and s.shared_noise
    )
    settings = read_settings(directory)
    assert settings == Settings.of("faces19", "paper", 0, epochs=2, rows=60, random_subsets=2, shared_noise=True)
    model = finished_run(settings, places(tmp_path)).model
    assert isinstance(model, MVAE)
    assert (model.random_subsets, model.shared_noise) == (2, True)

    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert figure10.reproduce(levels=(0, 2), budget="smoke", places=places(tmp_path)) == rows
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == before
    figure10.draw(rows, tmp_path / "figure10.png")
    assert (tmp_path / "figure10.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def row_of(k: int, seed: int, value: float, metric: str = "m") -> dict[str, Any]:
    return {"metric": metric, "seed": seed, "value": value, "settings": {"random_subsets": k}}


def test_a_curve_rises_in_k_and_averages_seeds_with_their_standard_error() -> None:
    rows = [row_of(5, 0, 1.0), row_of(0, 0, 1.0), row_of(0, 1, 2.0), row_of(0, 2, 6.0), row_of(0, 2, 3.0)]
    single = Point(5.0, 1.0, None)
    several, other = curve([*rows, row_of(1, 0, 9.0, "other")], "random_subsets", "m")
    assert other == single
    assert (several.x, several.value, several.stderr) == (0.0, 2.0, pytest.approx(1 / 3**0.5))


def test_k_is_the_experiments_unless_given_and_for_the_mvae_only() -> None:
    model, other = Settings.of("faces19").build(), Settings.of("faces19", random_subsets=0).build()
    assert isinstance(model, MVAE)
    assert isinstance(other, MVAE)
    assert (model.random_subsets, model.shared_noise, other.random_subsets) == (1, False, 0)
    for k, shared in ((1, False), (None, True)):
        with pytest.raises(SettingsError, match="random_subsets and shared_noise are the MVAE's; jmvae has no such"):
            build(experiment("mnist"), model="jmvae", random_subsets=k, shared_noise=shared)
    with pytest.raises(SettingsError, match="random_subsets must be ≥ 0, not -1"):
        figure10.reproduce(levels=(-1,), budget="smoke")
    with pytest.raises(SettingsError, match=r"--levels '0\.5': write numbers of random subsets, for example 0,1,10"):
        parse_levels("figure10", "0.5")
