"""Training and evaluation mode: a block in which networks are in evaluation mode, and after which they are restored."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

__all__ = ["evaluating"]

_EVALUATING = threading.RLock()  # reentrant: a forgotten generator may end its block whenever memory is freed
_evaluated: list[dict[nn.Module, bool]] = []  # the modes before each open block, of all threads


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode (running statistics, no dropout) inside the block; every part's own mode afterwards.

    Networks run in their own precision: an enclosing autocast would round, and keep copies of weights while it lasts.
    """
    device = next((parameter.device.type for parameter in network.parameters()), "cpu")
    with _EVALUATING:
        _evaluated.append(before := {module: module.training for module in network.modules()})
        network.eval()
    try:
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
            yield
    finally:
        with _EVALUATING:
            place = next(i for i, block in enumerate(_evaluated) if block is before)
            del _evaluated[place]
            later = _evaluated[place:]
            for module, training in before.items():
                if other := next((block for block in later if module in block), None):
                    other[module] = training  # another thread's block is still open, and restores it instead
                else:
                    module.training = training  # not train(), which would also set its submodules
