"""The 18 attributes of a face that the paper uses (App. A), as one column or as eighteen."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mvae.data.splits import Splits, Written
from mvae.data.table import Column, Table

__all__ = ["ATTRIBUTES", "present_names", "separated", "yes_or_no"]

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


def present_names(names: Sequence[str] = ATTRIBUTES) -> Written:
    """A row of booleans by the names of those that are true: the ones listed are present, all others absent.

    >>> attributes = present_names()
    >>> attributes.write(attributes.read("male, Smiling"))
    'Male,Smiling'
    >>> attributes.write(attributes.read("none"))
    'none'
    """
    lowered = [name.lower() for name in names]

    def read(text: str) -> Tensor:
        value = torch.zeros(len(names), dtype=torch.bool)
        for part in text.split(",") if text.strip().lower() not in ("", "none") else ():
            if part.strip().lower() not in lowered:
                raise ValueError(f"none, or some of {', '.join(names)}, separated by commas")
            value[lowered.index(part.strip().lower())] = True
        return value

    def write(value: Tensor) -> str:
        return ",".join(name for name, here in zip(names, value.flatten().tolist(), strict=True) if here) or "none"

    return Written(read, write)


def yes_or_no() -> Written:
    """One boolean.

    >>> yes_or_no().read("yes"), yes_or_no().write(torch.tensor([0.0]))
    (tensor([True]), 'no')
    """

    def read(text: str) -> Tensor:
        if text.lower() not in ("yes", "no"):
            raise ValueError("yes or no")
        return torch.tensor([text.lower() == "yes"])

    return Written(read, lambda value: "yes" if value.item() else "no")


def separated(splits: Splits, name: str) -> Splits:
    """The same rows with every attribute a column of its own, boolean ``rows 1`` (19 modalities with the image)."""

    def columns(table: Table) -> Table:
        together = table.columns["attributes"]
        own: dict[str, Column] = {one: together[:, i : i + 1] for i, one in enumerate(ATTRIBUTES)}
        return Table({"image": table.columns["image"]} | own)

    parts = (columns(table) for table in (splits.train, splits.validation, splits.test))
    return Splits(name, *parts, written={one: yes_or_no() for one in ATTRIBUTES})
