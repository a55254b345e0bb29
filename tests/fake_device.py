"""A fake device: tensors that report to be on a GPU, while the CPU stores them and computes.

PyTorch's rules apply: tensors on two devices cannot be mixed, and "mps" has no float64. While a step is `recording`,
operations that wait for the device or whose shape depends on values are refused, as by a CUDA graph. So everything
that the library does because of a device's name can be tested without a GPU.
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

CPU = torch.device("cpu")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")  # accept indices on the CPU
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim")
GENERATOR = torch.Generator


class FakeTensor(Tensor):
    """A tensor that reports to be on the fake device."""

    held: Tensor
    there: torch.device
    recording = False
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, held: Tensor, there: torch.device) -> "FakeTensor":
        """Wrap a tensor on the CPU."""
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
        """Run one operation on the CPU."""
        name, kwargs = func._schema.name, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        away = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        if name in WAITING or (
            name == "aten::index" and any(t.dtype == torch.bool for t in tree_leaves(args[1]) if isinstance(t, Tensor))
        ):
            _wait()
        mixed = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor) and tensor.dim()]
        if torch._C._current_graph_task_id() != -1:  # the backward pass creates zeros on the tensors' real device
            mixed = []
        if mixed and not (name in INDEXED and isinstance(args[0], FakeTensor)) and name != "aten::copy_":
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found {away[0].there} and cpu: {func}"
            )
        if mixed and FakeTensor.recording:
            raise RuntimeError(f"{func} copies to the device while a step is recorded")
        of = {id(tensor.held): tensor for tensor in away}
        out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if name == "aten::copy_":
            return args[0]
        if name == "aten::_local_scalar_dense":
            return out

        def wrapped(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return of[id(x)] if id(x) in of else FakeTensor(x, away[0].there)

        return tree_map(wrapped, out)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, FakeTensor) else x


def _wait() -> None:
    if FakeTensor.recording:
        raise RuntimeError("a recorded step cannot wait for the device")


class _Generator(GENERATOR):
    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, "cpu")  # pyright: ignore[reportCallIssue]

    def __init__(self, device: Any = "cpu"):
        self._there = torch.device(device)

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._there


class _Placing(TorchFunctionMode):
    """Creates tensors on the device, and moves tensors to and from it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, args, kwargs)
        if func is Tensor.__repr__:
            return repr(_held(args[0]))
        if FakeTensor.recording and func in (torch.tensor, Tensor.new_tensor):
            raise RuntimeError("nothing can be copied to the device while a step is recorded")
        if func in (torch.nn.functional.one_hot, Tensor.new_tensor) and isinstance(args[0], FakeTensor):
            return FakeTensor(func(args[0].held, *args[1:], **kwargs), args[0].there)  # C++ creates it on the CPU
        there = kwargs.get("device")
        there = None if there is None else torch.device(there)
        if there is None or there.type == "cpu":
            return func(*args, **kwargs)
        kwargs["device"] = CPU
        made = func(*args, **kwargs)
        return made if isinstance(made, FakeTensor) else FakeTensor(made, there)

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
            return Tensor.to(x, *rest, **kwargs) if rest or kwargs else x
        assert not (x.requires_grad and torch.is_grad_enabled() and not x.is_leaf), "gradients are not copied"
        if device.type == "cpu":
            _wait()
            held = x.held.detach()
        else:
            if FakeTensor.recording:
                raise RuntimeError("nothing can be copied to the device while a step is recorded")
            held = x.detach()
        dtypes = [r for r in (*rest, kwargs.get("dtype")) if isinstance(r, torch.dtype)]
        held = held.to(dtypes[0]) if dtypes else held.clone()
        return held if device.type == "cpu" else FakeTensor(held, device)


@contextmanager
def fake_device(kind: str) -> Iterator[torch.device]:
    """Provide a device of this type inside the block; "recorded" steps are taken under the rules of a CUDA graph."""
    with pytest.MonkeyPatch.context() as patch:
        there = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "default_generators", (torch.default_generator,))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: FakeTensor.recording)
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
    """Group tensors as PyTorch does in C++, but by the device that they report."""
    first = lists[0][0]
    return {(first.device, first.dtype): (lists, list(range(len(lists[0]))))}


class _Graph:
    def __init__(self, step: Step):
        self.step = step

    def replay(self) -> None:
        FakeTensor.recording = True
        try:
            self.step._take(self.step._index, self.step._beta)
        finally:
            FakeTensor.recording = False


def _record(step: Step, index: Tensor) -> None:
    """Replace `Step._record` without a GPU: nothing is computed yet, and a replay takes the step itself."""
    step._index, step._beta = index.clone(), torch.ones((), device=step.device)
    step._graph = cast("Any", _Graph(step))
