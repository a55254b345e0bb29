"""Covariates of a run on the command line: pictures at the end of training, and samples."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mvae
from mvae.errors import QueryError, RunError
from mvae.runs import sample as sampling
from mvae.runs.covariates import as_options, first_covariates
from mvae.runs.run import Run
from tests.command import mvae as command


@pytest.fixture(scope="module")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("covariates"), np.random.default_rng(0)
    batch, rows = random.integers(0, 2, 60), 60
    np.savez(
        folder / "cells.npz",
        picture=random.random((rows, 1, 8, 8)).astype(np.float32),
        rna=random.poisson(1 + 500 * batch[:, None], (rows, 4)),
        batch=np.array(["first batch", "b2"])[batch],
        place=random.normal(50, 10, (rows, 2)),
    )
    (folder / "run.toml").write_text(f"""
data.source = "{folder / "cells.npz"}"
model.latents = 2
modalities.picture.kind = "picture"
modalities.rna.kind = "count"
covariates.batch.kind = "categorical"
covariates.place.kind = "real"
training.epochs = 30
training.batch_size = 10
""")
    return folder / "run.toml"


@pytest.fixture(scope="module")
def trained(declaration: Path) -> Run:
    return mvae.train(mvae.Config.load(declaration), declaration.parent / "run", callbacks=[])[0]


def test_training_ends_with_a_picture_and_a_working_command(declaration: Path) -> None:
    run = declaration.parent / "again"
    said = command("train", declaration, "--epochs", 1, "--run-dir", run)
    assert (said.code, (run / "samples.png").is_file()) == (0, True)
    last = said.out.strip().splitlines()[-1]
    assert last.startswith("try next: mvae sample")
    assert command(*shlex.split(last)[3:]).code == 0


def test_picture_can_show_covariates(
    declaration: Path, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = ["batch=b2", "batch=first batch"]
    said = command("train", declaration, "--epochs", 1, "--run-dir", tmp_path, "--set", f"evaluation.show={show}")
    last = shlex.split(said.out.strip().splitlines()[-1])
    assert [word.partition("=")[0] for word in last if "=" in word] == ["batch", "place"]
    assert command(*last[3:]).code == 0
    rows, draw = [], sampling.draw
    monkeypatch.setattr(sampling, "draw", lambda run, given, *more: rows.append(given) or draw(run, given, *more))
    shown = replace(trained, config=trained.config.change({"evaluation": {"show": show}}))
    sampling.each_shown(shown, 2, 0, tmp_path / "shown.png")
    assert [run["batch"].tolist() for run in rows] == [
        sampling.parse_covariate("batch", trained.model.covariates["batch"], name).tolist()
        for name in ("b2", "first batch")
    ]


def test_samples_follow_the_given_batch(trained: Run, tmp_path: Path) -> None:
    found = {}
    for batch in ("first batch", "b2"):
        given = sampling.parse_given(trained, (f"batch={batch}", "place=50,50"))
        samples = sampling.sample(trained, given, 200, 0, tmp_path / "s.png", of=("rna",))[1]["rna"]
        found[batch] = np.mean(samples)
    assert found["b2"] > 5 * found["first batch"]
    whole = sampling.parse_given(trained, ("batch=b2", "place=50,50", "rna=400,400,400,400"))
    assert len(sampling.sample(trained, whole, 3, 0, tmp_path / "s.png", of=("rna",))[1]["rna"]) == 3


def test_missing_and_wrong_covariates_are_reported_as_options(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(
        QueryError, match=r"conditioned on batch, place: give it, as in the first test row: --given .*batch=.* --given"
    ):
        sampling.sample(trained, None, 1, 0, tmp_path / "s.png")
    with pytest.raises(QueryError, match="batch is one of b2, first batch"):
        sampling.parse_given(trained, ("batch=b3",))
    with pytest.raises(QueryError, match="2 numbers, separated by commas, are needed"):
        sampling.parse_given(trained, ("place=1",))
    assert as_options(trained, {}) == ""
    assert set(first_covariates(trained)) == {"batch", "place"}


def test_a_run_resumes_whose_covariates_were_read_from_the_data(declaration: Path, tmp_path: Path) -> None:
    data = {"source": str(declaration.parent / "cells.npz")}
    short = {"model": {"latents": 2}, "modalities": {"rna": {"kind": "count"}}, "training": {"epochs": 2}}
    config = mvae.Config.from_dict({"data": data, "covariates": {"batch": {}, "place": {}}, **short})
    run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    assert (run.config.covariates["batch"].kind, run.config.covariates["place"].features) == ("categorical", 2)
    mvae.train(config, tmp_path / "run", resume=True, callbacks=[])
    other = mvae.Config.from_dict({"data": data, "covariates": {"batch": {}}, **short})
    with pytest.raises(RunError, match=r"cannot be resumed with other settings: covariates\.place\."):
        mvae.train(other, tmp_path / "run", resume=True, callbacks=[])
