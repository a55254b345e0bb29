"""A user's own arrays: from a file and a declaration to a model that another process loads."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mvae.data.masking import complete_rows
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, RunError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.files import load_state
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.evaluation import evaluate
from mvae.runs.run import open_run, train
from mvae.runs.source import declared, load
from mvae.training.checkpoint import CHECKPOINT, Header
from tests.command import assert_refused, mvae

ROWS = 120


def arrays(folder: Path) -> Path:
    """Two lab values, one related to the diagnosis, a picture, and a diagnosis missing in a third of the rows."""
    rng = np.random.default_rng(0)
    sick = rng.integers(0, 2, ROWS)
    path = folder / "patients.npz"
    np.savez(
        path,
        hb=50_000 + 15_000 * rng.standard_normal(ROWS) + 30_000 * sick,
        crp=rng.standard_normal(ROWS),
        scan=rng.integers(0, 256, (ROWS, 1, 8, 8), dtype=np.uint8),
        diagnosis=np.where(sick == 1, "ill", "well"),
        diagnosis__present=rng.random(ROWS) < 0.67,
    )
    return path


def declaration(folder: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(f"""
[data]
source = "{arrays(folder)}"
validation = 0.2
test = 0.2

[model]
latents = 3

[modalities."lab.values"]
kind = "real"
columns = ["hb", "crp"]
encoder = {{ network = "mlp", hidden = [8] }}

[modalities.scan]
kind = "picture"
decoder = {{ network = "mlp", hidden = [8] }}

[modalities.type]
kind = "categorical"
columns = ["diagnosis"]
weight = 5.0

[training]
epochs = 4
anneal_epochs = 1
batch_size = 20
""")
    return path


def test_declared_arrays_train_evaluate_sample_and_load(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    trained = mvae("train", declaration(tmp_path), "--run-dir", run_dir, "--json")
    assert trained.code == 0, trained.err
    assert set(trained.json()["likelihoods"]) == {"log p(x1)", "log p(x1,x2)", "log p(x1|x2)"}
    stored = json.loads((run_dir / "run.json").read_text())["config"]
    assert stored["modalities"]["type"]["classes"] == 2
    assert stored["modalities"]["lab.values"]["shape"] == [2]
    assert stored["modalities"]["scan"]["shape"] == [1, 8, 8]
    assert mvae("evaluate", run_dir, "--samples", 10).code == 0
    sampled = mvae("sample", run_dir, "--given", "type=ill", "--n", 4, "--json").json()
    assert Path(sampled["picture"]).exists()
    assert len(sampled["samples"]["lab.values"]) == 4
    code = (
        "import sys, torch, mvae\n"
        f"model = mvae.load({str(run_dir)!r})\n"
        "q = model.posterior({'type': torch.tensor([0, 1])})\n"
        "print(q.mean.shape[0], any(name.startswith('mvae.paper') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["2", "False"]), done.stderr


def test_class_names_and_units_are_those_of_the_file(tmp_path: Path) -> None:
    run, _ = train(declared(declaration(tmp_path)), tmp_path / "run", callbacks=[])
    assert run.data.codecs["type"].parse("ill").item() == 0
    with pytest.raises(ValueError, match="one of ill, well"):
        run.data.codecs["type"].parse("dead")
    labs = run.model.generate(of=["lab.values"], n=200, seed=0)["lab.values"]
    assert labs[..., 0].mean() > 1_000  # in the file's units, not in standard deviations
    again = open_run(tmp_path / "run")
    assert evaluate(again, samples=20).likelihoods["log p(x1)"].mean == pytest.approx(
        evaluate(run, samples=20).likelihoods["log p(x1)"].mean
    )


@pytest.mark.parametrize("model", ["cvae", "jmvae"])
@pytest.mark.parametrize("order", [("type", "scan"), ("scan", "lab.values")])
def test_models_of_two_modalities_need_no_options(model: str, order: tuple[str, str], tmp_path: Path) -> None:
    config = declared(declaration(tmp_path)).change({"model": {"name": model, "modalities": list(order)}})
    run, history = train(config, tmp_path / "run", callbacks=[])
    assert np.isfinite(history.epochs[-1]["train/loss"])
    assert evaluate(open_run(tmp_path / "run"), samples=20).likelihoods["log p(x1|x2)"].values.isfinite().all()
    assert run.model.names == (order[:1] if model == "cvae" else order)


def test_row_and_class_weights_are_one_key_each(tmp_path: Path) -> None:
    path = declaration(tmp_path)
    stored = dict(np.load(tmp_path / "patients.npz"))
    np.savez(tmp_path / "patients.npz", **stored, importance=np.linspace(0.1, 2, ROWS))
    weights = {"modalities": {"type": {"class_weights": [1.0, 9.0]}}, "training": {"row_weights": "importance"}}
    config = declared(path).change(weights)
    run, history = train(config, tmp_path / "run", callbacks=[])
    _, plain = train(declared(path), tmp_path / "plain", callbacks=[])
    assert run.model.names == ("lab.values", "scan", "type")
    assert history.epochs[-1]["train/loss"] != plain.epochs[-1]["train/loss"]
    assert open_run(tmp_path / "run").model.modalities["type"].class_weights.tolist() == [1.0, 9.0]  # pyright: ignore


def relative(folder: Path, source: str | list[str]) -> Config:
    """Make the folder and its files; return a declaration that trains on them for a moment."""
    folder.mkdir()
    arrays(folder)
    rng = np.random.default_rng(0)
    for name in ("visits", "more"):
        cells = [f"{i},{x:.3f}" for i, x in enumerate(rng.standard_normal(ROWS))]
        (folder / f"{name}.csv").write_text("\n".join([f"id,{name}", *cells]))
    data = {"source": source} | ({"key": "id"} if isinstance(source, list) else {})
    return Config.from_dict({"data": data, "model": {"latents": 2}, "training": {"epochs": 1, "anneal_epochs": 0}})


@pytest.mark.parametrize("source", ["patients.npz", "visits.csv", ["visits.csv", "more.csv"]])
def test_run_opens_from_any_folder(source: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, away, name = tmp_path / "home", tmp_path / "away", source if isinstance(source, str) else source[0]
    config = relative(home, source)
    monkeypatch.chdir(home)
    run, _ = train(config, "run", callbacks=[])
    relative(away, source)  # other files with the same names
    (away / "visits.csv").write_text("id,visits\n" + "\n".join(f"{i},7.5" for i in range(ROWS)))
    monkeypatch.chdir(away)
    again = open_run(home / "run")
    assert again.config == run.config
    for part in run.data.test.columns:
        np.testing.assert_array_equal(again.data.test.columns[part], run.data.test.columns[part])
    assert evaluate(again, samples=10).rows == len(run.data.test)

    (home / name).rename(tmp_path / name)  # the project has been moved: the current folder is used
    (away / name).unlink()
    message = rf"cannot read {name} \(there is no such file in {home}, where the run was trained, nor in {away}\)"
    with pytest.raises(DataError, match=message):
        open_run(home / "run")
    (tmp_path / name).rename(away / name)
    assert len(open_run(home / "run").data.test) == len(run.data.test)


def test_run_without_a_stored_folder_opens_where_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = relative(tmp_path / "home", "visits.csv")
    monkeypatch.chdir(tmp_path / "home")
    train(config, "run", callbacks=[])
    described = json.loads(Path("run/run.json").read_text())
    assert described.pop("folder") == str(tmp_path / "home")
    Path("run/run.json").write_text(json.dumps(described))
    open_run("run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"cannot read visits.csv \(there is no such file in {tmp_path}\)"):
        open_run("home/run")
    with pytest.raises(DataError, match=rf"cannot read visits.csv \(there is no such file in {tmp_path}\)"):
        train(config, "other", callbacks=[])
    (tmp_path / "home/run/run.json").write_text(json.dumps(described | {"folder": 5}))
    with pytest.raises(RunError, match="folder is missing or wrong"):
        open_run("home/run")


def test_text_refuses_options_for_numbers() -> None:
    part = {"kind": "string", "classes": 10, "length": 4, "augment": ["noise"]}
    config = Config.from_dict({"data": {"source": "digits"}, "modalities": {"name": part}})
    with pytest.raises(SettingsError, match=r"modalities\.name: augment is not a key of kind 'string', which is read"):
        build(config)


def test_data_file_alone_is_a_declaration(tmp_path: Path) -> None:
    config = declared(arrays(tmp_path)).change({"training": {"epochs": 1}})
    run, _ = train(config, tmp_path / "run", callbacks=[])
    kinds = {name: part.kind for name, part in run.config.modalities.items()}
    assert kinds == {"hb": "real", "crp": "real", "scan": "picture", "diagnosis": "categorical"}


def test_invalid_declaration_is_refused_in_one_line(tmp_path: Path) -> None:
    path = declaration(tmp_path)
    text = path.read_text()
    for old, new, message in (
        ('columns = ["hb", "crp"]', 'columns = ["hb", "crq"]', "no column 'crq'"),
        ('kind = "picture"', 'kind = "pictures"', "did you mean 'picture'"),
        ("latents = 3", 'latents = 3\nname = "mvea"', "did you mean 'mvae'"),
        ("latents = 3", "latents = 3\nalpha = 0.1", "model.alpha is not an option of mvae"),
        ("hidden = [8]", "hiden = [8]", "hiden"),
        ('network = "mlp"', 'network = "mpl"', "did you mean 'mlp'"),
        ("patients.npz", "nobody.npz", "nobody.npz"),
    ):
        path.write_text(text.replace(old, new, 1))
        assert_refused(mvae("train", path, "--run-dir", tmp_path / "run"), message)
        assert not (tmp_path / "run").exists()


def test_data_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"x\.npz"):
        train(declared(tmp_path / "x.npz"), tmp_path / "run", callbacks=[])
    with pytest.raises(SettingsError, match=r"no declaration 'mnits'.*did you mean 'mnist'"):
        declared("mnits")


def test_jmvae_of_three_modalities_omits_conditionals(tmp_path: Path) -> None:
    config = declared(declaration(tmp_path)).change({"model": {"name": "jmvae"}, "training": {"epochs": 1}})
    run, _ = train(config, tmp_path / "run", callbacks=[])
    found = evaluate(run, samples=20)
    assert set(found.likelihoods) == {"log p(x1)", "log p(x1,x2)"}
    assert found.likelihoods["log p(x1,x2)"].values.isfinite().all()


def test_joint_likelihood_is_estimated_with_the_posterior_of_the_picture(tmp_path: Path) -> None:
    """The first modality's own posterior is too wide to hit a picture; rows that lack one need both."""
    run, _ = train(declared(declaration(tmp_path)).change({"training": {"epochs": 1}}), tmp_path / "run", callbacks=[])
    names, whole = list(run.model.names), complete_rows(run.data.test)
    assert whole is not None
    for missing, proposal in (("lab.values", ("scan",)), ("scan", ("lab.values", "scan", "type"))):
        table = Table(whole.columns, {missing: torch.arange(len(whole)) % 3 > 0})
        found = evaluate(replace(run, data=replace(run.data, test=table)), samples=20, seed=2)
        assert (found.proposal, found.proposal_x1) == (proposal, ("lab.values",))
        alone = log_likelihood(run.model, table, names, proposal=proposal, samples=20, seed=2)
        paired = found.likelihoods["log p(x1,x2)"]
        assert torch.equal(paired.rows, table.has("lab.values").nonzero().flatten())
        assert torch.allclose(paired.values, alone.values[table.has("lab.values")])


@pytest.mark.parametrize("model", ["jmvae", "bivcca"])
def test_joint_likelihood_is_not_changed_by_rows_that_are_not_scored(model: str, tmp_path: Path) -> None:
    """These models have no posterior for rows without the first modality, in which the others are observed."""
    config = declared(declaration(tmp_path)).change({"model": {"name": model}, "training": {"epochs": 1}})
    run, _ = train(config, tmp_path / "run", callbacks=[])
    whole = complete_rows(run.data.test)
    assert whole is not None
    some = torch.arange(len(whole)) % 3 > 0
    table = Table(whole.columns, {"lab.values": some})
    found = evaluate(replace(run, data=replace(run.data, test=table)), samples=20)
    assert found.proposal == ("scan",)
    joint = found.likelihoods["log p(x1,x2)"]
    alone = log_likelihood(run.model, table.take(some), run.model.names, proposal=["scan"], samples=20)
    assert torch.equal(joint.rows, some.nonzero().flatten())
    assert torch.allclose(joint.values, alone.values)


def test_cvae_is_evaluated_where_its_condition_is_known(tmp_path: Path) -> None:
    declare, run_dir = declaration(tmp_path), tmp_path / "run"
    of_a_cvae = "--set", "model.name=cvae", "--set", 'model.modalities=["scan", "type"]', "--epochs", 1
    trained = mvae("train", declare, "--run-dir", run_dir, *of_a_cvae)
    assert trained.code == 0, trained.err
    assert f"try next: mvae sample {run_dir} --given type=" in trained.out
    run = open_run(run_dir)
    assert evaluate(run, samples=10).rows == int(run.data.test.has("type").sum()) < len(run.data.test)
    without = replace(run, data=replace(run.data, test=run.data.test.select(["scan"])))
    with pytest.raises(QueryError, match="no test row has type, the condition of this model"):
        evaluate(without, samples=10)


def test_complete_rows_need_only_the_models_modalities(tmp_path: Path) -> None:
    change = {"model": {"name": "jmvae", "modalities": ["lab.values", "scan"]}, "training": {"epochs": 1}}
    run, _ = train(declared(declaration(tmp_path)).change(change), tmp_path / "run", callbacks=[])
    assert not run.data.train.complete  # a third is missing the diagnosis, which is not in this model
    assert Header.read(load_state(tmp_path / "run" / CHECKPOINT)[1], tmp_path).settings["rows"] == len(run.data.train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": {"show": ["tipe=ill"]}}, "evaluation.show has MODALITY=VALUE of lab.values, scan, type, not"),
        ({"evaluation": {"show": ["type=dead"]}}, "evaluation.show, 'type=dead': type is one of ill, well"),
        ({"evaluation": {"show": ["lab.values=1"]}}, "'lab.values=1': 2 numbers, separated by commas, are needed"),
        ({"evaluation": {"show": ["lab.values=1,x"]}}, "'lab.values=1,x': 2 numbers, separated by commas, are needed"),
        ({"evaluation": {"show": ["scan=absent.png"]}}, "'scan=absent.png': cannot read the picture absent.png"),
        ({"evaluation": {"show": ["scan=test:24"]}}, "'scan=test:24': the test rows are 0 to 23"),
        ({"covariates": {"type": {}}}, "type is declared as a modality and as a covariate: leave one of them out"),
    ],
)
def test_what_fails_after_training_is_refused_before(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        train(declared(declaration(tmp_path)).change(change), tmp_path / "run", callbacks=[])
    assert not (tmp_path / "run").exists()


def test_suffixes_may_be_upper_case(tmp_path: Path) -> None:
    path = declaration(tmp_path)
    capitals = (tmp_path / "patients.npz").rename(tmp_path / "PATIENTS.NPZ")
    path.write_text(path.read_text().replace("patients.npz", capitals.name))
    config = declared(str(path.rename(tmp_path / "RUN.TOML")))
    assert len(load(config).test) == ROWS // 5
