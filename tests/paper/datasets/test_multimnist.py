"""MultiMNIST: the composition compared with exact arithmetic, reproducible bytes, and strings as text."""

import hashlib
import os

import numpy as np
import pytest
import torch
from torch import Tensor

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.paper.datasets import mnist, multimnist
from mvae.paper.datasets.multimnist import CODEC, MARGIN, PLACES, SIDE, SMALL, STOP, compose

ROWS = 400


def digits() -> tuple[Tensor, Tensor]:
    """Forty different pictures without a black pixel, four of each digit."""
    levels = 1 + torch.arange(40 * 784) * 7919 % 255
    return levels.to(torch.uint8).reshape(40, 1, 28, 28), torch.arange(40) % 10


def exactly_shrunk(image: Tensor) -> np.ndarray:
    """28 = 21·4/3: each pixel is split into 3×3, and each new pixel is the mean of 4×4 of these, rounded half up."""
    fine = np.kron(image[0].numpy().astype(np.int64), np.ones((3, 3), np.int64))
    total = fine.reshape(21, 4, 21, 4).sum((1, 3))
    return np.floor(total / 16 + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def composed() -> Table:
    return compose(*digits(), rows=ROWS, seed=0)


def columns(table: Table) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(table.columns["image"]), torch.as_tensor(table.columns["string"])


def test_row_has_exactly_its_digits_in_reading_order(composed: Table) -> None:
    images, labels = digits()
    pictures = np.stack([exactly_shrunk(image) for image in images])
    for canvas, string in zip(*columns(composed), strict=True):
        rest = canvas[0].numpy().copy()
        for (top, left), token in zip(PLACES, string.tolist(), strict=True):
            part = rest[top : top + SMALL, left : left + SMALL]
            if token != STOP:
                source = [i for i in range(len(pictures)) if (pictures[i] == part).all()]
                assert len(source) == 1
                assert int(labels[source[0]]) == token
                part[:] = 0
        assert not rest.any()


def test_places_tile_the_canvas_inside_the_margin() -> None:
    covered = np.zeros((SIDE, SIDE), int)
    for top, left in PLACES:
        covered[top : top + SMALL, left : left + SMALL] += 1
    assert covered.max() == 1
    inner = slice(MARGIN, SIDE - MARGIN)
    assert covered[inner, inner].all()
    assert covered.sum() == (SIDE - 2 * MARGIN) ** 2
    assert list(PLACES) == sorted(PLACES)  # reading order


def test_digit_counts_and_digits_are_uniform() -> None:
    images, labels = digits()
    _, string = columns(compose(images, labels, rows=20_000, seed=1))
    count = (string != STOP).sum(1)
    assert (count.bincount(minlength=5) - 4000).abs().max() < 5 * (20_000 * 0.2 * 0.8) ** 0.5
    assert (torch.where(string == STOP, 1, 0).diff(dim=1) >= 0).all()  # no gaps
    shown = string[string != STOP].bincount(minlength=10)
    assert (shown - len(string) * 2 / 10).abs().max() < 5 * (40_000 * 0.1 * 0.9) ** 0.5


def digest(table: Table) -> str:
    sha = hashlib.sha256()
    for column in columns(table):
        sha.update(column.numpy().astype(column.numpy().dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def test_seed_determines_bytes(composed: Table) -> None:
    assert digest(composed) == "a6d94614d3e8ed61fd5db9631cd187eb4891daada3c88be8e7d499c0f9915816"
    assert digest(compose(*digits(), rows=ROWS, seed=1)) != digest(composed)


@pytest.fixture(scope="module")
def real() -> Dataset:
    if not os.environ.get("MVAE_DATA"):
        pytest.skip("needs MNIST in $MVAE_DATA")
    return multimnist.load()


def test_real_dataset_has_recorded_bytes(real: Dataset) -> None:
    assert [len(t) for t in (real.train, real.validation, real.test)] == [50_000, 10_000, 10_000]
    assert real.train.columns["image"].shape == (50_000, 1, 50, 50)
    assert [digest(t) for t in (real.train, real.validation, real.test)] == [
        "b13da9afb8a0e9ef89dcf19fce5f16d85e12cdec03649da8d6a5cf8d633c814d",
        "368d310e6cccb34fab118c220f681e094c8b02700f98d456e8e769c228e13d05",
        "3c2d517be0911edcb469c6d628fe848b293138b4856564476f2e5cb72dadc61e",
    ]


def test_each_split_uses_its_own_split_of_mnist(real: Dataset) -> None:
    """The first digit of a row is one of its split's own digits, shrunk; three rows of each split."""
    own = mnist.load()
    for table, source in ((real.train, own.train), (real.validation, own.validation), (real.test, own.test)):
        images, strings = columns(table)
        labels = torch.as_tensor(source.columns["label"])
        pictures = torch.as_tensor(source.columns["image"])
        for row in (strings[:, 0] != STOP).nonzero().flatten()[:3].tolist():
            part = images[row, 0, MARGIN : MARGIN + SMALL, MARGIN : MARGIN + SMALL].numpy()
            same_label = pictures[labels == strings[row, 0]]
            # A digit's levels add up to 9/16 of the original's, within the rounding of 441 pixels.
            total = same_label.flatten(1).sum(1).double() * 9 / 16
            near = same_label[(total - float(part.astype(int).sum())).abs() <= 0.5 * SMALL**2]
            assert any((exactly_shrunk(image) == part).all() for image in near)


@pytest.mark.parametrize(("text", "tokens"), [("1773", [1, 7, 7, 3]), ("05", [0, 5, 10, 10]), ("", [10, 10, 10, 10])])
def test_strings_are_parsed_and_formatted(text: str, tokens: list[int]) -> None:
    assert CODEC.parse(text).tolist() == tokens
    assert CODEC.parse(text).dtype == torch.int64
    assert CODEC.format(torch.tensor(tokens)) == text


@pytest.mark.parametrize("text", ["12345", "1 2", "x", "-1", "²"])
def test_invalid_string_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="up to 4 digits, for example 1773"):
        CODEC.parse(text)
