"""The meaning of a column: its kind, its encoding as numbers for a model, and the decoding to the user's units."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from torch import Tensor

from mvae.data.columns import Column, Frame, as_column, as_mask, as_tensor
from mvae.errors import DataError, abridged

__all__ = ["ColumnSchema", "Kind", "infer_kind", "raw_values"]

Kind = Literal["real", "count", "binary", "categorical", "picture"]
MOST_CLASSES = 20  # integers with more distinct values than this are proposed as real numbers
LEAST_SIDE = 8  # smallest height and width, in pixels, of arrays that are proposed as pictures
AT_ONCE = 1 << 22  # values processed together

Raw = Any  # an array of numbers, booleans or text, a list, a tensor, a pandas Series


@dataclass(frozen=True)
class ColumnSchema:
    """How one column is encoded for a model and decoded again.

    ``real``: floats in the user's units. ``count``: whole numbers ≥ 0, unchanged. ``binary``: booleans.
    ``categorical``: codes 0 … K−1. ``picture``: values from 0 to ``levels``, unchanged.

    Args:
        name: name of the column, for errors.
        kind: kind of its values.
        shape: shape of one row's event.
        dtype: NumPy's name of the column's dtype, which `decode` restores (``str`` for text).
        classes: the classes of a categorical column in the order of their codes, as integers or strings.
        levels: the value of full brightness of a picture, 1.0 or 255.
        mean, std: mean and standard deviation of the present training values of a real column. They are computed for
            each value of the event if it has at most one axis, otherwise for all values together. Where all values are
            equal, ``std`` is 1.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    classes: tuple[int | str, ...] = ()
    levels: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    __pydantic_config__: ClassVar = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    @classmethod
    def fit(
        cls, name: str, values: Raw, present: np.ndarray | Tensor | None = None, kind: Kind | None = None
    ) -> "ColumnSchema":
        """Learn the meaning of a column from its training rows; missing rows are ignored.

        Args:
            name: name of the column.
            values: the training rows.
            present: boolean ``rows``; None if no row is missing.
            kind: kind of the values; None takes `infer_kind`'s proposal.

        Raises:
            DataError: no row is present, or a value is not of this kind (the message names its row).

        >>> ColumnSchema.fit("sex", ["f", "m", "f"]).encode(["m", "f"])
        array([1, 0])
        """
        raw, here = _looked_at(name, values, present)
        rows = np.arange(len(raw)) if here is None else here.nonzero()[0]
        if not len(rows):
            raise DataError(f"column {name!r} is present in no training row, so nothing can be learned about it")
        kind = infer_kind(raw, here)[0] if kind is None else kind
        if not isinstance(kind, str) or kind not in get_args(Kind):
            raise DataError(f"column {name!r}: no kind {abridged(kind)}; there are {', '.join(get_args(Kind))}")
        found: dict[str, Any] = {}
        if kind == "categorical":
            found = {"classes": tuple(sorted(set(_comparable(name, raw, here)[rows].ravel().tolist())))}
        elif kind == "picture":
            whole = raw.dtype.kind in "iu"
            found = {"levels": 255.0 if whole and max(int(part.max()) for part in _chosen(raw, rows)) != 1 else 1.0}
        elif kind == "real":
            found = _moments(name, raw, rows)
        dtype = "str" if raw.dtype.kind in "OU" else raw.dtype.name
        schema = cls(name, kind, tuple(raw.shape[1:]), dtype, **found)
        schema.encode(raw, here)  # refuses values that are not of this kind
        return schema

    def encode(self, values: Raw, present: np.ndarray | Tensor | None = None) -> Column:
        """Encode the column as numbers for a model; missing cells of binary and categorical columns become 0.

        Raises:
            DataError: another shape; a value that this kind cannot have, or an unseen category (the message names the
                value and its row).
        """
        raw, here = _looked_at(self.name, values, present)
        if raw.shape[1:] != self.shape:
            raise DataError(f"column {self.name!r} has rows of shape {raw.shape[1:]} instead of {self.shape}")
        if self.kind == "categorical":
            return self._codes(raw, here)
        if raw.dtype.kind not in "biuf":
            raise DataError(f"column {self.name!r} is {self.kind}, but holds {raw.dtype}: give numbers")
        if self.kind == "binary":
            self._require("0 and 1", raw, here, lambda part: (part == 0) | (part == 1))
            return np.asarray(raw == 1)
        if self.kind == "count":
            self._require("whole numbers ≥ 0", raw, here, lambda part: (part >= 0) & (part == np.floor(part)))
            return raw
        if self.kind == "real":
            self._require("finite numbers", raw, here, np.isfinite)
            return raw if raw.dtype.kind == "f" else raw.astype(np.float32 if raw.itemsize <= 2 else np.float64)
        self._require(f"levels 0 to {self.levels:g}", raw, here, lambda part: (part >= 0) & (part <= self.levels))
        return raw

    def decode(self, column: Column) -> np.ndarray:
        """Decode the output of `encode`, or a model's samples with any leading axes, to values in the user's units.

        Raises:
            DataError: a code outside the classes.
        """
        numbers = as_tensor(column).detach().cpu()
        values = numbers.float().numpy() if str(numbers.dtype) == "torch.bfloat16" else numbers.numpy()
        if self.kind == "categorical":
            if values.size and not 0 <= values.min() <= values.max() < len(self.classes):
                raise DataError(f"column {self.name!r} has codes 0 to {len(self.classes) - 1}, not {values.max()}")
            return np.asarray(self.classes, None if self.dtype == "str" else self.dtype)[values.astype(np.int64)]
        if self.kind == "picture" and self.levels != 1:
            values = np.round(values)
        keeps_unit = self.kind in ("real", "count") and not np.issubdtype(
            self.dtype, np.floating
        )  # a mean need be no integer
        return values if keeps_unit else values.astype(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """The schema as a dictionary for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "ColumnSchema":
        """Restore a schema from the output of `to_dict`.

        Raises:
            DataError: it is not such an output.
        """
        from pydantic import TypeAdapter  # imported here because only reopened runs need it

        try:
            schema = TypeAdapter(cls).validate_json(json.dumps(stored))
            if schema.dtype == "str" or np.dtype(schema.dtype).kind in "biuf":
                return schema
        except (TypeError, ValueError):
            pass
        raise DataError(f"this is not the schema of a column: {abridged(stored)}")

    def _codes(self, raw: np.ndarray, here: np.ndarray | None) -> np.ndarray:
        values = _comparable(self.name, raw, here)
        codes = {value: code for code, value in enumerate(self.classes)}
        found = np.array([codes.get(value, -1) for value in values.ravel().tolist()], np.int64).reshape(raw.shape)
        if here is not None:
            found[~here] = 0
        if (found < 0).any():
            row = int((found < 0).reshape(len(raw), -1).any(1).argmax())
            value = np.ravel(values[row])[np.ravel(found[row] < 0)][0]
            raise DataError(
                f"column {self.name!r}, row {row}: the category {value.item() if hasattr(value, 'item') else value!r} "
                f"is in no training row. Known are {_listed(self.classes)}: correct it, or mark it as missing"
            )
        return found

    def _require(self, what: str, raw: np.ndarray, here: np.ndarray | None, fits: Any) -> None:
        for start, part in _chunks(raw):
            wrong = ~np.asarray(fits(part)).reshape(len(part), -1).all(1)
            if here is not None:
                wrong &= here[start : start + len(part)]
            if wrong.any():
                row = start + int(wrong.argmax())
                value = next(v for v in np.ravel(raw[row]).tolist() if not fits(np.asarray(v)))
                raise DataError(
                    f"column {self.name!r}, row {row}: {value!r} does not fit the kind {self.kind!r}, which holds "
                    f"{what}: correct it, mark it as missing, or declare another kind"
                )


def infer_kind(values: Raw, present: np.ndarray | Tensor | None = None) -> tuple[Kind, str]:
    """Propose a column's kind, with a reason; check it, because numbers alone do not determine their meaning.

    >>> infer_kind([0, 1, 1]), infer_kind([0.5, 41.0])
    (('binary', 'only 0 and 1'), ('real', 'numbers with fractions'))
    >>> infer_kind(np.zeros((5, 3, 32, 32), np.uint8))
    ('picture', 'bytes of shape 3×32×32: levels 0 to 255')
    """
    raw, here = _looked_at("values", values, present)
    raw = raw if here is None else raw[here]
    if raw.dtype.kind in "OU":
        return "categorical", f"text with {len(set(map(str, raw.ravel().tolist())))} different values"
    if raw.dtype.kind == "b":
        return "binary", "booleans"
    if raw.ndim in (3, 4) and min(raw.shape[-2:]) >= LEAST_SIDE:
        shape = "×".join(map(str, raw.shape[1:]))
        if raw.dtype == np.uint8:
            return "picture", f"bytes of shape {shape}: levels 0 to 255"
        if raw.dtype.kind == "f" and all(((part >= 0) & (part <= 1)).all() for _, part in _chunks(raw)):
            return "picture", f"numbers from 0 to 1 of shape {shape}"
        return "real", f"numbers of shape {shape} outside 0 to 1"
    distinct = np.unique(raw) if raw.size else raw.ravel()
    if np.isin(distinct, (0, 1)).all():
        return "binary", "only 0 and 1"
    if raw.dtype.kind == "f":
        whole = bool((distinct == np.round(distinct)).all())
        return "real", "floating-point numbers, though whole" if whole else "numbers with fractions"
    if raw.ndim == 1 and len(distinct) <= MOST_CLASSES and distinct[0] >= 0:
        return "categorical", f"{len(distinct)} different integers from {distinct[0]} to {distinct[-1]}"
    return "real", f"{len(distinct)} different integers"


def raw_values(name: str, values: Raw) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert numbers, booleans or text to an array, and get the mask of rows if the container has one.

    Raises:
        DataError: as `mvae.data.columns.as_column`, except that text is accepted; a row that is masked in part.
    """
    dtype = getattr(values, "dtype", None)
    if isinstance(values, Frame) and dtype is not None and hasattr(values, "isna"):  # a Series
        numbers = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", None)
        if not isinstance(numbers, np.dtype) or numbers.kind == "O":
            return _of_text_series(values)
    if not isinstance(values, Tensor):
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
        if array.dtype.kind in "OU" and array.ndim and not isinstance(values, Frame | np.ma.MaskedArray):
            return array, None
    column, mask = as_column(name, values)
    mask = None if mask is None else _whole_rows(name, mask)
    if not isinstance(column, Tensor):
        return column if isinstance(column, np.ndarray) else column[:], mask
    return column.cpu().float().numpy() if str(column.dtype) == "torch.bfloat16" else column.cpu().numpy(), mask


def _whole_rows(name: str, present: np.ndarray) -> np.ndarray:
    """Convert a mask of values to a mask of rows."""
    flat = present.reshape(len(present), int(np.prod(present.shape[1:])))  # −1 would be ambiguous without rows
    partly = np.flatnonzero(flat.any(1) & ~flat.all(1))
    if len(partly):
        raise DataError(
            f"column {name!r}, row {partly[0]}: only a part of its values is masked. Single values may be missing in a "
            'modality of the kind "columns" only'
        )
    return np.asarray(flat.all(1))


def _of_text_series(series: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A Series of categories or of a text dtype; its missing values are those of pandas."""
    values, here = np.asarray(series.astype(object)), ~np.asarray(series.isna(), bool)
    if isinstance(series.dtype, np.dtype):  # of arbitrary objects, which do not define what is missing
        return values, None
    typed = np.asarray(values[here].tolist())
    found = np.zeros(len(values), typed.dtype)
    found[here] = typed
    return found, here


def _looked_at(name: str, values: Raw, present: np.ndarray | Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The array, and the mask of rows that are present by both masks."""
    raw, here = raw_values(name, values)
    if present is None:
        return raw, here
    given = as_mask(name, present, (len(raw),)).numpy()
    return raw, given if here is None else given & here


def _step(raw: np.ndarray) -> int:
    """The number of rows that are processed together."""
    return max(1, AT_ONCE // max(1, raw[:1].size))


def _chunks(raw: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(raw), _step(raw)):
        yield start, raw[start : start + _step(raw)]


def _chosen(raw: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The given rows, copied in parts of bounded memory."""
    for start in range(0, len(rows), _step(raw)):
        yield raw[rows[start : start + _step(raw)]]


def _comparable(name: str, raw: np.ndarray, here: np.ndarray | None) -> np.ndarray:
    """Categories as integers or strings."""
    if raw.dtype.kind == "U":
        return raw
    if raw.dtype.kind == "O":
        rows = range(len(raw)) if here is None else here.nonzero()[0].tolist()
        for row in rows:
            for value in [raw[row]] if raw.ndim == 1 else np.ravel(raw[row]).tolist():
                if not isinstance(value, str):
                    raise DataError(
                        f"column {name!r}, row {row}: {value!r} is not text, unlike the others: mark it as missing"
                    )
        return raw
    if raw.dtype.kind == "f":
        whole = np.where(np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**53), raw, 0)
        off = (whole != raw).reshape(len(raw), -1).any(1) & (True if here is None else here)
        if off.any():
            row = int(off.argmax())
            raise DataError(f"column {name!r}, row {row}: categories are integers or text, not {raw[row]}")
        return whole.astype(np.int64)
    return raw.astype(np.int64)


def _moments(name: str, raw: np.ndarray, rows: np.ndarray) -> dict[str, tuple[float, ...]]:
    """The mean and standard deviation in float64, in two passes over chunks."""
    if raw.dtype.kind not in "biuf":
        raise DataError(f"column {name!r} holds text, no numbers: it is categorical")
    width = raw[:1].size if raw.ndim == 2 else 1

    def over(of: Any) -> np.ndarray:
        total, count = np.zeros(width), 0
        for part in _chosen(raw, rows):
            flat = np.asarray(part, np.float64).reshape(-1, width)
            total, count = total + of(flat).sum(0), count + len(flat)
        return total / count

    with np.errstate(all="ignore"):  # values that are not finite are refused by encode, by their row
        mean = over(lambda flat: flat)
        std = np.sqrt(over(lambda flat: (flat - mean) ** 2))
    std[std == 0] = 1
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}


def _listed(classes: Sequence[int | str]) -> str:
    return ", ".join(map(repr, classes[:10])) + (f" … ({len(classes)})" if len(classes) > 10 else "")
