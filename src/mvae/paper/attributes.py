"""The 18 attributes of a face that the paper uses (App. A), as one column or as eighteen."""

from typing import NamedTuple

import numpy as np
import torch

from mvae.data.codecs import present_names, yes_or_no
from mvae.data.dataset import Dataset
from mvae.data.table import Column, Table

ATTRIBUTES = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Gray_Hair",
    "Heavy_Makeup",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Pale_Skin",
    "Receding_Hairline",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Hat",
)


class Pictures(NamedTuple):
    """A dataset's images, ordered by split: train, validation and test end at ``ends``.

    ``attributes`` is boolean ``rows 18``; ``fingerprint`` (hexadecimal) identifies the images.
    """

    images: np.memmap
    attributes: np.ndarray
    ends: tuple[int, int, int]
    fingerprint: str

    def parts(self) -> list[slice]:
        """The rows of train, validation and test."""
        first, second, third = self.ends
        return [slice(first), slice(first, second), slice(second, third)]

    def dataset(self, name: str) -> Dataset:
        """The images and their attributes as two modalities."""
        tables = (
            Table({"image": self.images[part], "attributes": torch.from_numpy(self.attributes[part])})
            for part in self.parts()
        )
        return Dataset(name, *tables, codecs={"attributes": present_names(ATTRIBUTES)})


def separated(dataset: Dataset, name: str) -> Dataset:
    """The same rows with every attribute in its own column, boolean ``rows 1`` (19 modalities with the image)."""

    def columns(table: Table) -> Table:
        together = table.columns["attributes"]
        own: dict[str, Column] = {one: together[:, i : i + 1] for i, one in enumerate(ATTRIBUTES)}
        return Table({"image": table.columns["image"]} | own)

    parts = (columns(table) for table in (dataset.train, dataset.validation, dataset.test))
    return Dataset(name, *parts, codecs={one: yes_or_no() for one in ATTRIBUTES})
