"""Tables 8, 9 and 10: the numbers and their rows, recorded once; the figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mvae.data.dataset import Dataset
from mvae.evaluation.validation import validate
from mvae.paper.cell import Cell, cell_of
from mvae.paper.datasets import digits, multimnist
from mvae.paper.few_pairs import WEAK_MODELS, accuracies, cells_of_study, name_of_line, show_accuracies
from mvae.paper.figure3 import FIGURE3
from mvae.paper.harness import finished_run, reproduce
from mvae.paper.item import Options, Paths
from mvae.paper.items import ITEMS
from mvae.paper.published import published_at
from mvae.paper.results import Row, read_rows
from mvae.runs.run import Run, read_run
from mvae.training.callbacks import Callback
from tests.paper.common import assert_made_once, assert_picture

BOTH = "paper coupled"


def made_of(
    item: str, folder: Path, *, callbacks: Sequence[Callback] | None = None, **options: Any
) -> list[dict[str, Any]]:
    paths = Paths(folder / "results", folder / "runs", device="cpu", callbacks=callbacks)
    return reproduce(ITEMS[item], Options(budget="smoke", **options), paths)


def run_of(cell: Cell, folder: Path) -> Run:
    return finished_run(cell, Paths(runs=folder / "runs", device="cpu"))


def cells(dataset: str, models: str, recipes: str, levels: Sequence[float], budget: str, seeds: int = 1) -> list[Cell]:
    options = Options((dataset,), tuple(models.split()), tuple(recipes.split()), tuple(levels), seeds, budget)
    return list(cells_of_study(dataset, options))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("weak")
    return folder, made_of("table8", folder, levels=(0.1,))


def test_every_model_and_level_has_a_complete_row(made: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = made
    assert sorted(map(str, rows)) == sorted(map(str, read_rows(folder / "results" / "table8.json")))
    found = {(row["model"], row["recipe"], row["metric"], row["settings"]["pairs"]) for row in rows}
    one = "accuracy x1->x2"
    expected = {(model, "paper", one, 0.1) for model in WEAK_MODELS}
    assert found == expected | {("mvae", "coupled", one, 0.1), ("jmvae", "paper", "accuracy x1,x2->x2", 0.1)}
    assert len(rows) == len(found)
    for row in rows:
        assert set(row) == set(Row.__dataclass_fields__)
        assert (row["item"], row["dataset"], row["budget"], row["n"]) == ("table8", "digits", "smoke", 300)
        assert row["stderr"] == pytest.approx(math.sqrt(row["value"] * (1 - row["value"]) / 300), abs=1e-4)
        assert f"--levels {row['settings']['pairs']:g} " in row["command"]
    value = {(row["model"], row["metric"], row["settings"]["pairs"]): row["value"] for row in rows}
    assert value["logreg", one, 0.1] > 0.8
    assert value["jmvae", "accuracy x1,x2->x2", 0.1] > value["jmvae", one, 0.1]  # it has seen the answer


def test_results_and_features_are_reused(made: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = made
    assert_made_once(lambda: made_of("table8", folder, levels=(0.1,)), rows, folder)
    more = made_of("table8", folder, models=("vae",), levels=(0.05, 0.1))
    assert [row["settings"]["pairs"] for row in more] == [0.05, 0.1]
    assert more[1] in rows
    assert len(list((folder / "runs").iterdir())) == 6  # vae, ae, nn, jmvae, mvae twice


def test_row_is_accuracy_of_its_run_on_test_rows(made: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = made
    (cell,) = cells("digits", "nn", BOTH, [0.1], "smoke")
    run = run_of(cell, folder)
    (row,) = (row for row in rows if row["model"] == "nn" and row["settings"]["pairs"] == 0.1)
    measured = validate(run.model, run.data.test)["accuracy image->label"]
    assert row["value"] == pytest.approx(measured, abs=1e-4)


def test_level_one_hides_nothing_and_is_recorded(tmp_path: Path) -> None:
    """The run is therefore the one that Table 2 has with these settings."""
    (row,) = made_of("table8", tmp_path, models=("nn",), levels=(1.0,))
    (directory,) = (tmp_path / "runs").iterdir()
    assert cell_of(read_run(directory)[0])["pairs"] is None
    assert row["settings"]["pairs"] == 1.0
    assert made_of("table8", tmp_path, models=("nn",), levels=(1.0,)) == [row]


def test_logreg_and_rbm_use_dataset_power_and_shift_few_pairs() -> None:
    levels = [0.005, 0.1, 0.5, 1.0]
    for dataset, power in (("mnist", 1.0), ("fashion-mnist", 0.5)):
        for model in ("logreg", "rbm"):
            found = cells(dataset, model, BOTH, levels, "laptop")
            assert [c["input_shift"] for c in found] == [1, 1, 0, 0]
            assert {c["input_power"] for c in found} == {power}
        assert {c["epochs"] for c in cells(dataset, "rbm", BOTH, levels, "laptop")} == {8}
        assert {c["input_shift"] for c in cells(dataset, "ae vae", BOTH, levels, "laptop")} == {0}
    assert {c["input_shift"] for c in cells("digits", "logreg rbm", BOTH, levels, "smoke")} == {0}


def test_coupled_shifts_all_pairs_in_long_training() -> None:
    for dataset, laptop in (("mnist", [1, 1]), ("fashion-mnist", [1, 0])):
        for budget, moved in (("laptop", laptop), ("paper", [1, 1])):
            found = cells(dataset, "mvae", "coupled", [0.01, 1.0], budget)
            assert [cell["input_shift"] for cell in found] == moved
        assert {c["input_shift"] for c in cells(dataset, "mvae", "paper", [0.01, 1.0], "paper")} == {0}
    (strings,) = cells("multimnist", "mvae", "coupled", [1.0], "paper")
    assert strings["input_shift"] == 0


def test_coupled_spreads_labels_if_pairs_are_few() -> None:
    levels = [0.001, 0.002, 0.005, 0.01, 0.02, 1.0]
    found = cells("mnist", "mvae", "coupled", levels, "laptop")
    assert {cell["weights"]["label"] for cell in found} == {200}
    assert {cell["cross_share"] for cell in found} == {1}
    assert [cell["input_noise"] for cell in found] == [0.3, 0.3, 0.3, 0.3, 0.3, 0]
    assert [cell["spread"] for cell in found] == [40, 40, 40, 40, 0, 0]
    assert [cell["spread_rounds"] for cell in found] == [2, 2, 2, 2, 1, 1]
    assert [cell["repeat_pairs"] for cell in found] == [1, 1, 1, 1, 50, 1]
    assert [cell["epochs"] for cell in found] == [24] * 6
    assert all(cell["input_affine"] for cell in found)
    assert found[0].first == found[0].but(spread_rounds=1)
    few = found[0].first.first
    keys = ("pairs", "epochs", "input_noise", "input_shift", "input_affine")
    assert (few.model, *(few[key] for key in keys)) == ("vae", 0.001, 40, 0.3, 1, {})
    for dataset, recipe in (("mnist", "paper"), ("fashion-mnist", "coupled"), ("multimnist", "coupled")):
        assert not any(cell["weights"] for cell in cells(dataset, "mvae", recipe, levels, "laptop"))


def test_models_of_pairs_keep_steps_up_to_paper_epochs() -> None:
    levels = (0.001, 0.1, 0.5, 1.0)
    nn = cells("mnist", "nn", BOTH, levels, "laptop")
    assert [(c["epochs"], c["anneal_epochs"]) for c in nn] == [(500, 0), (80, 0), (24, 0), (24, 0)]
    jmvae = cells("mnist", "jmvae", BOTH, levels, "laptop")
    assert [(c["epochs"], c["anneal_epochs"]) for c in jmvae] == [(500, 200), (80, 32), (16, 6), (8, 3)]
    assert {c["epochs"] for c in cells("mnist", "nn mvae", BOTH, levels, "paper")} == {500}
    garments = cells("fashion-mnist", "nn jmvae", BOTH, levels, "laptop")
    least = 40  # minimum for the cheap network
    assert [c["epochs"] for c in garments] == [100, least, least, least, 100, 30, 6, 6]
    assert [c["decay_epochs"] for c in garments[4:]] == [0, 0, 0, 3]
    assert {c["epochs"] for c in cells("fashion-mnist", "nn", BOTH, levels, "paper")} == {100}
    mvae = cells("fashion-mnist", "mvae", BOTH, levels, "laptop", 3)
    assert len(set(map(str, mvae))) == 2 * 3 * 4
    assert {(c["epochs"], c["rows"]) for c in mvae} == {(3, None)}


@pytest.mark.parametrize(
    ("dataset", "budget", "levels"),
    [("mnist", "laptop", 9), ("fashion-mnist", "laptop", 5), ("fashion-mnist", "paper", 9)],
)
def test_default_levels_come_from_budget(dataset: str, budget: str, levels: int) -> None:
    made = cells(dataset, "mvae", "coupled", (), budget)
    assert len({c["pairs"] for c in made}) == levels
    assert {0.005, 0.01, 0.05, 0.1, 1.0} <= {c["pairs"] for c in made}


def test_default_datasets_depend_on_item_and_budget() -> None:
    def datasets(item: str, budget: str) -> tuple[str, ...]:
        return ITEMS[item].completed(Options(budget=budget)).datasets

    assert datasets("table8", "laptop") == ("mnist",)
    assert datasets("table9", "paper") == ("fashion-mnist",)
    assert datasets("table10", "smoke") == datasets("table10", "laptop") == ("multimnist",)
    assert datasets("figure3", "laptop") == ("mnist", "fashion-mnist", "multimnist")
    assert datasets("figure3", "smoke") == ("digits",)


def row_of(seed: int, value: float, level: float = 0.01, model: str = "mvae") -> dict[str, Any]:
    return {
        "dataset": "mnist", "model": model, "recipe": "paper", "metric": "accuracy x1->x2", "seed": seed,
        "value": value, "paper": published_at("table8", model, level), "settings": {"pairs": level}, "budget": "laptop",
    }  # fmt: skip


def test_seeds_are_averaged_with_standard_error() -> None:
    several, single = accuracies([row_of(0, 0.8), row_of(1, 0.9), row_of(2, 1.0), row_of(0, 0.5, 0.1, "nn")])
    assert (several.value, several.seeds, several.row["paper"]) == (pytest.approx(0.9), 3, 0.8838)
    assert several.stderr == pytest.approx(0.1 / math.sqrt(3))  # sample standard deviation 0.1
    assert (single.value, single.stderr, single.seeds, single.row["paper"]) == (0.5, None, 1, 0.9455)
    (again,) = accuracies([row_of(0, 0.8), row_of(0, 0.7)])
    assert (again.value, again.seeds) == (0.7, 1)  # a repeated measurement is not a second seed


def test_runs_with_other_cross_share_are_a_separate_line() -> None:
    """Rows recorded before this setting existed used a fifth of λ; Table 8 uses all of it."""

    def names(*rows: dict[str, Any]) -> list[str]:
        return [name_of_line(one.row) for one in accuracies(rows)]

    coupled = row_of(0, 0.8) | {"recipe": "coupled"}
    whole = coupled | {"settings": {"pairs": 0.01, "cross_share": 1.0}}
    assert names(coupled, whole) == ["mvae, coupled, 0.2 λ", "mvae, coupled"]
    strings = (row | {"dataset": "multimnist"} for row in (coupled, whole))
    assert names(*strings) == ["mvae, coupled, 0.2 λ", "mvae, coupled"]
    assert names(row_of(0, 0.8), row_of(0, 0.7, model="nn")) == ["mvae, paper", "nn"]


def test_table_shows_published_value_and_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = row_of(0, 1.0, model="jmvae") | {"metric": "accuracy x1,x2->x2", "paper": None}
    show_accuracies("table8", [row_of(0, 0.8), row_of(1, 0.9), row_of(0, 0.5, 0.03, "nn"), joint])
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    first, second, third = ([cell.strip() for cell in line] for line in lines)
    assert first == ["mvae, paper", "1.0%", "0.8500", "0.0500", "2", "0.8838", "-0.0338"]
    assert second == ["nn", "3.0%", "0.5000", "", "1", "–", "–"]
    assert third == ["jmvae (given x1,x2)", "1.0%", "1.0000", "", "1", "–", "–"]
    monkeypatch.setenv("COLUMNS", "120")
    strings = [joint | {"metric": f"accuracy {given}->x2 whole"} for given in ("x1", "x1,x2")]
    show_accuracies("table10", strings)
    shown = capsys.readouterr().out
    assert "│ jmvae (whole) " in shown
    assert "│ jmvae (given x1,x2, whole) " in shown


def test_figure_is_drawn_with_and_without_published_curves(tmp_path: Path) -> None:
    digits = [row_of(0, 0.5) | {"dataset": "digits"}]
    fashion = [
        row_of(seed, 0.5 + level, level) | {"dataset": "fashion-mnist"} for seed in (0, 1) for level in (0.1, 0.2)
    ]
    assert FIGURE3.draw is not None
    FIGURE3.draw([*digits, *fashion, row_of(0, 0.9, 0.5, "nn")], tmp_path / "made" / "figure3.png")
    assert_picture(tmp_path / "made" / "figure3.png")


def test_stopped_run_is_not_measured_and_resumes(tmp_path: Path) -> None:
    """After Ctrl-C in a run, nothing is recorded and the same call resumes from the checkpoint."""
    import os
    import signal

    class Stopping(Callback):
        def on_epoch(self, values: dict[str, float]) -> None:
            if values["epoch"] == 2:
                os.kill(os.getpid(), signal.SIGINT)

    options: dict[str, Any] = {"models": ("mvae",), "recipes": ("paper",), "levels": (0.1,)}
    with pytest.raises(KeyboardInterrupt):
        made_of("table8", tmp_path, callbacks=[Stopping()], **options)
    assert read_rows(tmp_path / "results" / "table8.json") == []
    (row,) = made_of("table8", tmp_path, **options)
    assert row["settings"]["epochs"] == 3
    (directory,) = (tmp_path / "runs").iterdir()
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 3


def strings_of_small_digits(data_dir: Path | None) -> Dataset:
    """MultiMNIST composed of scikit-learn's digits, enlarged three times, without a download."""
    data = digits.load()
    parts = []
    for part, (table, rows) in enumerate(((data.train, 40), (data.validation, 10), (data.test, 30))):
        images = torch.as_tensor(table.columns["image"]).repeat_interleave(3, 2).repeat_interleave(3, 3)
        images = torch.nn.functional.pad((255 * images).to(torch.uint8), (2, 2, 2, 2))
        parts.append(multimnist.compose(images, torch.as_tensor(table.columns["label"]), rows, seed=part))
    return Dataset("multimnist", *parts, codecs={"string": multimnist.CODEC})


def test_table10_scores_digits_and_whole_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multimnist, "load", strings_of_small_digits)
    rows = made_of("table10", tmp_path, levels=(0.5,), recipes=("paper",))
    assert rows == read_rows(tmp_path / "results" / "table10.json")
    one, given_both = "accuracy x1->x2", "accuracy x1,x2->x2"
    expected = {(model, metric) for model in ("nn", "jmvae", "mvae") for metric in (one, f"{one} whole")}
    assert {(r["model"], r["metric"]) for r in rows} == expected | {
        ("jmvae", given_both),
        ("jmvae", f"{given_both} whole"),
    }
    published = {(r["model"], r["metric"]): r["paper"] for r in rows if r["paper"] is not None}
    assert published == {("jmvae", one): 0.4962, ("mvae", one): 0.5121}
    assert (
        len(made_of("table10", tmp_path, models=("rbm", "mvae"), recipes=("paper",), levels=(0.5,))) == 2
    )  # table10 has no RBM

    (cell,) = cells("multimnist", "mvae", "paper", [0.5], "smoke")
    run = run_of(cell, tmp_path)
    string = run.model.modalities["string"]
    written = string.generate(run.model.posterior(run.data.test, ["image"]).mean, mean=True)
    true, ours = (
        [multimnist.CODEC.format(row) for row in torch.as_tensor(x)] for x in (run.data.test["string"], written)
    )
    right = sum(a == b for pair in zip(true, ours, strict=True) for a, b in zip(*pair, strict=False))
    (row,) = (row for row in rows if (row["model"], row["metric"]) == ("mvae", one))
    assert (row["value"], row["n"]) == (pytest.approx(right / sum(map(len, true)), abs=1e-4), 30)
