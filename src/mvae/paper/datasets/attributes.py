"""The 18 attributes of a face that the paper uses (App. A), as one column or as eighteen."""

from mvae.data.codecs import yes_or_no
from mvae.data.dataset import Dataset
from mvae.data.table import Column, Table

__all__ = ["ATTRIBUTES", "separated"]

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


def separated(dataset: Dataset, name: str) -> Dataset:
    """The same rows with every attribute a column of its own, boolean ``rows 1`` (19 modalities with the image)."""

    def columns(table: Table) -> Table:
        together = table.columns["attributes"]
        own: dict[str, Column] = {one: together[:, i : i + 1] for i, one in enumerate(ATTRIBUTES)}
        return Table({"image": table.columns["image"]} | own)

    parts = (columns(table) for table in (dataset.train, dataset.validation, dataset.test))
    return Dataset(name, *parts, codecs={one: yes_or_no() for one in ATTRIBUTES})
