"""Two process-wide switches that make training on a CPU faster. (Importing this file does not import torch.)"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["flushed_denormals", "keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero inside the block: saturated likelihoods are full of them, slowing a CPU fourfold.

    Worker threads inherit the setting when PyTorch starts them, at a process's first parallel work. A script that does
    such work before `fit` should call ``torch.set_flush_denormal(True)`` at its top.
    """
    import numpy as np
    import torch

    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # NumPy 1 measures it once; inside the block it would warn, and keep 0 as the smallest number
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    before = bool(tiny * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step, instead of returning large tensors to the system.

    That would take a tenth of a convolutional step. For a process that trains and ends; no effect without glibc.
    """
    try:
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_MAX, 0)
        c_library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError, TypeError):
        pass
