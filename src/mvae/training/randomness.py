"""Randomness in training other than noise and subsets: the order of rows, and what networks draw themselves."""

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
    """The order of a table's rows in an epoch; it depends on (seed, epoch) alone."""
    return order_of_rows(table, torch.Generator().manual_seed((seed << 32) + epoch))


_OF_THE_CPU = threading.Lock()  # all threads share its one generator: they take steps in turn


@contextmanager
def own_randomness(device: torch.device, seed: int, step: int) -> Iterator[None]:
    """Make what networks draw themselves inside the block (dropout) depend on (seed, step) alone.

    A resumed run thus draws the same. Afterwards the generator is as it was before.
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
