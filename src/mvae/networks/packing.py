"""Sequences of different lengths without padding: all first elements, then all second elements, and so on.

The longest sequence comes first, so that the sequences that have not ended at a step are always the first ones: a
recurrent network runs on a shrinking batch, and every other layer runs once on exactly the existing elements.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

__all__ = ["Packed", "pack"]


@dataclass(frozen=True, eq=False)
class Packed:
    """The elements of N sequences by step, the longest sequence first.

    Attributes:
        order: the sequences by decreasing length.
        place: the position in ``order`` of each element's sequence.
        row: the sequence of each element.
        step: the position of each element in its sequence.
        counts: the number of sequences at each step.
    """

    order: Int[Tensor, "N"]
    place: Int[Tensor, "elements"]
    row: Int[Tensor, "elements"]
    step: Int[Tensor, "elements"]
    counts: list[int]

    def of(self, x: Shaped[Tensor, "N length"]) -> Shaped[Tensor, "elements"]:
        """Select the elements of a padded batch."""
        return x[self.row, self.step]


def pack(lengths: Int[Tensor, "N"]) -> Packed:
    """Plan the packing of sequences of these lengths (≥ 1).

    >>> packed = pack(torch.tensor([1, 3]))
    >>> packed.row.tolist(), packed.step.tolist(), packed.counts
    ([1, 0, 1, 1], [0, 0, 1, 2], [2, 1, 1])
    """
    order = lengths.argsort(descending=True, stable=True)
    longest = int(lengths.max()) if len(lengths) else 0
    here = torch.arange(longest, device=lengths.device)[:, None] < lengths[order]
    step, place = here.nonzero(as_tuple=True)
    return Packed(order, place, order[place], step, here.sum(1).tolist())
