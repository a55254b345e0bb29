"""A dataset: three Tables and the names of its classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mvae.data.table import Table

__all__ = ["Splits"]


@dataclass(frozen=True)
class Splits:
    """Train, validation and test rows of one dataset; the test rows are for `evaluate` only.

    ``classes`` names the values of categorical modalities, for printing and for ``--given label=5``.
    """

    name: str
    train: Table
    validation: Table
    test: Table
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
