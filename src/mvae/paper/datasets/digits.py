"""scikit-learn's embedded digits: 1,797 images of 8×8, the default dataset, because it needs no download."""

from os import PathLike

import numpy as np
import torch

from mvae.data.codecs import class_names
from mvae.data.dataset import Dataset
from mvae.data.table import Table

ROWS = (1_297, 200, 300)  # for training, validation and test
HIGHEST_LEVEL = 16.0


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load the digits, shuffled with a fixed seed into 1,297 / 200 / 300 rows.

    Columns: ``image`` float32 ``rows 1 8 8`` (levels 0 … 16 over 16, so within [0, 1]), ``label`` int64 ``rows``.

    Args:
        data_dir: ignored; it is there so that every dataset is loaded by the same call.

    >>> digits = load()
    >>> digits.train
    Table(1297 rows; image: 1×8×8 float32; label: scalar int64)
    >>> len(digits.validation), len(digits.test)
    (200, 300)
    """
    from sklearn.datasets import load_digits  # here, because importing it takes longer than all of mvae

    levels, labels = map(np.asarray, load_digits(return_X_y=True))
    # RandomState, not default_rng: NumPy promises its stream never changes, so the split never does.
    order = np.random.RandomState(0).permutation(len(labels))
    image = torch.from_numpy(np.float32(levels[order] / HIGHEST_LEVEL)).view(-1, 1, 8, 8)
    label = torch.from_numpy(labels[order].astype(np.int64))
    parts = zip(image.split(ROWS), label.split(ROWS), strict=True)
    train, validation, test = (Table({"image": x1, "label": x2}) for x1, x2 in parts)
    return Dataset("digits", train, validation, test, codecs={"label": class_names("0123456789")})
