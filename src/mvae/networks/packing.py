"""Sequences of different lengths without padding: all first elements, then all second ones, and so on.

With the longest sequence first, those that are still going on at a step are the first so many: a recurrent network
runs on a batch that shrinks, and every other layer runs once on exactly the elements there are.
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
        order: N; the sequences by falling length.
        place: where in ``order`` the sequence of each element stands; ``row``: which sequence that is; ``step``: the
            element's place in it.
        counts: how many sequences there are at each step.
    """

    order: Int[Tensor, "N"]
    place: Int[Tensor, "elements"]
    row: Int[Tensor, "elements"]
    step: Int[Tensor, "elements"]
    counts: list[int]

    def of(self, x: Shaped[Tensor, "N length"]) -> Shaped[Tensor, "elements"]:
        """The elements of a padded batch."""
        return x[self.row, self.step]


def pack(lengths: Int[Tensor, "N"]) -> Packed:
    """The plan for sequences of these lengths (≥ 1).

    >>> packed = pack(torch.tensor([1, 3]))
    >>> packed.row.tolist(), packed.step.tolist(), packed.counts
    ([1, 0, 1, 1], [0, 0, 1, 2], [2, 1, 1])
    """
    order = lengths.argsort(descending=True, stable=True)
    longest = int(lengths.max()) if len(lengths) else 0
    here = torch.arange(longest, device=lengths.device)[:, None] < lengths[order]
    step, place = here.nonzero(as_tuple=True)
    return Packed(order, place, order[place], step, here.sum(1).tolist())
