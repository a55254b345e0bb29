"""Conversion of NumPy, pandas and PyTorch arrays and plain lists to columns, all by one rule."""

import math
import mmap
import tempfile
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mvae.data.sparse import SparseRows
from mvae.errors import DataError

__all__ = ["Column", "Frame", "Values", "as_column", "as_mask", "as_tensor", "columns_of", "is_frame", "room_for"]

Column = Tensor | np.ndarray | SparseRows

LARGE = 1 << 31  # bytes of a column above which it is mapped from a temporary file

TENSORS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
           torch.float16, torch.bfloat16, torch.float32, torch.float64)  # fmt: skip


@runtime_checkable
class Frame(Protocol):
    """A pandas Series or DataFrame, or an object that behaves like one; pandas itself is not needed."""

    def to_numpy(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """The values as an array."""
        ...


@runtime_checkable
class SparseMatrix(Protocol):
    """A matrix of scipy.sparse, in any format; SciPy itself is not needed."""

    def tocsr(self) -> Any:
        """The same matrix by rows."""
        ...


Values = Column | Sequence[Any] | Frame | SparseMatrix
"""What `mvae.Table` accepts as a column."""


def as_column(name: str, values: Values) -> tuple[Column, np.ndarray | None]:
    """Convert values to a column and, if their container has one, the mask of its rows or of its single values.

    There is one rule: **the dtype is kept, and nothing is rounded**. (Unsigned integers of more than one byte become
    signed ones, because PyTorch cannot index them.) A list of Python numbers gets the dtype that NumPy gives it (int64,
    float64, bool). A modality casts to the precision of its networks, batch by batch. The dtype does not define the
    meaning of the values. An array is copied only to change its dtype or byte order, or if it has negative strides.

    Missing values are never guessed: NaN and None are values like any other (None is refused). Two containers have
    their own masks, which are kept: ``numpy.ma`` arrays, and the nullable dtypes of pandas (``pd.NA``). An index is
    ignored. A tensor that requires gradients is detached. A matrix of scipy.sparse stays sparse.

    Args:
        name: name of the column, for errors.
        values: ``rows event…``.

    Returns:
        The column, and a boolean array of its shape that says what is present (None: the container has no mask).

    Raises:
        DataError: an empty name; not an array of real numbers or booleans; a single value; events without values; a
            tensor that is sparse, quantized or has no data.

    >>> as_column("x", np.ma.masked_equal([1, -1, 3], -1))
    (array([ 1, -1,  3]), array([ True, False,  True]))
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"a modality's name must be a non-empty string, not {name!r}")
    if isinstance(values, Tensor):
        column, mask = _of_tensor(name, values), None
    elif isinstance(values, SparseRows | SparseMatrix):
        column, mask = values if isinstance(values, SparseRows) else SparseRows(values), None
    else:
        column, mask = _of_array(name, values)
    if column.ndim == 0:
        raise DataError(f"column {name!r} is a single value; a column has one entry for each row")
    if len(column) and 0 in column.shape:
        raise DataError(f"column {name!r} has shape {tuple(column.shape)}: its rows hold no values")
    return column, mask


def columns_of(data: Any) -> dict[str, Any]:
    """The columns of a data frame by name.

    Raises:
        DataError: a name that is not a string, or two columns of the same name.
    """
    found: dict[str, Any] = {}
    for name in data.columns:
        if not isinstance(name, str):
            raise DataError(f"the data frame has a column {name!r}: a modality's name must be a non-empty string")
        if name in found:
            raise DataError(f"the data frame has two columns {name!r}: rename one")
        found[name] = data[name]
    return found


def is_frame(data: object) -> bool:
    """Is this a data frame with named columns?"""
    return isinstance(data, Frame) and hasattr(data, "columns")


def as_tensor(column: Column) -> Tensor:
    """A column as a tensor; changes to the tensor never change a mapped file or a read-only array."""
    if isinstance(column, Tensor):
        return column
    if isinstance(column, SparseRows):
        column = column[:]
    if not column.dtype.isnative:
        column = column.astype(column.dtype.newbyteorder("="))  # PyTorch knows only the machine's byte order
    # A tensor shares the array's memory: changes to a tensor of a mapped file's slice would be written to the file.
    if isinstance(column, np.memmap) or not column.flags.writeable:
        column = column.copy()
    return torch.from_numpy(np.ascontiguousarray(column))


def room_for(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Zeros for a column of this shape: in memory or, if they are many, mapped from a temporary file."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the file, and nothing is left on disk
        return np.memmap(file, dtype, "w+", shape=tuple(shape))


def as_mask(name: str, mask: Any, shape: Sequence[int]) -> Tensor:
    """The presence mask of a column of this shape, on the CPU, by rows or by single values.

    A memory-mapped mask stays on disk.

    Raises:
        DataError: it is not a boolean mask of that number of rows or of that shape.
    """
    rows, shape = shape[0], tuple(shape)
    wanted = f"({rows},)" if len(shape) == 1 else f"({rows},) or {shape}"
    try:
        if isinstance(mask, np.ma.MaskedArray):
            mask = mask.filled(False)
        found = mask if isinstance(mask, Tensor) else torch.from_numpy(_held(mask))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"present[{name!r}] is not a boolean mask of shape {wanted} ({error})") from None
    fits = found.shape in ((rows,), shape)
    if found.dtype != torch.bool or not fits or found.is_meta or found.layout != torch.strided:
        raise DataError(
            f"present[{name!r}] has shape {tuple(found.shape)} and dtype {found.dtype}; "
            f"a boolean mask of shape {wanted} is needed"
        )
    return found.cpu()


def _held(mask: Any) -> np.ndarray:
    """A mask as a separate array; one in a file stays there, mapped so that the file is never written to."""
    whole = isinstance(mask, np.memmap) and isinstance(mask.base, mmap.mmap) and mask.flags.c_contiguous
    if not whole or mask.filename is None:
        return mask if isinstance(mask, np.memmap) and mask.flags.writeable else np.array(mask)
    return np.memmap(mask.filename, mask.dtype, "c", mask.offset, mask.shape)


def _of_tensor(name: str, values: Tensor) -> Tensor:
    if values.is_nested or values.layout != torch.strided:
        raise DataError(f"column {name!r} is a sparse or nested tensor: convert it with .to_dense()")
    if values.is_quantized:
        raise DataError(f"column {name!r} is a quantized tensor: convert it with .dequantize()")
    if values.is_meta:
        raise DataError(f"column {name!r} is on the device 'meta', without data")
    if values.dtype not in TENSORS:
        raise _wrong_dtype(name, values.dtype)
    if values.is_inference() and not torch.is_inference_mode_enabled():
        values = values.clone()  # autograd does not take tensors made in inference mode
    return values.detach() if values.requires_grad else values  # no gradient may accumulate in the caller's tensor


def _of_array(name: str, values: Any) -> tuple[np.ndarray, np.ndarray | None]:
    mask = None
    if is_frame(values):
        values, mask = _of_frame(name, values)
    elif isinstance(values, Frame) and not isinstance(getattr(values, "dtype", None), np.dtype):
        values, mask = _of_nullable(name, values)
    if isinstance(values, np.ma.MaskedArray):
        values, mask = values.data, ~np.ma.getmaskarray(values)
    if not isinstance(values, np.ndarray):
        try:
            values = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"column {name!r} does not make an array; do its rows differ in shape? ({error})") from None
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise _wrong_dtype(name, values.dtype)
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # PyTorch cannot take rows of these
        values = _signed(name, values)
    if isinstance(values, np.memmap):
        return values, mask
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return (values.copy() if any(stride < 0 for stride in values.strides) else values), mask


def _of_frame(name: str, frame: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A data frame as one column, whose events have one number for each column of the frame."""
    parts = [_of_array(f"{name}: {label}", values) for label, values in columns_of(frame).items()]
    if not parts:
        raise DataError(f"column {name!r} is a data frame without columns")
    masks = [np.ones(len(part), bool) if mask is None else mask for part, mask in parts]
    return np.stack([part for part, _ in parts], 1), None if all(m is None for _, m in parts) else np.stack(masks, 1)


def _of_nullable(name: str, series: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A Series of an extension dtype; only nullable dtypes are based on a NumPy dtype of numbers."""
    kind = getattr(getattr(series, "dtype", None), "numpy_dtype", None)
    if kind is None:
        return np.asarray(series), None
    present = ~np.asarray(series.isna())
    if not isinstance(kind, np.dtype) or kind.kind not in "biuf":
        raise _wrong_dtype(name, series.dtype)
    return series.to_numpy(dtype=kind, na_value=kind.type(0)), present


def _signed(name: str, values: np.ndarray) -> np.ndarray:
    """Unsigned integers of more than one byte as signed integers large enough for them."""
    if values.dtype.itemsize == 8 and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"column {name!r} holds integers above 2⁶³ − 1: give them as floats")
    return values.astype(np.int32 if values.dtype.itemsize == 2 else np.int64)


def _wrong_dtype(name: str, dtype: object) -> DataError:
    return DataError(
        f"column {name!r} has dtype {dtype}; real numbers of at most 64 bits, or booleans, are needed (categories "
        "become numbers by mvae.data.schema, and present={...} says what is missing)"
    )
