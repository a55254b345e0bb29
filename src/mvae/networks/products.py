"""The best matrix products that this machine has at the accuracy of float32, found by measuring.

PyTorch has several libraries for products and one public setting that says which it may use
(`torch.set_float32_matmul_precision`). On some processors "medium" is twice as fast and as accurate as the default; on
others it computes in bfloat16, a thousand times less accurate. No name tells which. So before long work each setting
is timed on the model's own products and compared with float64, which takes some milliseconds.

PyTorch has one setting for all threads. So blocks of several threads may overlap: the last one restores the user's.
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

WORK = 3e11  # multiplications that a choice is made for: seconds of one core
FASTER = 1.25  # times; what differs by less is not changed, because time is measured badly
ROUNDING = 4  # times the default's error: what other orders of adding up make
LAYERS, ROWS, REPEATS = 2, 256, 5  # measured at the most
ENOUGH = 0.03  # seconds of measuring a layer, after which two repeats suffice

_log = logging.getLogger("mvae")
_lock = threading.RLock()  # held while settings are measured: no other thread takes one of them for the user's


@dataclass(eq=False)
class _Block:
    """An open block of `kept_setting`."""

    before: Products | None
    thread: int = field(default_factory=threading.get_ident)


_blocks: list[_Block] = []  # of all threads, in the order in which they were opened


def choose(network: nn.Module, rows: int, examples: int) -> Products:
    """The setting for the products of a network: the fastest of those that are as accurate as the default.

    It stays as it is for short work, on a GPU (where all others are less accurate), in other precisions than float32,
    where a user has set it, while another thread computes in a block of its own (measuring would disturb it), and with
    `torch.use_deterministic_algorithms`: bits then do not depend on measuring.

    Args:
        network: on its device.
        rows: of a product.
        examples: that will go through the network.
    """
    layers = _layers(network)
    short = examples * sum(layer.weight.numel() for layer in layers) < WORK
    with _lock:
        now, others = _setting(), any(block.thread != threading.get_ident() for block in _blocks)
        if now != "highest" or short or others or torch.are_deterministic_algorithms_enabled():
            return now or "highest"
        return _fastest(_shapes(layers, rows), torch.get_num_threads())


def take(setting: Products, network: nn.Module | None = None, rows: int = 100) -> None:
    """From now on products are taken so; with a ``network``, only if they are as accurate on this machine, too."""
    with _lock:
        if _setting() is None or setting == _setting():
            return
        if network is not None and not _accurate(setting, _shapes(_layers(network), rows)):
            _log.warning(
                "products of precision %r, which this run began with, are not as accurate as float32 on this machine: "
                "it goes on with PyTorch's default, and not to the same bits",
                setting,
            )
            return
        torch.set_float32_matmul_precision(setting)


def gain_of_bfloat16(network: nn.Module, rows: int) -> float:
    """How many times as fast products in bfloat16 are as the best in float32, casts included; 1 without any."""
    if not (shapes := _shapes(_layers(network), rows)):
        return 1.0
    taken = _seconds(shapes, (("highest", torch.float32), ("medium", torch.float32), ("highest", torch.bfloat16)))
    return min(taken[:2]) / taken[2]


@contextmanager
def kept_setting() -> Iterator[None]:
    """After the block PyTorch's setting is what it was before; of blocks that overlap in threads, after the last."""
    with _lock:
        _blocks.append(block := _Block(_setting()))
    try:
        yield
    finally:
        with _lock:
            later = _blocks[_blocks.index(block) + 1 :]
            _blocks.remove(block)
            if later:  # of another thread, which still computes: it restores in this one's place
                later[0].before = block.before
            elif block.before is not None and block.before != _setting():
                torch.set_float32_matmul_precision(block.before)


@contextmanager
def best_products(network: nn.Module, rows: int, examples: int) -> Iterator[None]:
    """Inside the block products are taken by the setting that `choose` gives."""
    with kept_setting():
        take(choose(network, rows, examples))
        yield


def error_of(setting: Products, shape: tuple[int, int, int]) -> float:
    """The largest relative error of a layer's three products (its output and its two gradients) under a setting."""
    return _errors(shape)[setting]


@cache
def _errors(shape: Shape) -> dict[Products, float]:
    """Of every setting, beside float64."""
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
    """PyTorch's own; None where a user has set parts of it by the newer names, which must not be mixed with this."""
    try:
        found = torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
    return found if found in get_args(Products) else None  # pyright: ignore[reportReturnType]


def _layers(network: nn.Module) -> list[nn.Linear]:
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return [m for m in layers if m.weight.device.type == "cpu" and m.weight.dtype == torch.float32]


def _shapes(layers: list[nn.Linear], rows: int) -> tuple[Shape, ...]:
    """The largest layers' shapes."""
    sizes = sorted({(m.in_features, m.out_features) for m in layers}, key=lambda size: -size[0] * size[1])
    return tuple((min(rows, ROWS), *size) for size in sizes[:LAYERS])


def _accurate(setting: Products, shapes: tuple[Shape, ...]) -> bool:
    most = {shape: ROUNDING * error_of("highest", shape) for shape in shapes}
    return setting == "highest" or all(error_of(setting, shape) <= most[shape] for shape in shapes)


@cache
def _fastest(shapes: tuple[Shape, ...], threads: int) -> Products:
    """Of the accurate settings; found once in a process for a number of threads."""
    del threads
    accurate = [setting for setting in get_args(Products) if _accurate(setting, shapes)]
    seconds = dict(zip(accurate, _seconds(shapes, [(setting, torch.float32) for setting in accurate]), strict=True))
    fastest = min(accurate, key=seconds.__getitem__)
    return fastest if FASTER * seconds[fastest] < seconds["highest"] else "highest"


@torch.no_grad()
def _seconds(shapes: Sequence[Shape], ways: Sequence[tuple[Products, torch.dtype]]) -> list[float]:
    """What the products of some layers take in each way, at the least; in turns, as a machine's speed drifts."""
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
    """A layer's output, and the gradients of its input and of its weight."""
    x, weight, gradient = operands
    return [lambda: x @ weight.T, lambda: gradient @ weight, lambda: gradient.T @ x]
