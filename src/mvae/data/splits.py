"""A dataset: three Tables, and how its values are written as text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mvae.data.table import Table

__all__ = ["Splits", "Written", "class_names"]


@dataclass(frozen=True)
class Written:
    """How the values of one modality are written, for printing and for ``--given label=5``.

    ``read`` makes a value (an event, without the rows axis) of a text and raises ValueError, saying what is possible;
    ``write`` is its inverse. ``unknown``, where given, lists what in a text `read` has no number for.
    """

    read: Callable[[str], Tensor]
    write: Callable[[Tensor], str]
    unknown: Callable[[str], list[str]] | None = None


def class_names(names: Sequence[str]) -> Written:
    """Class numbers by name, whatever the case of letters.

    >>> label = class_names(["cat", "dog"])
    >>> label.read("Dog"), label.write(torch.tensor(0))
    (tensor(1), 'cat')
    """
    lowered = [name.lower() for name in names]

    def read(text: str) -> Tensor:
        if text.lower() not in lowered:
            raise ValueError(f"one of {', '.join(names)}")
        return torch.tensor(lowered.index(text.lower()))

    return Written(read, lambda value: names[int(value)])


@dataclass(frozen=True)
class Splits:
    """Train, validation and test rows of one dataset; the test rows are for `evaluate` only.

    ``written`` says how values of modalities that are neither images nor plain numbers are read and printed.
    ``others`` are rows of other domains, reported apart. ``coding`` identifies what the numbers in the columns mean,
    where that depends on the files (a vocabulary): a run is refused other data than it was trained on.
    """

    name: str
    train: Table
    validation: Table
    test: Table
    written: Mapping[str, Written] = field(default_factory=dict)
    others: Mapping[str, Table] = field(default_factory=dict)
    coding: str | None = None
