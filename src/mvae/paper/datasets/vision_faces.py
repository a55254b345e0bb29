"""Drawn faces and five transformations of them, with masks that are known exactly."""

from os import PathLike

import numpy as np
from jaxtyping import UInt8

from mvae.data.dataset import Dataset
from mvae.paper.datasets import faces
from mvae.paper.datasets.vision import transformed
from mvae.paper.transformations import draw_mask


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load the six modalities of `mvae.paper.datasets.vision.load` for drawn faces.

    Args:
        data_dir: ignored; it is there so that every dataset is loaded by the same call.

    Raises:
        DataError: the cache cannot be written. MissingDependencyError: it is yet to be made, and
            scikit-image is absent.
    """
    return transformed("vision-faces", faces.pictures(), lambda row, _: drawn_mask(row))


def drawn_mask(row: int) -> UInt8[np.ndarray, "64 64"]:
    """Eyes, nose and mouth of that drawn face filled, its jaw as a line.

    >>> int((drawn_mask(0) > 0).sum()) > 100
    True
    """
    parts = faces.landmarks(row)
    outline = parts.pop("face")
    middle = outline[:, 1].mean()
    jaw = outline[outline[:, 1] >= middle]  # from right to left, the direction in which it is drawn
    return draw_mask(list(parts.values()), [jaw], faces.SIDE, faces.SIDE)
