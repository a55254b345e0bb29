"""FashionMNIST: the real files; MNIST's files in their place are refused."""

import os
from pathlib import Path

import pytest
import torch

from mvae.errors import DataError
from mvae.paper.datasets import fashion_mnist, mnist

needs_data = pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs FashionMNIST in $MVAE_DATA")


@needs_data
def test_real_files_give_published_splits_and_names() -> None:
    splits = fashion_mnist.load()
    assert [len(t) for t in (splits.train, splits.validation, splits.test)] == [50_000, 10_000, 10_000]
    labels = torch.as_tensor(splits.test.columns["label"])
    assert torch.equal(labels.bincount(), torch.full((10,), 1000))
    assert splits.codecs["label"].format(torch.as_tensor(labels[0])) == "Ankle boot"  # the first test image is one


@needs_data
def test_mnist_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist").symlink_to(Path(os.environ["MVAE_DATA"]) / "mnist")
    with pytest.raises(DataError, match="fashion-mnist"):
        fashion_mnist.load(tmp_path)
    assert len(mnist.load().test) == 10_000
