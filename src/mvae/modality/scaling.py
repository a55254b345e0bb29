"""Standardising real values inside a modality, so that neither networks nor likelihood depend on the user's units.

Encoders, fixed scales and learning rates are made for numbers of about unit size. A modality of real values therefore
subtracts the mean and divides by the standard deviation of its training values before anything else; what it generates
is back in the user's units, and log p is the density of the user's values: log p(x) = log p((x − m)/s) − Σ log s.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mvae.arguments import require_float64
from mvae.data.table import Table
from mvae.errors import DataError

__all__ = ["Scaling"]

VALUES = 2**20  # read at once
CONSTANT = 8 * torch.finfo(torch.float64).eps  # a spread below this fraction of the mean is rounding


class Scaling(nn.Module):
    """Mean and standard deviation of a column: per value for events of one axis, else of all values together.

    They are float64 buffers, whatever the precision of the networks: a date in seconds is 1.7e9. Before `fit`, values
    stay as they are.

    >>> scaling = Scaling()
    >>> scaling.fit(Table({"income": torch.tensor([[30_000.0], [70_000.0]])}), "income")
    >>> scaling.standardised(torch.tensor([[50_000.0], [90_000.0]]))
    tensor([[0.],
            [2.]], dtype=torch.float64)
    """

    #: Buffers whose shape comes from the data (`mvae.files.check_weights`).
    shaped_by_data = ("mean", "std")

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.std = nn.Buffer(torch.ones((), dtype=torch.float64))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.int64))  # number of rows used; 0: not fitted
        self.fitted, self._log_std = False, 0.0

    def fit(self, table: Table, name: str) -> None:
        """Fit the statistics to a column's present values, a part at a time; a constant is divided by 1.

        If no row has the column, nothing changes.
        """
        rows = table.has(name).nonzero().flatten()
        if not len(rows):
            return
        event = table.columns[name].shape[1:]
        width = event[0] if len(event) == 1 else 1
        count, squares, first = 0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
        mean = squares.clone()
        for part in rows.split(max(1, VALUES // max(1, math.prod(event)))):
            x = table.select_rows(name, part).to("cpu", torch.float64).reshape(-1, width)
            first = first if count else x[0].clone()
            x = x - first  # exactly 0 for a constant column
            n, own = len(x), x.mean(0)
            squares += (x - own).square().sum(0) + (own - mean).square() * (count * n / (count + n))
            mean += (own - mean) * (n / (count + n))
            count += n
        mean, std = first + mean, (squares / count).sqrt()
        std = torch.where((std > CONSTANT * mean.abs()) & std.isfinite(), std, 1.0)
        shape = () if len(event) != 1 else (width,)
        self._set(mean.reshape(shape), std.reshape(shape), torch.tensor(len(rows)))

    def _set(self, mean: Tensor, std: Tensor, count: Tensor) -> None:
        device = self.mean.device
        self.mean, self.std = mean.to(device, self.mean.dtype), std.to(device, self.std.dtype)
        self.count = count.to(device)
        self.fitted, self._log_std = bool(count > 0), float(std.double().log().sum())

    def standardised(self, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "rows *event"]:
        """(x − m) / s, in float64, so that a large offset loses no digits; x itself before `fit`.

        Raises:
            DataError: a different number of values than was fitted.
        """
        if not self.fitted:
            return x
        if self.mean.dim() and x.shape[1:] != self.mean.shape:
            raise DataError(f"rows of shape {tuple(x.shape[1:])}; those trained on had {tuple(self.mean.shape)}")
        return (x.to(self.mean.dtype) - self.mean) / self.std

    def in_units(self, x: Float[Tensor, "..."], lead: int) -> Float[Tensor, "..."]:
        """Standardised values in the user's units; the first ``lead`` axes are not the event's."""
        if not self.fitted:
            return x
        shape = x.shape[lead:] if self.mean.dim() else ()  # a decoder's (values, 1) is an event of values
        return (x.to(self.mean.dtype) * self.std.reshape(shape) + self.mean.reshape(shape)).to(x.dtype)

    def log_volume(self, event: torch.Size) -> float:
        """Σ log s over an event: log p of the user's values is that of standardised ones minus this."""
        return self._log_std if self.mean.dim() else self._log_std * math.prod(event)

    def _apply(self, fn: Any, recurse: bool = True) -> "Scaling":
        """Move to another device, but not to another precision."""
        device = fn(torch.empty(0, device=self.mean.device)).device
        require_float64(device)
        for name, value in list(self.named_buffers()):
            setattr(self, name, value.to(device))
        return self

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Give the buffers the shape with which they were saved."""
        found = [state_dict.get(prefix + name) for name in ("mean", "std", "count")]
        if all(isinstance(value, Tensor) for value in found):
            self._set(*found)  # pyright: ignore[reportArgumentType]
        super()._load_from_state_dict(state_dict, prefix, *args)
