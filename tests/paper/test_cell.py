"""Cells of the studies: the settings that each changes in its declaration."""

from pathlib import Path
from typing import Any

import pytest

from mvae.cli.train import train
from mvae.errors import SettingsError
from mvae.modality.augment import Affine, Noise, Power, Shift
from mvae.models.mvae import MVAE
from mvae.paper.cell import Cell, cell_of
from mvae.runs.build import build
from mvae.runs.config import parse_change
from mvae.runs.source import declared

# -- Settings ------------------------------------------------------------------------------------------------------


def test_settings_default_to_experiment_and_annealing_scales() -> None:
    mnist = Cell.of("mnist")
    assert (mnist["epochs"], mnist["anneal_epochs"], mnist["batch_size"], mnist["learning_rate"]) == (
        500,
        200,
        100,
        1e-3,
    )
    assert (mnist.recipe, mnist.model, mnist["weights"], mnist.seed) == ("coupled", "mvae", {}, 0)
    assert Cell.of("mnist", epochs=60)["anneal_epochs"] == 24
    kinds = [("coupled", "mvae"), ("paper", "mvae"), ("coupled", "jmvae"), ("paper", "nn")]
    assert [Cell.of("mnist", recipe, 0, model, epochs=60)["decay_epochs"] for recipe, model in kinds] == [24, 0, 0, 24]
    assert Cell.of("mnist", epochs=60, anneal_epochs=0)["anneal_epochs"] == 0
    assert Cell.of("mnist", epochs=None, batch_size=None)["epochs"] == 500
    assert Cell.of("mnist", "paper", 3, learning_rate=0.01)["learning_rate"] == 0.01
    assert (Cell.of("mnist")["rows"], Cell.of("mnist", rows=10)["rows"]) == (None, 10)
    assert (Cell.of("mnist")["pairs"], Cell.of("mnist", pairs=0.0)["pairs"]) == (None, 0.0)


def test_coupled_repeats_few_pairs_at_most_50_times() -> None:
    levels = {None: 1, 0.0: 1, 0.0005: 50, 0.002: 50, 0.005: 40, 0.01: 20, 0.05: 4, 0.1: 2, 0.5: 1, 1.0: 1}
    assert {level: Cell.of("mnist", pairs=level)["repeat_pairs"] for level in levels} == levels
    shares = {dataset: Cell.of(dataset, pairs=0.1) for dataset in ("mnist", "fashion-mnist", "multimnist")}
    assert {name: (s["cross_share"], s["repeat_pairs"]) for name, s in shares.items()} == {
        "mnist": (0.2, 2), "fashion-mnist": (1.0, 10), "multimnist": (1.0, 10)
    }  # fmt: skip
    assert Cell.of("multimnist", pairs=0.001)["repeat_pairs"] == 50
    assert Cell.of("multimnist", pairs=0.1, cross_share=0.2)["repeat_pairs"] == 2
    shared = build(Cell.of("mnist", cross_share=0.5).config)
    assert isinstance(shared, MVAE)
    assert shared.recipe.share == 0.5
    assert Cell.of("mnist", "paper", pairs=0.01)["repeat_pairs"] == 1
    assert Cell.of("mnist", "paper", 0, "jmvae", pairs=0.01)["repeat_pairs"] == 1
    assert Cell.of("mnist", pairs=0.01, repeat_pairs=1)["repeat_pairs"] == 1


def test_manual_says_how_to_train_a_cell_with_few_pairs() -> None:
    """`mvae train` sets nothing by itself where `mvae reproduce` does; the manual's command sets the same."""
    text = (Path(__file__).parents[2] / "docs/how-to/missing-data.md").read_text()
    words = next(line for line in text.splitlines() if line.startswith("`mvae train mnist")).strip("`.").split()[2:]
    given = train.make_context("train", words).params
    config = declared(*given["sources"]).variant(*given["variants"]).change({"training": {"epochs": given["epochs"]}})
    for change in given["changes"]:
        config = config.change(parse_change(change))
    assert config.resolved() == Cell.of("mnist", pairs=0.01, epochs=8).config.change({"variants": {}}).resolved()


def test_coupled_few_pairs_and_supervised_network_are_augmented() -> None:
    levels = {None: 0.0, 0.0001: 0.3, 0.001: 0.3, 0.01: 0.3, 0.1: 0.3, 0.5: 0.0, 1.0: 0.0}
    assert {level: Cell.of("mnist", pairs=level)["input_noise"] for level in levels} == levels
    assert {Cell.of("mnist", "paper", 0, "nn", pairs=level)["input_noise"] for level in levels} == {0.3}
    for dataset, noise in (("fashion-mnist", 0.0), ("multimnist", 0.2), ("digits", 0.5)):  # each dataset has its own
        assert Cell.of(dataset, pairs=0.01)["input_noise"] == noise
        assert Cell.of(dataset, "paper", 0, "nn", pairs=0.01)["input_noise"] == (0.6 if dataset == "digits" else 0.0)
    for settings in (Cell.of("mnist", "paper", pairs=0.01), Cell.of("mnist", "paper", 0, "jmvae", pairs=0.01)):
        assert settings["input_noise"] == 0.0
    moved = {d: Cell.of(d, "paper", 0, "nn")["input_shift"] for d in ("mnist", "fashion-mnist", "multimnist", "digits")}
    assert moved == {"mnist": 1, "fashion-mnist": 1, "multimnist": 0, "digits": 0}
    assert {d: Cell.of(d, pairs=0.01)["input_shift"] for d in moved} == moved
    assert {d: Cell.of(d, pairs=1.0)["input_shift"] for d in moved} == dict.fromkeys(moved, 0)
    powers = {level: Cell.of("fashion-mnist", pairs=level)["input_power"] for level in (None, 0.01, 0.1, 1.0)}
    assert powers == {None: 1.0, 0.01: 0.5, 0.1: 0.5, 1.0: 1.0}
    supervised = [Cell.of("fashion-mnist", "paper", 0, "nn", pairs=level) for level in (0.01, 0.5, 1.0, None)]
    assert [settings["input_power"] for settings in supervised] == [0.5, 0.5, 1.0, 1.0]
    assert build(supervised[0].config).modalities["image"].view == Power(0.5)
    assert Cell.of("fashion-mnist", "paper", pairs=0.01)["input_power"] == 1.0
    assert build(Cell.of("fashion-mnist", "paper", 0, "nn").config).modalities["image"].augment == (Shift(1),)
    built = build(Cell.of("mnist", pairs=0.01, input_noise=0.4).config)
    warped = Affine(15.0, 0.15, 0.2, 1.0)
    assert {n: m.augment for n, m in built.modalities.items()} == {"image": (warped, Noise(0.4), Shift(1)), "label": ()}


def test_only_coupled_uses_pseudo_labels() -> None:
    def pseudo_labels_of(cell: Cell) -> tuple[str, ...]:
        built = build(cell.config)
        assert isinstance(built, MVAE)
        return built.pseudo_labels

    few: list[dict[str, Any]] = [{"pairs": 0.001}, {"pairs": 0.5}]
    for hidden in few:
        assert Cell.of("mnist", **hidden)["pseudo_labels"]
        assert pseudo_labels_of(Cell.of("mnist", **hidden)) == ("label",)
        assert pseudo_labels_of(Cell.of("mnist", **hidden, pseudo_labels=False)) == ()
        assert not Cell.of("mnist", "paper", **hidden)["pseudo_labels"]
        assert not Cell.of("mnist", "paper", 0, "jmvae", **hidden)["pseudo_labels"]
    whole: list[dict[str, Any]] = [{}, {"pairs": 1.0}, {"kept": 1.0}, {"pairs": 0.0}]
    for nothing_hidden in whole:
        assert not Cell.of("mnist", **nothing_hidden)["pseudo_labels"]
    assert pseudo_labels_of(Cell.of("multimnist", pairs=0.1)) == ("string",)
    assert len(pseudo_labels_of(Cell.of("celeba19", kept=0.1))) == 18
    assert not Cell.of("translation", pairs=0.1)["pseudo_labels"]  # predictions of whole sentences are never confident
    with pytest.raises(SettingsError, match="no modality of translation is guessed"):
        build(Cell.of("translation", pairs=0.1, pseudo_labels=True).config)
    with pytest.raises(SettingsError, match="pseudo-labels belong to the recipe coupled of the MVAE"):
        build(Cell.of("mnist", "paper", pairs=0.01, pseudo_labels=True).config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "training.epochs must be at least 1, not 0"),
        ({"batch_size": -5}, "training.batch_size must be at least 1"),
        ({"rows": 0}, "data.rows must be at least 1"),
        ({"learning_rate": 0.0}, "training.learning_rate must be greater than 0"),
        ({"pairs": 1.5}, "data.paired_fraction must be at most 1, not 1.5"),
        ({"repeat_pairs": 0, "pairs": 0.5}, "data.oversample must be at least 1, not 0"),
        ({"pairs": 0.5, "kept": 0.5}, "two ways of hiding values"),
        ({"weights": {"sound": 1.0}}, "no modality 'sound' to weigh; there are image, label"),
        ({"epoch": 3}, "no setting epoch"),
        ({"cross_share": 0.0}, "cross_share"),
        ({"input_noise": -0.5}, "std"),
        ({"spread": 5}, "labels spread in the recipe coupled"),
        ({"input_shift": -1}, "pixels"),
        ({"input_power": 0.0}, "exponent"),
    ],
)
def test_settings_outside_their_range_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(Cell.of("digits", **changed).config)


def test_unknown_name_errors_list_alternatives() -> None:
    with pytest.raises(SettingsError, match=r"no declaration 'phases'; there are .*digits"):
        Cell.of("phases")
    with pytest.raises(SettingsError, match="no recipe 'papers'; there are paper, coupled"):
        Cell.of("digits", "papers")
    with pytest.raises(SettingsError, match="no model 'gan'; there are bivcca, cvae"):
        build(Cell.of("digits", "paper", 0, "gan").config)


def test_cell_is_read_back_from_its_declaration() -> None:
    for cell in (
        Cell.of("mnist"),
        Cell.of("mnist", "paper", 3, epochs=60),
        Cell.of("fashion-mnist", pairs=0.01),
        Cell.of("celeba19", "paper", random_subsets=5, shared_noise=True),
        Cell.of("digits", "paper", 0, "jmvae_alpha_0.1", weights={"label": 10.0}),
    ):
        assert cell_of(cell.config).config.resolved() == cell.config.resolved()
