"""Figures 4 and 11 to 14 from a run on a few drawn faces; the same run used by `mvae sample`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.images import cross_entropy, levels
from mvae.paper.datasets import faces, vision
from mvae.paper.harness import reproduce
from mvae.paper.item import Budget, Options, Paths
from mvae.paper.items import ITEMS
from mvae.paper.vision import TASKS, Task, predicted_images
from mvae.runs import run as runs
from mvae.runs import sample as sampling
from mvae.runs.run import Run

pytest.importorskip("skimage")

SIZE = 64 + 2  # of an image in a picture, with its gap
TINY = {"smoke": Budget("one epoch", {"epochs": 1}, 9, 2, datasets=("vision-faces",))}


def figure_rows(figure: str, paths: Paths) -> list[dict[str, Any]]:
    return reproduce(replace(ITEMS[figure], budgets=TINY), Options(budget="smoke"), paths)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory):
    """A few faces, and the smoke budget spent on them by all tests together."""
    folder = tmp_path_factory.mktemp("vision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVAE_CACHE", str(folder / "cache"))
        for split, rows in {"train": 8, "validation": 3, "test": 9}.items():
            patch.setitem(faces.ROWS, split, rows)
        yield Paths(folder / "results", folder / "runs", device="cpu", callbacks=[])


@pytest.fixture(scope="module")
def run(paths: Paths) -> Run:
    figure_rows("figure4", paths)
    (directory,) = paths.runs.glob("vision-faces-*")
    return runs.open_run(directory, device="cpu")


def test_figure_numbers_are_recorded_once_with_both_references(paths: Paths, run: Run) -> None:
    rows = figure_rows("figure4", paths)
    metrics = {row["metric"] for row in rows}
    for task in TASKS[:10]:
        measures = ("NLL", "F1") if task.of in ("edges", "mask") else ("NLL", "PSNR", "SSIM")
        for measure in measures:
            for who in ("", ", training mean", ", nearest neighbour"):
                assert f"{task.name} {measure}{who}" in metrics
    assert all(row["n"] == 9 and row["dataset"] == "vision-faces" for row in rows)
    recorded = (paths.results / "vision.json").read_text()
    assert figure_rows("figure4", paths) == rows
    others = {figure: figure_rows(figure, paths) for figure in ("figure11", "figure12", "figure13", "figure14")}
    assert (paths.results / "vision.json").read_text() == recorded
    assert {row["settings"]["task"] for row in others["figure11"]} == {"all->image", "all->edges", "all->mask"}
    assert {row["settings"]["task"] for row in others["figure13"]} == {"obscured->image (hidden half)"}
    assert {row["dataset"] for row in json.loads(recorded)} == {"vision-faces"}


@pytest.mark.parametrize(("figure", "rows", "columns"), [("figure4", 15, 4), ("figure11", 6, 8), ("figure14", 3, 8)])
def test_pictures_have_rows_for_given_generated_and_true_images(
    figure: str, rows: int, columns: int, paths: Paths, run: Run
) -> None:
    figure_rows(figure, paths)
    with Image.open(paths.results / f"{figure}-coupled-smoke.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] == rows * (SIZE + 2)
    first = pixels[2:66, -columns * SIZE :][:, :64]
    name = "watermarked" if figure == "figure14" else "image"
    truth = np.asarray(run.data.test.columns[name][0]).transpose(1, 2, 0)
    assert np.array_equal(first, truth)


def test_completions_keep_the_given_half(paths: Paths, run: Run) -> None:
    figure_rows("figure13", paths)
    with Image.open(paths.results / "figure13-coupled-smoke.png") as picture:
        pixels = np.asarray(picture)
    made = pixels[SIZE + 4 : SIZE + 68, -8 * SIZE :]
    for i in range(8):
        truth = np.asarray(run.data.test.columns["image"][i]).transpose(1, 2, 0)
        assert np.array_equal(made[:, i * SIZE : i * SIZE + 32], truth[:, :32])
        assert not np.array_equal(made[:, i * SIZE + 32 : i * SIZE + 64], truth[:, 32:])


def test_completion_is_scored_on_hidden_half_only() -> None:
    images = torch.arange(4.0).expand(1, 1, 2, 4)
    assert Task(("obscured",), "image").scored(images)[0, 0, 0].tolist() == [2, 3]
    assert Task(("gray",), "image").scored(images).shape == images.shape


def test_model_score_matches_prediction_by_hand(paths: Paths, run: Run) -> None:
    """z is the mean of the product of the prior and the one expert."""
    rows = {row["metric"]: row["value"] for row in figure_rows("figure12", paths)}
    table = run.data.test.take(range(9))
    model = run.model.eval()
    with torch.no_grad():
        mean, log_var = (
            model.modalities["gray"].encoder(levels(torch.as_tensor(table.columns["gray"]), 255)).chunk(2, -1)
        )
        precision = (-log_var).exp()
        z = precision * mean / (1 + precision)
        found = model.modalities["image"].decoder(z).sigmoid()
    torch.testing.assert_close(predicted_images(model, table, ("gray",), "image"), found, rtol=1e-3, atol=1e-4)
    truth = levels(torch.as_tensor(table.columns["image"]), 255)
    assert rows["gray->image NLL"] == pytest.approx(float(cross_entropy(found, truth).mean()), rel=1e-4)


def test_rows_without_mask_are_trained_on_and_evaluated(paths: Paths, run: Run) -> None:
    present = {"mask": torch.arange(9) % 2 == 0}
    columns = {name: run.data.test.columns[name] for name in vision.MODALITIES}
    table = Table(columns, present)
    run.model.check(table)
    assert run.model(table.take(range(4))).loss.isfinite()
    assert run.model.posterior(table, ["mask"]).mean.shape == (9, 250)
    assert run.model.posterior(table, ["mask"]).mean[1].abs().max() == 0  # the prior's mean
    changed = replace(run, data=Dataset("some without a mask", table, table, table))
    with pytest.raises(QueryError, match="test row 1 has no mask; give another row or a file"):
        sampling.parse_given(changed, ("mask=test:1",))


def photo(path: Path, mode: str, size: tuple[int, int]) -> Path:
    pixels = np.random.RandomState(0).randint(0, 256, (5, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize(size, 2).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("file", "mode", "size"),
    [
        ("rgba.png", "RGBA", (300, 200)),
        ("grey.png", "L", (3, 200)),
        ("palette.gif", "P", (64, 64)),
        ("print.jpg", "CMYK", (1200, 1600)),
        ("tiny.png", "RGB", (1, 1)),
    ],
)
def test_photo_of_any_format_is_transformed(
    file: str, mode: str, size: tuple[int, int], run: Run, tmp_path: Path
) -> None:
    path = photo(tmp_path / file, mode, size)
    given = sampling.parse_given(run, (f"image={path}",))
    of = sampling.parse_of(("edges, mask",))
    assert of == ("edges", "mask")
    picture, texts = sampling.sample(run, given, 4, 0, tmp_path / "out.png", of)
    assert (picture, texts) == (tmp_path / "out.png", {})
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.height == (SIZE + 2) + 2 * (2 * SIZE + 2)  # the given image; 2×2 samples of each modality
        shown = np.asarray(opened)[2:66, -2 * SIZE :][:, :64]
    assert given is not None
    assert np.abs(shown - given["image"][0].permute(1, 2, 0).numpy()).max() < 0.7


def test_colour_photo_given_as_gray_is_recoloured(run: Run, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.jpg", "RGB", (178, 218))
    given = sampling.parse_given(run, (f"gray={path}",))
    assert given is not None
    assert given["gray"].shape == (1, 1, 64, 64)
    sampling.sample(run, given, 1, 0, tmp_path / "out.png", ("image",))
    with Image.open(tmp_path / "out.png") as opened:
        pixels = np.asarray(opened)[:, -SIZE:].astype(int)
    grey, coloured = pixels[2:66, :64], pixels[SIZE + 4 : SIZE + 68, :64]
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (coloured[..., 0] != coloured[..., 2]).any()


def test_given_accepts_number_of_test_row(run: Run) -> None:
    given = sampling.parse_given(run, ("image=test:3",))
    assert given is not None
    assert np.array_equal(np.asarray(given["image"][0]), run.data.test.columns["image"][3])
    with pytest.raises(QueryError, match="--given 'image=test:9': the test rows are 0 to 8"):
        sampling.parse_given(run, ("image=test:9",))


def test_shown_rows_begin_with_given_image(run: Run, tmp_path: Path) -> None:
    sampling.each_shown(run, 3, 0, tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (4 * SIZE + 2, 3 * SIZE + 2, 3)
    truth = np.asarray(run.data.test.columns["watermarked"][3]).transpose(1, 2, 0)
    assert np.array_equal(pixels[3 * SIZE + 2 : 4 * SIZE, 2:SIZE], truth)
