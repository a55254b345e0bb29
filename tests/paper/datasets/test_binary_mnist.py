"""BinaryMNIST: a fixed binarisation of MNIST, and the published files if a user has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mvae.errors import DataError
from mvae.paper.datasets import binary_mnist, mnist

needs_mnist = pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs MNIST in $MVAE_DATA")


@needs_mnist
def test_pixels_are_drawn_reproducibly_from_levels() -> None:
    binary, grey = binary_mnist.load(), mnist.load()
    images = torch.as_tensor(binary.test.columns["image"])
    levels = torch.as_tensor(grey.test.columns["image"])
    assert images.dtype == torch.bool
    assert torch.equal(images, torch.as_tensor(binary_mnist.load().test.columns["image"]))
    assert not images[levels == 0].any()
    assert images[levels == 255].all()
    for low, high in ((1, 64), (64, 128), (128, 192), (192, 255)):
        here = (levels >= low) & (levels < high)
        expected, n = levels[here].double().mean() / 255, int(here.sum())
        assert abs(images[here].double().mean() - expected) < 4 * 0.5 / n**0.5
    assert torch.equal(torch.as_tensor(binary.test.columns["label"]), torch.as_tensor(grey.test.columns["label"]))


def write(folder: Path, rows: int, top: int = 1) -> None:
    generator = np.random.default_rng(0)
    for file in binary_mnist.AMAT.values():
        np.savetxt(folder / file, generator.integers(0, top + 1, (rows, 784)), fmt="%d")


def test_published_files_are_read_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_mnist, "ROWS", dict.fromkeys(binary_mnist.ROWS, 5))
    (tmp_path / "binary-mnist").mkdir()
    write(tmp_path / "binary-mnist", 5)
    splits = binary_mnist.load(tmp_path)
    assert splits.name == "binary-mnist (amat)"
    assert splits.test.names == ("image",)
    expected = np.loadtxt(tmp_path / "binary-mnist" / binary_mnist.AMAT["test"]).astype(bool)
    assert np.array_equal(torch.as_tensor(splits.test.columns["image"]).reshape(5, 784).numpy(), expected)


@pytest.mark.parametrize(("rows", "top"), [(4, 1), (5, 7)])
def test_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, top: int) -> None:
    monkeypatch.setattr(binary_mnist, "ROWS", dict.fromkeys(binary_mnist.ROWS, 5))
    write(tmp_path, rows, top)
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat"):
        binary_mnist.load(tmp_path)
