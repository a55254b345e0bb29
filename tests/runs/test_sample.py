"""Samples of a run: how a command's text becomes data, and what the pictures show."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from mvae.data.dataset import Dataset
from mvae.errors import QueryError, UserError
from mvae.paper.datasets import multimnist
from mvae.runs import run as runs
from mvae.runs import sample as sampling
from mvae.runs.build import build
from mvae.runs.evaluation import evaluate
from mvae.runs.registry import models
from mvae.runs.run import Run
from mvae.runs.source import declared
from tests.declared import changed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "digits"
    return runs.train(changed("digits", epochs=2), directory, device="cpu", callbacks=[])[0]


def test_given_is_read_from_text_and_pictures(trained: Run, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "white").save(tmp_path / "photo.png")
    assert sampling.parse_given(trained, ()) is None
    row = sampling.parse_given(trained, ("label=5", f"image={tmp_path / 'photo.png'}"))
    assert row is not None
    assert row["label"].tolist() == [5]
    assert torch.equal(row["image"], torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("label",), "--given 'label': write MODALITY=VALUE, for example label=5"),
        (("sound=1",), "no modality 'sound' in this model; it has image, label"),
        (("label=11",), "--given 'label=11': label is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (("label=",), "--given 'label=': label is one of"),
        (("label=5", "label=6"), "--given names label twice"),
        (("image=absent.png",), "cannot read the picture absent.png: No such file or directory"),
        (("image=",), "cannot read the picture"),
    ],
)
def test_invalid_given_is_refused(given: tuple[str, ...], message: str, trained: Run) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        sampling.parse_given(trained, given)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_samples_are_an_image_grid_and_class_names(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "sample.png"
    given = sampling.parse_given(trained, ("label=5",))
    assert sampling.sample(trained, given, 6, 0, path) == (path, {})
    assert size(path) == (3 * 58 + 2, 2 * 58 + 2)
    first = path.read_bytes()
    sampling.sample(trained, given, 6, 0, path)
    assert path.read_bytes() == first
    sampling.sample(trained, given, 6, 1, path)
    assert path.read_bytes() != first
    picture, texts = sampling.sample(trained, None, 4, 0, path)
    assert picture == path
    assert len(texts["label"]) == 4
    assert set(texts["label"]) <= set("0123456789")
    assert sampling.sample(trained, None, 4, 0, path, of=("label",))[0] is None


def test_sampling_labels_too_does_not_change_the_picture(trained: Run, tmp_path: Path) -> None:
    """The picture shows means; the labels are samples."""
    _, texts = sampling.sample(trained, None, 9, 0, tmp_path / "both.png")
    sampling.sample(trained, None, 9, 0, tmp_path / "image.png", of=("image",))
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "image.png").read_bytes()
    assert len(texts["label"]) == 9


def test_invalid_samples_are_refused_and_not_written(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "sample.png"
    with pytest.raises(QueryError, match="n must be at least 1, not 0"):
        sampling.sample(trained, None, 0, 0, path)
    with pytest.raises(QueryError, match="no modality 'sound'"):
        sampling.sample(trained, None, 1, 0, path, of=("sound",))
    everything = {"image": torch.zeros(1, 1, 8, 8), "label": torch.tensor([3])}
    with pytest.raises(QueryError, match="everything is given, so say what to generate: --of image"):
        sampling.sample(trained, everything, 1, 0, path)
    assert not path.exists()
    assert sampling.sample(trained, everything, 1, 0, path, of=("image",))[0] == path


def test_each_shown_value_is_a_row_of_samples(trained: Run, tmp_path: Path) -> None:
    assert sampling.each_shown(trained, 3, 0, tmp_path / "classes.png") == tmp_path / "classes.png"
    assert size(tmp_path / "classes.png") == (3 * 58 + 2, 10 * 58 + 2)


@pytest.mark.parametrize("model", [name for name in models() if name not in ("mvae", "ae", "nn")])
def test_every_model_trains_evaluates_and_samples(model: str, tmp_path: Path) -> None:
    config = changed("digits", model=model, epochs=1, batch_size=400)
    directory = tmp_path / "run"
    runs.train(config, directory, device="cpu", callbacks=[])
    opened = runs.open_run(directory, device="cpu")
    evaluation = evaluate(opened, rows=3, samples=10)
    assert evaluation.likelihoods
    sampling.each_shown(opened, 2, 0, tmp_path / "classes.png")
    assert size(tmp_path / "classes.png") == (2 * 58 + 2, 10 * 58 + 2)
    given = None if model == "vae" else sampling.parse_given(opened, ("label=5",))
    sampling.sample(opened, given, 4, 0, tmp_path / "sample.png")
    assert size(tmp_path / "sample.png") == (2 * 58 + 2, 2 * 58 + 2)


def untrained_multimnist(tmp_path: Path) -> Run:
    """A run with MultiMNIST's networks, and rows composed of artificial pictures."""
    pictures = torch.arange(40 * 784).remainder(255).to(torch.uint8).reshape(40, 1, 28, 28)
    part = multimnist.compose(pictures, torch.arange(40) % 10, rows=5, seed=0)
    splits = Dataset("multimnist", part, part, part, codecs={"string": multimnist.CODEC})
    config = declared("multimnist")
    return Run(tmp_path, config, build(config).eval(), splits, {})


def test_strings_are_given_and_printed_as_text(tmp_path: Path) -> None:
    run = untrained_multimnist(tmp_path)
    for text, tokens in (("1773", [1, 7, 7, 3]), ("", [10, 10, 10, 10]), ("0", [0, 10, 10, 10])):
        given = sampling.parse_given(run, (f"string={text}",))
        assert given is not None
        assert given["string"].tolist() == [tokens]
        path = tmp_path / f"of-{text}.png"
        assert sampling.sample(run, given, 4, 0, path) == (path, {})
        assert size(path) == (2 * 52 + 2, 2 * 52 + 2)
    _, texts = sampling.sample(run, None, 6, 0, tmp_path / "both.png")
    assert len(texts["string"]) == 6
    assert all(re.fullmatch(r"\d{0,4}", text) for text in texts["string"])
    with pytest.raises(
        QueryError, match=re.escape("--given 'string=17735': string is up to 4 digits, for example 1773")
    ):
        sampling.parse_given(run, ("string=17735",))
