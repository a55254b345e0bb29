"""A small substitute for the 19 modalities: random images and attributes on which a run takes a second."""

from pathlib import Path

import pytest
import torch

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.paper.attributes import ATTRIBUTES, separated
from mvae.paper.datasets import faces19


def tiny(data_dir: Path | None) -> Dataset:
    g = torch.Generator().manual_seed(0)
    train, validation, test = (
        Table({
            "image": torch.randint(0, 256, (rows, 3, 64, 64), generator=g, dtype=torch.uint8),
            "attributes": torch.rand(rows, len(ATTRIBUTES), generator=g) < 0.3,
        })
        for rows in (40, 30, 10)
    )  # fmt: skip
    return separated(Dataset("faces", train, validation, test), "faces19")


def use_tiny_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces19, "load", tiny)
