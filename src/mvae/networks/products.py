"""The fastest matrix products on this machine with the accuracy of float32, found by measuring.

PyTorch has several libraries for products and one public setting that determines which it may use
(`torch.set_float32_matmul_precision`). On some processors "medium" is twice as fast as the default and just as
accurate; on others it computes in bfloat16, a thousand times less accurately. The processor's name does not reveal
which. So before a long computation, each setting is timed on the model's own products and compared with float64, which
takes a few milliseconds.

PyTorch has one setting for all threads. Blocks of several threads may overlap: the last one restores the user's
setting.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["Products", "best_products", "choose", "error_of", "gain_of_bfloat16", "kept_setting", "take"]

Products = Literal["highest", "high", "medium"]
Shape = tuple[int, int, int]  # of a layer: rows, inputs, outputs

WORK = 3e11  # fewest multiplications for which settings are measured: seconds of one core
FASTER = 1.25  # least speed-up for which the setting is changed, because timings are noisy
ROUNDING = 4  # allowed error relative to the default's: other orders of summation cause as much
LAYERS, ROWS, REPEATS = 2, 256, 5  # upper limits of what is measured
ENOUGH = 0.03  # seconds of measuring one layer after which two repeats are enough

_log = logging.getLogger("mvae")
_lock = threading.RLock()  # held while measuring, so that no other thread mistakes a measured setting for the user's


@dataclass(eq=False)
class _Block:
    """An open block of `kept_setting`."""

    before: Products | None
    thread: int = field(default_factory=threading.get_ident)


_blocks: list[_Block] = []  # of all threads, in the order in which they were opened


def choose(network: nn.Module, rows: int, examples: int) -> Products:
    """Choose the setting for a network's products: the fastest one that is as accurate as the default.

    The setting is not changed for short computations, on a GPU (where all others are less accurate), in other
    precisions than float32, if the user has set it, while another thread is inside a block (measuring would disturb
    it), and with `torch.use_deterministic_algorithms` (the bits must not depend on timings).

    Args:
        network: the network, on its device.
        rows: rows of each product.
        examples: number of examples that will go through the network.
    """
    layers = _layers(network)
    short = examples * sum(layer.weight.numel() for layer in layers) < WORK
    with _lock:
        now, others = _setting(), any(block.thread != threading.get_ident() for block in _blocks)
        if now != "highest" or short or others or torch.are_deterministic_algorithms_enabled():
            return now or "highest"
        return _fastest(_shapes(layers, rows), torch.get_num_threads())


def take(setting: Products, network: nn.Module | None = None, rows: int = 100) -> None:
    """Use this setting from now on; with a ``network``, only if it is as accurate as the default on this machine."""
    with _lock:
        if _setting() is None or setting == _setting():
            return
        if network is not None and not _accurate(setting, _shapes(_layers(network), rows)):
            _log.warning(
                "products of precision %r, with which this run began, are not as accurate as float32 on this machine: "
                "it continues with PyTorch's default, and its results will not be the same to the bit",
                setting,
            )
            return
        torch.set_float32_matmul_precision(setting)


def gain_of_bfloat16(network: nn.Module, rows: int) -> float:
    """The speed-up of products in bfloat16 over the best in float32, casts included; 1 if there are no products."""
    if not (shapes := _shapes(_layers(network), rows)):
        return 1.0
    taken = _seconds(shapes, (("highest", torch.float32), ("medium", torch.float32), ("highest", torch.bfloat16)))
    return min(taken[:2]) / taken[2]


@contextmanager
def kept_setting() -> Iterator[None]:
    """Restore PyTorch's setting after the block; if blocks of several threads overlap, after the last of them."""
    with _lock:
        _blocks.append(block := _Block(_setting()))
    try:
        yield
    finally:
        with _lock:
            later = _blocks[_blocks.index(block) + 1 :]
            _blocks.remove(block)
            if later:  # another thread is still computing, and will restore the setting instead
                later[0].before = block.before
            elif block.before is not None and block.before != _setting():
                torch.set_float32_matmul_precision(block.before)


@contextmanager
def best_products(network: nn.Module, rows: int, examples: int) -> Iterator[None]:
    """Use the setting that `choose` selects inside the block."""
    with kept_setting():
        take(choose(network, rows, examples))
        yield


def error_of(setting: Products, shape: tuple[int, int, int]) -> float:
    """The largest relative error of a layer's three products (its output and its two gradients) under a setting."""
    return _errors(shape)[setting]


@cache
def _errors(shape: Shape) -> dict[Products, float]:
    """The error of every setting relative to float64."""
    operands = _operands(shape)
    exact = [product() for product in _products([operand.double() for operand in operands])]
    found: dict[Products, float] = {}
    with _lock, kept_setting():
        for setting in get_args(Products):
            torch.set_float32_matmul_precision(setting)
            pairs = zip(_products(operands), exact, strict=True)
            found[setting] = max(float((product().double() - other).norm() / other.norm()) for product, other in pairs)
    return found


def _setting() -> Products | None:
    """PyTorch's setting; None if the user has set parts of it through the newer API: the two must not be mixed."""
    try:
        found = torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
    return found if found in get_args(Products) else None  # pyright: ignore[reportReturnType]


def _layers(network: nn.Module) -> list[nn.Linear]:
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return [m for m in layers if m.weight.device.type == "cpu" and m.weight.dtype == torch.float32]


def _shapes(layers: list[nn.Linear], rows: int) -> tuple[Shape, ...]:
    """The shapes of the largest layers."""
    sizes = sorted({(m.in_features, m.out_features) for m in layers}, key=lambda size: -size[0] * size[1])
    return tuple((min(rows, ROWS), *size) for size in sizes[:LAYERS])


def _accurate(setting: Products, shapes: tuple[Shape, ...]) -> bool:
    return all(error_of(setting, shape) <= ROUNDING * error_of("highest", shape) for shape in shapes)


@cache
def _fastest(shapes: tuple[Shape, ...], threads: int) -> Products:
    """The fastest accurate setting, measured once per process and number of threads."""
    del threads
    accurate = [setting for setting in get_args(Products) if _accurate(setting, shapes)]
    seconds = dict(zip(accurate, _seconds(shapes, [(setting, torch.float32) for setting in accurate]), strict=True))
    fastest = min(accurate, key=seconds.__getitem__)
    return fastest if FASTER * seconds[fastest] < seconds["highest"] else "highest"


@torch.no_grad()
def _seconds(shapes: Sequence[Shape], ways: Sequence[tuple[Products, torch.dtype]]) -> list[float]:
    """The least time of the layers' products in each way; the ways alternate, because a machine's speed drifts."""
    seconds = [0.0] * len(ways)
    with _lock, kept_setting():
        for shape in shapes:
            operands, best = _operands(shape), [float("inf")] * len(ways)
            begun = time.perf_counter()
            for number in range(REPEATS):
                if number >= 2 and time.perf_counter() - begun > ENOUGH:  # the first ones are slow
                    break
                for i, (setting, dtype) in enumerate(ways):
                    torch.set_float32_matmul_precision(setting)
                    start = time.perf_counter()
                    for product in _products([operand.to(dtype) for operand in operands]):
                        product()
                    best[i] = min(best[i], time.perf_counter() - start)
            seconds = [total + own for total, own in zip(seconds, best, strict=True)]
    return seconds


def _operands(shape: Shape) -> list[Tensor]:
    rows, inputs, outputs = shape
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for size in ((rows, inputs), (outputs, inputs), (rows, outputs))]


def _products(operands: list[Tensor]) -> list[Callable[[], Tensor]]:
    """The products of a layer: its output, and the gradients of its input and of its weight."""
    x, weight, gradient = operands
    return [lambda: x @ weight.T, lambda: gradient @ weight, lambda: gradient.T @ x]
