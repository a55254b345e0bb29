"""What is random in training, besides noise and subsets: the order of the rows, and what networks draw themselves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Int
from torch import Tensor

from mvae.data.blocks import order_of_rows
from mvae.data.table import Table
from mvae.training.step import RECORDING

__all__ = ["own_randomness", "row_order"]


def row_order(table: Table, seed: int, epoch: int) -> Int[Tensor, "rows"]:
    """The order in which an epoch sees the rows of a table; it depends on (seed, epoch) alone."""
    return order_of_rows(table, torch.Generator().manual_seed((seed << 32) + epoch))


_OF_THE_CPU = threading.Lock()  # its generator is one for all threads: they take steps in turns


@contextmanager
def own_randomness(device: torch.device, seed: int, step: int) -> Iterator[None]:
    """What networks draw by themselves inside the block (dropout) depends on (seed, step) alone.

    So a resumed run draws the same. The generator of the caller is as it was afterwards.
    """
    own = torch.default_generator
    if device.type == "cuda":
        own = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    with _OF_THE_CPU if device.type == "cpu" else nullcontext():
        with RECORDING:
            before = own.get_state()
            own.manual_seed((seed << 32) + step)
        try:
            yield
        finally:
            with RECORDING:
                own.set_state(before)
