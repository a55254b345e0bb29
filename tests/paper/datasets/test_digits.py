import subprocess
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

from mvae.paper.datasets import digits


def test_sizes_dtypes_and_classes():
    splits = digits.load()
    assert splits.name == "digits"
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1_297, 200, 300]
    for part in (splits.train, splits.validation, splits.test):
        assert part.names == ("image", "label")
        assert part.complete
        image, label = part.columns["image"], part.columns["label"]
        assert isinstance(image, torch.Tensor)
        assert image.dtype == torch.float32
        assert image.shape[1:] == (1, 8, 8)
        assert image.min() == 0
        assert image.max() == 1
        assert label.dtype == torch.int64
        assert set(np.asarray(label).tolist()) == set(range(10))
    assert [splits.codecs["label"].format(torch.tensor(i)) for i in range(10)] == list("0123456789")


def test_every_original_row_is_in_exactly_one_part():
    splits = digits.load()
    parts = (splits.train, splits.validation, splits.test)
    rows = np.concatenate([np.asarray(part.columns["image"]).reshape(-1, 64) * 16 for part in parts])
    labels = np.concatenate([np.asarray(part.columns["label"]) for part in parts])
    levels, original_labels = load_digits(return_X_y=True)
    ours = sorted(map(tuple, np.column_stack([rows, labels])))
    assert ours == sorted(map(tuple, np.column_stack([levels, original_labels])))


def test_split_is_fixed_and_shuffled():
    # These numbers may never change: results are compared across versions of the library.
    first = digits.load().train.columns["label"][:12]
    assert torch.equal(torch.as_tensor(first), torch.as_tensor(digits.load().train.columns["label"][:12]))
    assert first.tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]
    assert first.tolist() != load_digits(return_X_y=True)[1][:12].tolist()


def test_importing_the_reader_does_not_import_scikit_learn():
    code = "import sys, mvae.paper.datasets.digits; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
