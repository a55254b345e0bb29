"""A run from training to evaluation: the contents of its directory, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mvae
from mvae.data.dataset import Dataset
from mvae.data.masking import complete_rows, pair_fraction
from mvae.data.table import Table
from mvae.errors import QueryError, RunError, SettingsError
from mvae.files import load_state, read_json
from mvae.runs import run as runs
from mvae.runs.build import build
from mvae.runs.config import Config, merged
from mvae.runs.evaluation import evaluate
from mvae.runs.run import Run
from mvae.training.checkpoint import CHECKPOINT, METRICS, SETTINGS
from mvae.training.fit import fit
from tests.declared import changed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "digits"
    return runs.train(changed("digits", epochs=2), directory, device="cpu", callbacks=[])[0]


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    shutil.copytree(trained.directory, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:99", "meta", "hpu", "vulkan"])
def test_unavailable_device_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"no device '{name}' here .*try --device cpu") as caught:
        runs.device_named(name)
    assert "\n" not in str(caught.value)


# -- The directory -------------------------------------------------------------------------------------------------


def test_run_directory_describes_the_run(trained: Run) -> None:
    said = read_json(trained.directory / SETTINGS)
    assert said["format"] == 3
    assert Config.from_dict(said["config"]) == trained.config
    assert {"command", "mvae", "torch", "python", "device"} <= said.keys()
    written = {
        file.name for file in trained.directory.iterdir() if not file.name.startswith("events.")
    }  # TensorBoard's
    assert written == {SETTINGS, METRICS, CHECKPOINT}


def test_opened_run_has_the_trained_weights(trained: Run) -> None:
    opened = runs.open_run(trained.directory, device="cpu")
    for name, value in trained.model.state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], value), name
    assert not opened.model.training
    assert opened.config == trained.config
    assert opened.progress["epoch"] == 2


def assert_refused(config: Config, folder: Path, error: type[Exception], message: str, device: str = "cpu") -> None:
    """Training is refused before anything is written."""
    with pytest.raises(error, match=message):
        runs.train(config, folder / "run", device=device, callbacks=[])
    assert not (folder / "run").exists()


def test_invalid_settings_write_nothing(tmp_path: Path) -> None:
    for config, device in (
        (changed("digits", data={"source": "nonsense"}), "cpu"),
        (changed("digits", model="nonsense"), "cpu"),
        (changed("digits"), "nonsense"),
    ):
        assert_refused(config, tmp_path, SettingsError, "nonsense", device)


def test_run_is_not_overwritten_or_resumed_with_other_settings(copy: Path) -> None:
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(RunError, match="holds a run already: go on with --resume, or choose another --run-dir"):
        runs.train(changed("digits", epochs=2), copy, callbacks=[])
    with pytest.raises(RunError, match=r"cannot be resumed with other settings: training\.epochs was 2, now 5"):
        runs.train(changed("digits", epochs=5, anneal_epochs=1), copy, resume=True, callbacks=[])
    with pytest.raises(RunError, match=r"model.cross_from was \['image'\], now \[\]"):
        runs.train(changed("digits", epochs=2).variant("paper"), copy, resume=True, callbacks=[])
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


def test_run_starts_from_the_best_weights_of_another(trained: Run, tmp_path: Path) -> None:
    start = {"start_from": str(trained.directory)}
    config = changed("digits", epochs=1, learning_rate=1e-12, data={"rows": 100}).change(start)
    longer, _ = runs.train(config, tmp_path / "longer", device="cpu", callbacks=[])
    for name, weight in trained.model.named_parameters():
        torch.testing.assert_close(longer.model.get_parameter(name), weight, atol=1e-6, rtol=0.0)
    assert runs.read_run(tmp_path / "longer")[0].start_from == str(trained.directory)
    before = load_state(tmp_path / "longer" / CHECKPOINT)[0]
    (tmp_path / "longer" / CHECKPOINT).unlink()  # killed before its first checkpoint, it starts from there again
    runs.train(config, tmp_path / "longer", resume=True, device="cpu", callbacks=[])
    assert all(torch.equal(x, before[name]) for name, x in load_state(tmp_path / "longer" / CHECKPOINT)[0].items())


def test_start_from_another_model_or_no_run_is_refused(trained: Run, tmp_path: Path) -> None:
    for start, model, message in (
        (tmp_path / "none", "mvae", "no checkpoint at"),
        (trained.directory, "vae", "belongs to another model"),
    ):
        config = changed("digits", epochs=1, model=model).change({"start_from": str(start)})
        assert_refused(config, tmp_path, RunError, message)


def test_run_killed_before_its_first_checkpoint_starts_over(trained: Run, copy: Path) -> None:
    (copy / CHECKPOINT).unlink()
    runs.train(trained.config, copy, resume=True, device="cpu", callbacks=[])
    found, expected = load_state(copy / CHECKPOINT)[0], load_state(trained.directory / CHECKPOINT)[0]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len((copy / METRICS).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99; this version reads format 3: train the run again"),
        ({"format": 2}, "has format 2; this version reads format 3: train the run again"),
        ({"config": [1]}, "is damaged"),
        (
            {"config": {"training": {"epochs": "two"}}},
            r"is damaged \(training.epochs must be a whole number, not 'two'",
        ),
        ({"config": {"seed": -1}}, r"is damaged \(seed must be at least 0, not -1"),
        ({"config": {"nonsense": 1}}, "is damaged .no key 'nonsense'"),
        ({"config": {"model": {"name": "nonsense"}}}, "no model 'nonsense'"),
        ({"config": {"model": {"latents": 8}}}, "belongs to another model: it has _modalities.image.encoder"),
        ({"config": {"model": {"name": "vae", "cross_from": None, "cross_share": None}}}, "it has the unknown"),
    ],
)
def test_changed_run_directory_is_refused(change: dict[str, Any], message: str, copy: Path) -> None:
    said = merged(read_json(copy / SETTINGS), change)
    if isinstance(said["config"], dict):
        said["config"]["model"] = {k: v for k, v in said["config"]["model"].items() if v is not None}
    (copy / SETTINGS).write_text(json.dumps(said))
    with pytest.raises((RunError, SettingsError), match=message) as caught:
        runs.open_run(copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_invalid_run_directory_is_refused(copy: Path, tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent", copy / SETTINGS):
        with pytest.raises(RunError, match=r"is not a run directory: it has no run.json. Train one: mvae train digits"):
            runs.open_run(directory)
    (copy / CHECKPOINT).write_bytes((copy / CHECKPOINT).read_bytes()[:-1000])
    with pytest.raises(RunError, match=r"checkpoint.safetensors is damaged"):
        runs.open_run(copy)
    (copy / CHECKPOINT).unlink()
    with pytest.raises(RunError, match="the run has not saved one yet"):
        runs.open_run(copy)


# -- Evaluation, and the rows trained on ---------------------------------------------------------------------------


def test_evaluation_uses_the_first_test_rows_and_the_images_posterior(trained: Run) -> None:
    evaluation = evaluate(trained, rows=20, samples=100)
    assert (evaluation.rows, evaluation.samples, evaluation.proposal) == (20, 100, ("image",))
    assert list(evaluation.likelihoods) == ["log p(x1)", "log p(x1,x2)", "log p(x1|x2)"]
    assert all(len(value.values) == 20 for value in evaluation.likelihoods.values())
    joint, conditional = (evaluation.likelihoods[name].mean for name in ("log p(x1,x2)", "log p(x1|x2)"))
    assert evaluation.conditional_gap() == pytest.approx(joint - conditional, abs=1e-6)
    assert "accuracy image->label" in evaluation.instruments
    halved = trained.data.test.first(40)
    row = torch.arange(40)
    halved = Table(halved.columns, {"label": row < 20, "image": (row % 5 > 0) | (row >= 20)})
    partly = evaluate(replace(trained, data=replace(trained.data, test=halved)), samples=100)
    labels = mvae.log_likelihood(
        trained.model, halved[(row < 20) & (row % 5 > 0)], ["label"], proposal=(), samples=2_000
    )
    assert [len(value.values) for value in partly.likelihoods.values()] == [36, 16, 16]  # rows with both
    assert partly.conditional_gap() == pytest.approx(labels.mean, abs=0.1)
    apart = replace(trained.data, test=Table(halved.columns, {"label": row < 20, "image": row >= 20}))
    assert list(evaluate(replace(trained, data=apart), samples=100).likelihoods) == ["log p(x1)"]
    again = evaluate(trained, rows=20, samples=100)
    other = evaluate(trained, rows=20, samples=100, seed=1)
    assert again.likelihoods["log p(x1)"].mean == evaluation.likelihoods["log p(x1)"].mean
    assert other.likelihoods["log p(x1)"].mean != evaluation.likelihoods["log p(x1)"].mean


def test_evaluation_refuses_invalid_arguments(trained: Run) -> None:
    for rows in (0, -3):
        with pytest.raises(QueryError, match=f"rows must be at least 1, not {rows}"):
            evaluate(trained, rows=rows)
    with pytest.raises(QueryError, match="samples must be at least 2"):
        evaluate(trained, rows=2, samples=1)
    with pytest.raises(QueryError, match="no modality 'sound' in this model; it has image, label"):
        evaluate(trained, rows=2, samples=10, proposal=("sound",))


def test_run_may_train_on_the_first_rows_only(tmp_path: Path) -> None:
    run, _ = runs.train(changed("digits", epochs=1, data={"rows": 30}), tmp_path / "few", device="cpu", callbacks=[])
    same, few = build(run.config), run.data.train.take(slice(0, 30))
    how = run.config.training.model_dump()
    fit(same, few, validation=run.data.validation, **how, callbacks=[])
    for mine, theirs in zip(run.model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("rows", "selecting"), [(2000, 50), (1000, 25), (100, 20), (None, 100), (9999, 100)])
def test_fewer_rows_use_fewer_validation_rows(
    rows: int | None, selecting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise short runs would spend a third of their time on validation, for which few rows are enough."""
    monkeypatch.setattr(runs, "SELECTED_BY", 20)
    table = Table({"label": torch.arange(4000)})
    splits = Dataset("rows", table, Table({"label": torch.arange(100)}), table)
    config = changed("digits", data={"rows": rows})
    learned, validation = runs._learned_from(config, splits, build(config))
    assert len(learned) == min(rows or 4000, 4000)
    assert validation is not None
    assert len(validation) == selecting


@pytest.mark.parametrize("model", ["mvae", "jmvae", "nn", "cvae"])
def test_few_pairs_apply_to_validation_rows_but_not_to_test_rows(model: str, tmp_path: Path) -> None:
    config = changed("digits", model=model, seed=4, epochs=1, data={"rows": 500, "paired_fraction": 0.1})
    run, history = runs.train(config, tmp_path / "few", device="cpu", callbacks=[])
    table, validation = (
        pair_fraction(part, 0.1, 4) for part in (run.data.train.take(slice(0, 500)), run.data.validation)
    )
    if model != "mvae":  # the others learn from the pairs alone
        table, validation = complete_rows(table), complete_rows(validation)
        assert table is not None
        assert validation is not None
        assert (len(table), len(validation)) == (50, 20)
    same, how = build(run.config), run.config.training.model_dump()
    again = fit(same, table, validation=validation, **how, seed=4, callbacks=[])
    key = "validation/objective"
    assert history.epochs[0][key] == again.epochs[0][key]
    for mine, theirs in zip(run.model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert run.data.test.complete


def test_labels_are_spread_over_the_latents_of_another_run(tmp_path: Path) -> None:
    few, first = {"paired_fraction": 0.05}, tmp_path / "first"
    images, _ = runs.train(changed("digits", model="vae", epochs=4, data=few), first, device="cpu", callbacks=[])
    config = changed("digits", epochs=2, data=few | {"spread": {"label": str(first)}})
    run, history = runs.train(config, tmp_path / "run", device="cpu", callbacks=[])
    table, validation = (pair_fraction(part, 0.05) for part in (run.data.train, run.data.validation))
    labelled = mvae.spread_labels(images.model, table, "label")
    pairs = labelled.present.all(1).sum()
    assert table.present.all(1).sum() == 64
    assert pairs > 600
    same, how = build(run.config), run.config.training.model_dump()
    again = fit(same, labelled, validation=validation, **how, callbacks=[])
    assert history.epochs[-1]["validation/objective"] == again.epochs[-1]["validation/objective"]
    for mine, theirs in zip(run.model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    (tmp_path / "run" / CHECKPOINT).unlink()  # killed before its first checkpoint
    shutil.rmtree(first)  # the spread labels are kept
    runs.train(config, tmp_path / "run", resume=True, device="cpu", callbacks=[])
    resumed = runs.open_run(tmp_path / "run").model
    assert all(torch.equal(*pair) for pair in zip(run.model.parameters(), resumed.parameters(), strict=True))


def test_spread_refuses_a_run_that_reads_the_table_differently(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    file, said = tmp_path / "rows.csv", {"kinds": {"u": "real", "v": "real"}}
    lines = [f"{i % 2 * 5 + x:.3f},{i % 2 * 5 + y:.3f},{'ab'[i % 2] if i % 9 < 2 else ''}" for i, (x, y) in enumerate(
        torch.randn(200, 2, generator=generator).tolist()
    )]  # fmt: skip
    file.write_text("\n".join(["u,v,group", *lines]))

    def of(columns: list[str], **changes: Any) -> Config:
        modalities = {"x": {"kind": "columns", "columns": columns} | said, "y": {"columns": ["group"]}}
        values = {"data": {"source": str(file)}, "modalities": modalities, "training": {"epochs": 3}}
        return Config.from_dict(merged(values, changes))

    first = tmp_path / "first"
    runs.train(of(["u", "v"], model={"modalities": ["x"]}), first, device="cpu", callbacks=[])
    spread = {"data": {"spread": {"y": str(first)}}}
    run, _ = runs.train(of(["u", "v"], **spread), tmp_path / "run", device="cpu", callbacks=[])
    assert load_state(run.directory / runs.LABELS)[0]["y present"].sum() > 140
    for config, message in (
        (of(["v", "u"], **spread), "has another column 'v' than this table"),
        (of(["v", "u"], model={"modalities": ["x"]}, start_from=str(first)), "has another column 'v' than this table"),
        (of(["u", "v"], **spread, seed=1), "first has other training rows \\(seed is 0, here 1\\)"),
        (of(["u", "v"], **merged(spread, {"data": {"test": 0.3}})), "data.test is 0.1, here 0.3"),
    ):
        with pytest.raises(RunError, match=message):
            runs.train(config, tmp_path / "other", device="cpu", callbacks=[])
    more = of(["u", "v"], model={"modalities": ["x"]}, start_from=str(first), seed=1)  # the rows may differ here
    runs.train(more, tmp_path / "more", device="cpu", callbacks=[])


def test_spread_refuses_missing_runs_and_modalities(trained: Run, tmp_path: Path) -> None:
    for spread, error, message in (
        ({"label": str(tmp_path / "none")}, RunError, "none is not a run directory"),
        ({"sick": str(trained.directory)}, QueryError, "no modality 'sick' in this table; it has image, label"),
    ):
        config = changed("digits", epochs=1, data={"paired_fraction": 0.05, "spread": spread})
        assert_refused(config, tmp_path, error, message)


def test_model_of_pairs_without_pairs_is_refused(tmp_path: Path) -> None:
    few = changed("digits", model="jmvae", data={"paired_fraction": 0.0001})
    assert_refused(few, tmp_path, SettingsError, "jmvae needs complete rows, and none of the 1297 rows is complete")


def test_ctrl_c_while_pytorch_is_imported_stays_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's switch imports half of PyTorch, which fails if the first import was interrupted."""

    def fails(_: bool) -> None:
        raise AttributeError("partially initialized module")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", fails)
    with pytest.raises(KeyboardInterrupt), runs._deterministic(False):
        raise KeyboardInterrupt
