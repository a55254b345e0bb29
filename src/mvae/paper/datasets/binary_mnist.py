"""BinaryMNIST (App. A): MNIST binarised once with a fixed seed, or Larochelle & Murray's files where given."""

from os import PathLike
from pathlib import Path

import numpy as np
import torch

from mvae.data.dataset import Dataset
from mvae.data.download import data_directory
from mvae.data.table import Table
from mvae.errors import DataError
from mvae.paper.datasets import mnist

SEED = 28_06_2018
AMAT = {split: f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test")}
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Binary images and labels: each pixel is 1 with the probability of its grey level, drawn once for all.

    If ``data_dir`` (default ``$MVAE_DATA``) or its folder ``binary-mnist`` holds the three files
    ``binarized_mnist_*.amat``, these are read instead (name ``binary-mnist (amat)``). They have no labels, so that only
    log p(x1) can be learned from them.

    Columns: ``image`` bool ``rows 1 28 28``, ``label`` int64 ``rows``.

    Raises:
        DataError: as for MNIST; an ``.amat`` file of another shape or with anything but 0 and 1.
    """
    folder = data_directory(data_dir) or Path()
    for place in (folder / "binary-mnist", folder):
        if all((place / file).is_file() for file in AMAT.values()):
            train, validation, test = (_amat(place / file, ROWS[split]) for split, file in AMAT.items())
            return Dataset("binary-mnist (amat)", train, validation, test)
    grey = mnist.load(data_dir)
    generator = torch.Generator().manual_seed(SEED)
    train, validation, test = (_binarised(table, generator) for table in (grey.train, grey.validation, grey.test))
    return Dataset("binary-mnist", train, validation, test, codecs=grey.codecs)


def _binarised(table: Table, generator: torch.Generator) -> Table:
    levels = torch.as_tensor(table.columns["image"])
    # P(u < level) = level / 255 with u uniform in 0 … 254: integers, so the same bits on every machine.
    draws = torch.randint(0, 255, levels.shape, generator=generator, dtype=torch.uint8)
    return Table({"image": draws < levels, "label": table.columns["label"]})


def _amat(path: Path, rows: int) -> Table:
    try:
        pixels = np.loadtxt(path, dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}): replace it by an intact copy") from None
    if pixels.shape != (rows, 784) or pixels.max() > 1:
        shape = "×".join(map(str, pixels.shape))
        raise DataError(f"{path} holds {shape} numbers up to {pixels.max()}; {rows}×784 of 0 and 1 are needed")
    return Table({"image": torch.from_numpy(pixels).bool().reshape(rows, 1, 28, 28)})
