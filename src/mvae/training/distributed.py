"""Training by several processes: each takes its part of every batch, and the gradients are summed.

    torchrun --nproc-per-node 4 -m mvae train mnist

On several machines, run the same command on each, with torchrun's own rendezvous (``--nnodes 2 --rdzv-backend c10d
--rdzv-endpoint HOST:29500``) and the run directory on a file system that all of them see. With GPUs, each process
takes one. On a CPU torchrun gives each process one thread, unless OMP_NUM_THREADS says otherwise.

Every process has the model, the table and the generators. Terms and noise are drawn for the whole batch, and each
process uses those of its rows; so N processes learn what one learns from the whole batch, up to rounding. Gradients are
summed after the backward pass instead of by `DistributedDataParallel` within it: which networks have a gradient depends
on which modalities a process's rows have, and a process without a gradient must still answer the others.

Three things differ between processes: batch statistics (batch norm), the weight of pseudo-labels, and augmentation (by
default columns hide a tenth of their values from encoders) depend on a process's own rows. Running statistics are
averaged. A run is resumed bit for bit only with the same number of processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from mvae.errors import TrainingError

__all__ = ["Processes", "joined", "own_device"]

Found = TypeVar("Found")
PATIENCE = timedelta(hours=2)  # the others wait while the first validates, or prepares the data


@dataclass(frozen=True)
class Processes:
    """The processes of a training, and which of them this is; the first one writes and reports.

    >>> Processes().first, Processes(rank=1, count=2).part(5)
    (True, (slice(2, 5, None), 0.6))
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Processes":
        """The processes of PyTorch's process group; only this one where there is no group."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Is this the process that writes and reports?"""
        return self.rank == 0

    def part(self, rows: int) -> tuple[slice, float]:
        """This process's rows of a batch and their share of it.

        A process that would have no rows takes the first row with a share of 0, for gradients of the same parameters.
        """
        start, stop = rows * self.rank // self.count, rows * (self.rank + 1) // self.count
        return (slice(start, stop), (stop - start) / rows) if stop > start else (slice(0, 1), 0.0)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the sum of all processes' tensors, in place; one message per dtype."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors if self.count > 1 else ():
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for together in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in together])
            with _answered():
                distributed.all_reduce(flat)
            for tensor, total in zip(together, flat.split([t.numel() for t in together]), strict=True):
                tensor.copy_(total.view(tensor.shape))

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients; a parameter that has none in any process keeps none, and the optimizer skips it."""
        if self.count == 1:
            return
        own = list(parameters)
        used = torch.tensor([p.grad is not None for p in own], dtype=torch.uint8)
        with _answered():
            distributed.all_reduce(used, distributed.ReduceOp.MAX)
        gradients = []
        for parameter, wanted in zip(own, used.tolist(), strict=True):
            if wanted and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        self.add_up(gradients)

    def any(self, here: bool) -> bool:
        """Is the flag set in any process?"""
        if self.count == 1:
            return here
        flag = torch.tensor([here], dtype=torch.uint8)
        with _answered():
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def of_first(self, find: Callable[[], Found]) -> Found:
        """The first process's result of ``find``, for all processes."""
        if self.count == 1:
            return find()
        found: list[Any] = [find() if self.first else None]
        with _answered():
            distributed.broadcast_object_list(found, device=torch.device("cpu"))
        return found[0]

    @contextmanager
    def first_before(self) -> Iterator[None]:
        """The first process runs the block before the others begin it."""
        if not self.first:
            self.any(False)
        yield
        if self.first:
            self.any(False)

    def same_start(self, model: nn.Module) -> None:
        """Copy the first process's weights and buffers to all."""
        for tensor in model.state_dict().values() if self.count > 1 else ():
            with _answered():
                distributed.broadcast(tensor, 0)

    @contextmanager
    def averaged_buffers(self, model: nn.Module, share: float) -> Iterator[None]:
        """Average the block's changes to running statistics over the processes, by their shares of the batch."""
        own = [buffer for buffer in model.buffers() if buffer.is_floating_point()] if self.count > 1 else []
        before = [buffer.clone() for buffer in own]
        yield
        changes = [share * (buffer - was) for buffer, was in zip(own, before, strict=True)]
        self.add_up(changes)
        for buffer, was, change in zip(own, before, changes, strict=True):
            buffer.copy_(was + change)


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """Join the training that torchrun started this process for, if any, inside the block.

    Tensors on a GPU are sent by NCCL, those on a CPU by Gloo. Only the first process logs warnings.
    """
    if "TORCHELASTIC_RUN_ID" not in environment or distributed.is_initialized():
        yield Processes.here()
        return
    import logging

    log = logging.getLogger("mvae")
    level = log.level
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device(torch.device("cuda"), environment))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        processes = Processes.here()
        if not processes.first:
            log.setLevel(logging.ERROR)
        yield processes
    finally:
        log.setLevel(level)
        distributed.destroy_process_group()


def own_device(device: torch.device, environment: Mapping[str, str] = os.environ) -> torch.device:
    """A GPU of its own for each of several processes on a machine, unless one is named.

    >>> own_device(torch.device("cuda"), {"LOCAL_RANK": "3"}), own_device(torch.device("cpu"), {"LOCAL_RANK": "3"})
    (device(type='cuda', index=3), device(type='cpu'))
    """
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in environment:
        return torch.device("cuda", int(environment["LOCAL_RANK"]))
    return device


@contextmanager
def _answered() -> Iterator[None]:
    """A block in which the processes communicate.

    Raises:
        TrainingError: one of them has ended.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"another process of this training ended; its output says why ({str(error).splitlines()[0]}). Go on with "
            "the same command and --resume"
        ) from None
