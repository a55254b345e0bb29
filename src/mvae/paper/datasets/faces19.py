"""Drawn faces as 19 modalities: the image, and each of its 18 attributes."""

from os import PathLike

from mvae.data.dataset import Dataset
from mvae.paper.attributes import separated
from mvae.paper.datasets import faces


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load the rows of `mvae.paper.datasets.faces.load`, with every attribute in its own column, boolean ``rows 1``.

    Raises:
        DataError: as there.
    """
    return separated(faces.load(data_dir), "faces19")
