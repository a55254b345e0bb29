"""A device that is not there: tensors that say that they are on a GPU, held by the CPU.

PyTorch's rules of devices hold: what is on two of them is not mixed, and "mps" has no float64. While a step is
`recording`, whatever would wait for the device, or has a shape that depends on values, is refused, as by a CUDA graph.
What is computed is the CPU's. So all that the library does by a device's name can be run where there is no GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from mvae.training.step import Step

HERE = torch.device("cpu")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")  # also by what is on a CPU
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim")
GENERATOR = torch.Generator


class Elsewhere(Tensor):
    """A tensor on the device that is not there."""

    held: Tensor
    there: torch.device
    recording = False
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, held: Tensor, there: torch.device) -> "Elsewhere":
        """What a tensor of the CPU holds."""
        if there.type == "mps" and held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        made.held, made.there = held, there
        return made

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.there

    @property
    def is_cuda(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.there.type == "cuda"

    def tolist(self) -> Any:
        _wait()
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.there} device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation, on the CPU."""
        name, kwargs = func._schema.name, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        away = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
        if name in WAITING or (
            name == "aten::index" and any(t.dtype == torch.bool for t in tree_leaves(args[1]) if isinstance(t, Tensor))
        ):
            _wait()
        mixed = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
        if torch._C._current_graph_task_id() != -1:  # backward makes zeros of its own, on what it takes for the device
            mixed = []
        if mixed and not (name in INDEXED and isinstance(args[0], Elsewhere)) and name != "aten::copy_":
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found {away[0].there} and cpu: {func}"
            )
        if mixed and Elsewhere.recording:
            raise RuntimeError(f"{func} copies to a device on which a step is recorded")
        of = {id(tensor.held): tensor for tensor in away}
        out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if name == "aten::copy_":
            return args[0]
        if name == "aten::_local_scalar_dense":
            return out

        def wrapped(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return of[id(x)] if id(x) in of else Elsewhere(x, away[0].there)

        return tree_map(wrapped, out)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Elsewhere) else x


def _wait() -> None:
    if Elsewhere.recording:
        raise RuntimeError("a step that is recorded cannot wait for the device")


class _Generator(GENERATOR):
    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, "cpu")  # pyright: ignore[reportCallIssue]

    def __init__(self, device: Any = "cpu"):
        self._there = torch.device(device)

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._there


class _Placing(TorchFunctionMode):
    """What is made on the device, or brought there and back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, args, kwargs)
        if func is Tensor.__repr__:
            return repr(_held(args[0]))
        if Elsewhere.recording and func in (torch.tensor, Tensor.new_tensor):
            raise RuntimeError("nothing is brought to a device on which a step is recorded")
        if func in (torch.nn.functional.one_hot, Tensor.new_tensor) and isinstance(args[0], Elsewhere):
            return Elsewhere(
                func(args[0].held, *args[1:], **kwargs), args[0].there
            )  # made in C++, which knows no better
        there = kwargs.get("device")
        there = None if there is None else torch.device(there)
        if there is None or there.type == "cpu":
            return func(*args, **kwargs)
        kwargs["device"] = HERE
        made = func(*args, **kwargs)
        return made if isinstance(made, Elsewhere) else Elsewhere(made, there)

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        x, rest = args[0], list(args[1:])
        there = kwargs.pop("device", None)
        if func is Tensor.cpu:
            there = "cpu"
        elif func is Tensor.cuda:
            there, rest = rest[0] if rest else "cuda", []
        elif rest and isinstance(rest[0], str | torch.device):
            there = rest.pop(0)
        elif rest and isinstance(rest[0], Tensor):
            there, rest[0] = rest[0].device, rest[0].dtype
        device = None if there is None else torch.device(there)
        rest = [r for r in rest if r is not None]
        if device is None or device == x.device or (device.type == x.device.type and device.index is None):
            if isinstance(x, Elsewhere) and device is None:
                return Tensor.to(x, *rest, **kwargs) if rest or kwargs else x
            return Tensor.to(x, *rest, **kwargs) if rest or kwargs else x
        assert not (x.requires_grad and torch.is_grad_enabled() and not x.is_leaf), "no gradient is brought over"
        if device.type == "cpu":
            _wait()
            held = x.held.detach()
        else:
            if Elsewhere.recording:
                raise RuntimeError("nothing is brought to a device on which a step is recorded")
            held = x.detach()
        dtypes = [r for r in (*rest, kwargs.get("dtype")) if isinstance(r, torch.dtype)]
        held = held.to(dtypes[0]) if dtypes else held.clone()
        return held if device.type == "cpu" else Elsewhere(held, device)


@contextmanager
def elsewhere(kind: str) -> Iterator[torch.device]:
    """Inside the block there is a device of this kind; steps are "recorded" by taking them under a graph's rules."""
    with pytest.MonkeyPatch.context() as patch:
        there = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "default_generators", (torch.default_generator,))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: Elsewhere.recording)
        patch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(_grouped))
        patch.setattr(torch.nn.utils.clip_grad, "_group_tensors_by_device_and_dtype", _grouped)
        patch.setattr(Step, "_record", _record)
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Placing():
                yield there
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """What PyTorch does in C++, by the device that a tensor names."""
    first = lists[0][0]
    return {(first.device, first.dtype): (lists, list(range(len(lists[0]))))}


class _Graph:
    def __init__(self, step: Step):
        self.step = step

    def replay(self) -> None:
        Elsewhere.recording = True
        try:
            self.step._take(self.step._index, self.step._beta)
        finally:
            Elsewhere.recording = False


def _record(step: Step, index: Tensor) -> None:
    """What `Step._record` does, without a GPU: nothing is computed yet, and a replay is the step itself."""
    step._index, step._beta = index.clone(), torch.ones((), device=step.device)
    step._graph = cast("Any", _Graph(step))
