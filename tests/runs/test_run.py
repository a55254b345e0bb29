"""A run from training to evaluation: what its directory says, and what it refuses."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mvae.data.pairing import complete_rows, weak_supervision
from mvae.data.splits import Splits
from mvae.data.table import Table
from mvae.errors import QueryError, RunError, SettingsError
from mvae.files import load_state, read_json
from mvae.models.mvae import MVAE
from mvae.paper.settings import Settings, parse_weights, read_settings
from mvae.runs import run as runs
from mvae.runs.run import Run
from mvae.training.checkpoint import CHECKPOINT, METRICS, SETTINGS
from mvae.training.fit import fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "digits"
    return runs.train(Settings.of("digits", epochs=2), directory, device="cpu", callbacks=[])[0]


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    shutil.copytree(trained.directory, tmp_path / "copy")
    return tmp_path / "copy"


# -- Settings ------------------------------------------------------------------------------------------------------


def test_settings_are_the_experiments_unless_given_and_annealing_keeps_its_share() -> None:
    mnist = Settings.of("mnist")
    assert (mnist.epochs, mnist.anneal_epochs, mnist.batch_size, mnist.learning_rate) == (500, 200, 100, 1e-3)
    assert (mnist.recipe, mnist.model, mnist.weights, mnist.seed) == ("coupled", "mvae", {}, 0)
    assert Settings.of("mnist", epochs=60).anneal_epochs == 24
    kinds = [("coupled", "mvae"), ("paper", "mvae"), ("coupled", "jmvae"), ("paper", "nn")]
    assert [Settings.of("mnist", recipe, 0, model, epochs=60).decay_epochs for recipe, model in kinds] == [24, 0, 0, 24]
    assert Settings.of("mnist", epochs=60, anneal_epochs=0).anneal_epochs == 0
    assert Settings.of("mnist", epochs=None, batch_size=None).epochs == 500
    assert Settings.of("mnist", "paper", 3, learning_rate=0.01).learning_rate == 0.01
    assert (Settings.of("mnist").rows, Settings.of("mnist", rows=10).rows) == (None, 10)
    assert (Settings.of("mnist").pairs, Settings.of("mnist", pairs=0.0).pairs) == (None, 0.0)


def test_coupled_repeats_few_pairs_until_they_are_a_fifth_of_the_rows_but_no_more_than_50_times() -> None:
    levels = {None: 1, 0.0: 1, 0.0005: 50, 0.002: 50, 0.005: 40, 0.01: 20, 0.05: 4, 0.1: 2, 0.5: 1, 1.0: 1}
    assert {level: Settings.of("mnist", pairs=level).repeat_pairs for level in levels} == levels
    shares = {dataset: Settings.of(dataset, pairs=0.1) for dataset in ("mnist", "fashion-mnist", "multimnist")}
    assert {name: (s.cross_share, s.repeat_pairs) for name, s in shares.items()} == {
        "mnist": (0.2, 2), "fashion-mnist": (1.0, 10), "multimnist": (1.0, 10)
    }  # fmt: skip
    assert Settings.of("multimnist", pairs=0.001).repeat_pairs == 50
    assert Settings.of("multimnist", pairs=0.1, cross_share=0.2).repeat_pairs == 2
    assert Settings.of("mnist", cross_share=0.5).build().cross_share == 0.5
    assert Settings.of("mnist", "paper", pairs=0.01).repeat_pairs == 1
    assert Settings.of("mnist", model="jmvae", pairs=0.01).repeat_pairs == 1
    assert Settings.of("mnist", pairs=0.01, repeat_pairs=1).repeat_pairs == 1


def test_few_pairs_are_blurred_in_coupled_and_whatever_the_supervised_network_sees() -> None:
    levels = {None: 0.0, 0.0001: 0.3, 0.001: 0.3, 0.01: 0.3, 0.1: 0.3, 0.5: 0.0, 1.0: 0.0}
    assert {level: Settings.of("mnist", pairs=level).input_noise for level in levels} == levels
    assert {Settings.of("mnist", model="nn", pairs=level).input_noise for level in levels} == {0.3}
    for dataset, noise in (("fashion-mnist", 0.0), ("multimnist", 0.2), ("digits", 0.5)):  # every dataset its own
        assert Settings.of(dataset, pairs=0.01).input_noise == noise
        assert Settings.of(dataset, model="nn", pairs=0.01).input_noise == (0.6 if dataset == "digits" else 0.0)
    for settings in (Settings.of("mnist", "paper", pairs=0.01), Settings.of("mnist", model="jmvae", pairs=0.01)):
        assert settings.input_noise == 0.0
    moved = {d: Settings.of(d, model="nn").input_shift for d in ("mnist", "fashion-mnist", "multimnist", "digits")}
    assert moved == {"mnist": 2, "fashion-mnist": 1, "multimnist": 0, "digits": 0}
    assert {d: Settings.of(d, pairs=0.01).input_shift for d in moved} == moved | {"mnist": 1}
    assert {d: Settings.of(d, pairs=1.0).input_shift for d in moved} == dict.fromkeys(moved, 0)
    powers = {level: Settings.of("fashion-mnist", pairs=level).input_power for level in (None, 0.01, 0.1, 1.0)}
    assert powers == {None: 1.0, 0.01: 0.5, 0.1: 0.5, 1.0: 1.0}
    supervised = [Settings.of("fashion-mnist", model="nn", pairs=level) for level in (0.01, 0.5, 1.0, None)]
    assert [settings.input_power for settings in supervised] == [0.5, 0.5, 1.0, 1.0]
    assert supervised[0].build().modalities["image"].input_power == 0.5
    assert Settings.of("fashion-mnist", "paper", pairs=0.01).input_power == 1.0
    assert Settings.of("fashion-mnist", model="nn").build().modalities["image"].input_shift == 1
    built = Settings.of("mnist", pairs=0.01, input_noise=0.4).build()
    assert {name: modality.input_noise for name, modality in built.modalities.items()} == {"image": 0.4, "label": 0.0}


def test_coupled_guesses_what_rows_lack_and_nothing_else_does() -> None:
    def guessed(settings: Settings) -> tuple[str, ...]:
        built = settings.build()
        assert isinstance(built, MVAE)
        return built.pseudo_labels

    few: list[dict[str, Any]] = [{"pairs": 0.001}, {"pairs": 0.5}]
    for hidden in few:
        assert Settings.of("mnist", **hidden).pseudo_labels
        assert guessed(Settings.of("mnist", **hidden)) == ("label",)
        assert guessed(Settings.of("mnist", **hidden, pseudo_labels=False)) == ()
        assert not Settings.of("mnist", "paper", **hidden).pseudo_labels
        assert not Settings.of("mnist", model="jmvae", **hidden).pseudo_labels
    whole: list[dict[str, Any]] = [{}, {"pairs": 1.0}, {"kept": 1.0}, {"pairs": 0.0}]
    for nothing_hidden in whole:
        assert not Settings.of("mnist", **nothing_hidden).pseudo_labels
    assert guessed(Settings.of("multimnist", pairs=0.1)) == ("string",)
    assert len(guessed(Settings.of("celeba19", kept=0.1))) == 18
    assert not Settings.of("translation", pairs=0.1).pseudo_labels  # whole sentences are never sure
    with pytest.raises(SettingsError, match="no modality of translation is guessed"):
        Settings.of("translation", pairs=0.1, pseudo_labels=True).build()
    with pytest.raises(SettingsError, match="pseudo labels belong to the recipe coupled of the MVAE"):
        Settings.of("mnist", "paper", pairs=0.01, pseudo_labels=True).build()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": -5}, "batch_size"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"learning_rate": 0.0}, "rate"),
        ({"pairs": 1.5}, "pairs, the share of complete rows, must be between 0 and 1, not 1.5"),
        ({"cross_share": 0.0}, "cross_share, a share of λ, must be above 0 and at most 1, not 0.0"),
        ({"repeat_pairs": 2}, "repeat_pairs is for few pairs, and 1 or more: not 2 with pairs=None"),
        ({"input_noise": -0.5}, "input_noise must be a finite number ≥ 0, not -0.5"),
        ({"input_shift": -1}, "input_shift, a number of pixels, must be a whole number ≥ 0, not -1"),
        ({"input_power": 0.0}, "input_power must be above 0 and finite, not 0.0"),
        ({"repeat_pairs": 0, "pairs": 0.5}, "repeat_pairs is for few pairs, and 1 or more: not 0 with pairs=0.5"),
    ],
)
def test_settings_outside_their_range_are_refused_before_anything_else(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.of("digits", **changed)
    with pytest.raises(SettingsError, match="no dataset 'phases'; there are digits"):
        Settings.of("phases")


@pytest.mark.parametrize("text", ["label", "label=", "label=much"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--weight {text!r}: write MODALITY=NUMBER")):
        parse_weights((text,))
    assert parse_weights(("label=10", "image=0.5")) == {"label": 10.0, "image": 0.5}


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:99", "meta", "hpu", "vulkan"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"no device '{name}' here .*try --device cpu") as caught:
        runs.device_named(name)
    assert "\n" not in str(caught.value)


# -- The directory -------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_was_and_under_what_circumstances(trained: Run) -> None:
    said = read_json(trained.directory / SETTINGS)
    assert said["format"] == 2
    assert Settings(**{name: said[name] for name in vars(trained.settings)}) == trained.settings
    assert {"command", "mvae", "torch", "python", "device"} <= said.keys()
    written = {
        file.name for file in trained.directory.iterdir() if not file.name.startswith("events.")
    }  # TensorBoard's
    assert written == {SETTINGS, METRICS, CHECKPOINT}


def test_an_opened_run_has_the_weights_that_training_ended_with(trained: Run) -> None:
    opened = runs.open_run(trained.directory, device="cpu")
    for name, value in trained.model.state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], value), name
    assert not opened.model.training
    assert opened.settings == trained.settings
    assert opened.progress["epoch"] == 2


def test_runs_of_the_first_version_open_too(copy: Path) -> None:
    """Their run.json knows neither models nor weights."""
    said = read_json(copy / SETTINGS) | {"format": 1, "recipe": "paper"}
    del said["model"], said["weights"], said["pairs"]
    (copy / SETTINGS).write_text(json.dumps(said))
    assert runs.open_run(copy, device="cpu").settings.model == "mvae"


def test_nothing_is_written_before_settings_and_data_are_known_to_be_good(tmp_path: Path) -> None:
    for settings, device in (
        (Settings.of("digits", "nonsense"), "cpu"),
        (Settings.of("digits", model="nonsense"), "cpu"),
        (Settings.of("digits"), "nonsense"),
    ):
        with pytest.raises(SettingsError):
            runs.train(settings, tmp_path / "run", device=device, callbacks=[])
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_and_not_resumed_with_other_settings(copy: Path) -> None:
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(RunError, match="holds a run already: go on with --resume, or choose another --run-dir"):
        runs.train(Settings.of("digits", epochs=2), copy, callbacks=[])
    with pytest.raises(RunError, match="cannot be resumed with other settings: epochs was 2, now 5"):
        runs.train(Settings.of("digits", epochs=5, anneal_epochs=1), copy, resume=True, callbacks=[])
    with pytest.raises(RunError, match="recipe was 'coupled', now 'paper'"):
        runs.train(Settings.of("digits", "paper", epochs=2), copy, resume=True, callbacks=[])
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


def test_a_run_starts_from_the_best_weights_of_another(trained: Run, tmp_path: Path) -> None:
    settings = Settings.of("digits", epochs=1, rows=100, learning_rate=1e-12, start_from=str(trained.directory))
    longer, _ = runs.train(settings, tmp_path / "longer", device="cpu", callbacks=[])
    for name, weight in trained.model.named_parameters():
        torch.testing.assert_close(longer.model.get_parameter(name), weight, atol=1e-6, rtol=0.0)
    assert read_settings(tmp_path / "longer").start_from == str(trained.directory)
    before = load_state(tmp_path / "longer" / CHECKPOINT)[0]
    (tmp_path / "longer" / CHECKPOINT).unlink()  # killed before its first checkpoint, it starts from there again
    runs.train(settings, tmp_path / "longer", resume=True, device="cpu", callbacks=[])
    assert all(torch.equal(x, before[name]) for name, x in load_state(tmp_path / "longer" / CHECKPOINT)[0].items())


def test_a_run_starts_from_no_other_networks_and_from_nothing_that_is_no_run(trained: Run, tmp_path: Path) -> None:
    for settings, message in (
        (Settings.of("digits", epochs=1, start_from=str(tmp_path / "none")), "no checkpoint at"),
        (Settings.of("digits", epochs=1, model="vae", start_from=str(trained.directory)), "belongs to another model"),
    ):
        with pytest.raises(RunError, match=message):
            runs.train(settings, tmp_path / "run", device="cpu", callbacks=[])
        assert not (tmp_path / "run").exists()


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(trained: Run, copy: Path) -> None:
    (copy / CHECKPOINT).unlink()
    runs.train(trained.settings, copy, resume=True, device="cpu", callbacks=[])
    found, expected = load_state(copy / CHECKPOINT)[0], load_state(trained.directory / CHECKPOINT)[0]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len((copy / METRICS).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99; this version reads up to 2"),
        ({"format": 1}, "is of the recipe 'coupled' as it was before"),
        ({"format": None}, "lacks 'format': it is damaged, or of another version"),
        ({"epochs": None}, "lacks 'epochs'"),
        ({"epochs": "two"}, "epochs is 'two': the file is damaged"),
        ({"seed": 1.5}, "seed is 1.5: the file is damaged"),
        ({"pairs": "few"}, "pairs is 'few': the file is damaged"),
        ({"weights": [1]}, r"weights is \[1\]: the file is damaged"),
        ({"dataset": "phases"}, "no dataset 'phases'"),
        ({"recipe": "nonsense"}, "no recipe 'nonsense'"),
        ({"dataset": "mnist"}, "belongs to another model: it has _modalities.image.encoder.1.weight of shape"),
        ({"model": "vae"}, "belongs to another model: it has the unknown"),
        ({"model": "jmvae"}, "belongs to another model: it lacks joint_encoder"),
    ],
)
def test_a_run_directory_of_another_kind_is_refused(change: dict[str, Any], message: str, copy: Path) -> None:
    said = read_json(copy / SETTINGS) | change
    (copy / SETTINGS).write_text(json.dumps({name: value for name, value in said.items() if value is not None}))
    with pytest.raises((RunError, SettingsError), match=message) as caught:
        runs.open_run(copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_what_is_no_run_is_refused(copy: Path, tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent", copy / SETTINGS):
        with pytest.raises(RunError, match=r"is not a run directory: it has no run.json. Train one: mvae train digits"):
            runs.open_run(directory)
    (copy / CHECKPOINT).write_bytes((copy / CHECKPOINT).read_bytes()[:-1000])
    with pytest.raises(RunError, match=r"checkpoint.safetensors is damaged"):
        runs.open_run(copy)
    (copy / CHECKPOINT).unlink()
    with pytest.raises(RunError, match="the run has not saved one yet"):
        runs.open_run(copy)


# -- Questions -----------------------------------------------------------------------------------------------------


def test_evaluation_is_of_the_first_test_rows_under_the_images_posterior(trained: Run) -> None:
    evaluation = runs.evaluate(trained, rows=20, samples=100)
    assert (evaluation.rows, evaluation.samples, evaluation.proposal) == (20, 100, ("image",))
    assert list(evaluation.likelihoods) == ["log p(x1)", "log p(x1,x2)", "log p(x1|x2)"]
    assert all(len(value.values) == 20 for value in evaluation.likelihoods.values())
    joint, conditional = (evaluation.likelihoods[name].mean for name in ("log p(x1,x2)", "log p(x1|x2)"))
    assert evaluation.label_gap() == joint - conditional
    assert "accuracy image->label" in evaluation.instruments
    again = runs.evaluate(trained, rows=20, samples=100)
    other = runs.evaluate(trained, rows=20, samples=100, seed=1)
    assert again.likelihoods["log p(x1)"].mean == evaluation.likelihoods["log p(x1)"].mean
    assert other.likelihoods["log p(x1)"].mean != evaluation.likelihoods["log p(x1)"].mean


def test_evaluation_refuses_what_it_cannot_do(trained: Run) -> None:
    for rows in (0, -3):
        with pytest.raises(QueryError, match=f"rows must be at least 1, not {rows}"):
            runs.evaluate(trained, rows=rows)
    with pytest.raises(QueryError, match="samples must be at least 2"):
        runs.evaluate(trained, rows=2, samples=1)
    with pytest.raises(QueryError, match="no modality 'sound' in this model; it has image, label"):
        runs.evaluate(trained, rows=2, samples=10, proposal=("sound",))


def test_a_run_may_learn_from_the_first_rows_only(tmp_path: Path) -> None:
    settings = Settings.of("digits", epochs=1, rows=30)
    run, _ = runs.train(settings, tmp_path / "few", device="cpu", callbacks=[])
    assert read_settings(tmp_path / "few").rows == 30
    same = settings.build()
    few = run.splits.train.take(slice(0, 30))
    fit(same, few, validation=run.splits.validation, epochs=1, anneal_epochs=settings.anneal_epochs, callbacks=[])
    for mine, theirs in zip(run.model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("rows", "selecting"), [(2000, 50), (1000, 25), (100, 20), (None, 100), (9999, 100)])
def test_a_part_of_the_rows_is_selected_by_a_part_of_the_validation_rows(
    rows: int | None, selecting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else short runs would spend a third of their time on validation rows, of which few tell as much."""
    monkeypatch.setattr(runs, "SELECTED_BY", 20)
    table = Table({"label": torch.arange(4000)})
    splits = Splits("rows", table, Table({"label": torch.arange(100)}), table)
    settings = Settings.of("digits", rows=rows)
    learned, validation = runs._learned_from(settings, splits, settings.build())
    assert len(learned) == min(rows or 4000, 4000)
    assert validation is not None
    assert len(validation) == selecting


@pytest.mark.parametrize("model", ["mvae", "jmvae", "nn", "cvae"])
def test_with_few_pairs_the_validation_rows_have_no_more_of_them_and_the_test_rows_all(
    model: str, tmp_path: Path
) -> None:
    settings = Settings.of("digits", "paper", 4, model, epochs=1, rows=500, pairs=0.1)
    run, history = runs.train(settings, tmp_path / "few", device="cpu", callbacks=[])
    assert read_settings(tmp_path / "few").pairs == 0.1
    table, validation = (
        weak_supervision(part, 0.1, 4) for part in (run.splits.train.take(slice(0, 500)), run.splits.validation)
    )
    if model != "mvae":  # the others learn from the pairs alone
        table, validation = complete_rows(table), complete_rows(validation)
        assert table is not None
        assert validation is not None
        assert (len(table), len(validation)) == (50, 20)
    same = settings.build()
    again = fit(
        same,
        table,
        validation=validation,
        epochs=1,
        anneal_epochs=settings.anneal_epochs,
        seed=4,
        callbacks=[],
    )
    key = "validation/objective"
    assert history.epochs[0][key] == again.epochs[0][key]
    for mine, theirs in zip(run.model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert run.splits.test.complete


def test_a_model_of_pairs_without_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"jmvae learns from pairs, and 0\.0001 of 1297 rows are none"):
        runs.train(Settings.of("digits", model="jmvae", pairs=0.0001), tmp_path / "none", callbacks=[])
    assert not (tmp_path / "none").exists()
