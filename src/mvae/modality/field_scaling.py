"""Scales of a modality of columns: each field is modelled on a scale of its own, fitted to observed training values.

A field has a transformation t (the logarithm of positive values, the log-odds of bounded ones, log(1 + x) of counts,
else x itself), and the mean m and standard deviation s of t over the observed training values. Real, positive, bounded
and date fields are modelled as u = (t − m)/s, so that log p(x) = log p(u) + log |du/dx|; the others are modelled as
they are, and only the encoder sees them standardised. Generated values stay near the observed training values.

The ends of a bounded field are finite log-odds. Draws beyond them become the ends, but log p is that of the log-odds
everywhere: where many values are at the ends, its density integrates to less than 1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from mvae.data.fields import SCALED, Field
from mvae.data.table import Table
from mvae.errors import DataError
from mvae.modality.scaling import CONSTANT, VALUES, Scaling

__all__ = ["FieldScaling"]

MARGIN = 5e-4  # share left free at either end of a bounded field's range, so that its ends have finite log-odds
NODES = 16  # of the quadrature for means of log-odds
FARTHEST = 1e12  # standard deviations from the mean at which values are clamped: their squares are finite in float32
MOST = 1e36  # a larger count or class number is not finite in float32
BEYOND = 0.1  # how far beyond the training range of t a number may be generated, as a share of that range


class FieldScaling(Scaling):
    """The scaling of ``rows fields`` (see the module's text).

    Before `fit`, m = 0 and s = 1.

    >>> scaling = FieldScaling([Field("income", "positive")])
    >>> u = scaling.standardised(torch.tensor([[1.0], [8.0]]))
    >>> u.exp().round(), scaling.in_units(u).round()
    (tensor([[1.],
            [8.]], dtype=torch.float64), tensor([[1.],
            [8.]], dtype=torch.float64))
    """

    shaped_by_data = (*Scaling.shaped_by_data, "least", "most")

    def __init__(self, fields: Sequence[Field]):
        super().__init__()
        # The range of t over the observed training values; if there are none, the least is above the largest.
        self.least = nn.Buffer(torch.ones((), dtype=torch.float64))
        self.most = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.fields = tuple(fields)
        self.kinds = {field.kind for field in fields}

        def where(*kinds: str) -> nn.Buffer:
            return nn.Buffer(torch.tensor([field.kind in kinds for field in fields]), persistent=False)

        self.real, self.positive, self.bounded = where("real"), where("positive"), where("bounded")
        self.counted, self.scaled = where("count"), where(*SCALED)
        ends = [(field.low, field.high) if field.kind == "bounded" else (0.0, 1.0) for field in fields]
        low, high = torch.tensor(ends, dtype=torch.float64).T.contiguous().unbind()
        self.low, self.high = nn.Buffer(low, persistent=False), nn.Buffer(high, persistent=False)
        self.width = nn.Buffer(high - low, persistent=False)
        self.within = nn.Buffer(self.bounded.nonzero().flatten(), persistent=False)  # the bounded fields' places

    def fit(self, table: Table, name: str) -> None:
        """Fit each field's statistics to its observed values, a part at a time; a constant is divided by 1.

        A field that is never observed has m = 0 and s = 1. If no row has the column, nothing changes.
        """
        rows, size = table.has(name).sum(), len(self.fields)
        if not rows:
            return
        count, mean, squares, first = (torch.zeros(size, dtype=torch.float64) for _ in range(4))
        self.least, self.most = torch.ones_like(self.low), torch.zeros_like(self.low)
        for t, here in self._parts(table, name):
            self._reach(t, here)
            first = torch.where(count > 0, first, t[here.long().argmax(0), torch.arange(size)])
            t = torch.where(here, t - first, 0.0)  # exactly 0 for a constant field
            n = here.sum(0).double()
            own = t.sum(0) / n.clamp(min=1)
            total = count + n
            share = n / total.clamp(min=1)
            squares += torch.where(here, (t - own).square(), 0.0).sum(0) + (own - mean).square() * count * share
            mean, count = mean + (own - mean) * share, total
        mean, std = first + mean, (squares / count.clamp(min=1)).sqrt()
        std = torch.where((std > CONSTANT * mean.abs()) & std.isfinite(), std, 1.0)
        self._set(mean, std, rows)

    def widen(self, table: Table, name: str) -> None:
        """Widen the range of generated values to cover another training table's values; scales stay unchanged."""
        for t, here in self._parts(table, name):
            self._reach(t, here)

    def _parts(self, table: Table, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield t of some rows at a time (0 where nothing is observed), and which values are observed."""
        rows = table.has(name).nonzero().flatten()
        for part in rows.split(max(1, VALUES // len(self.fields))):
            x, here = table.observed_rows(name, part)
            yield torch.where(here, self._transformed(x.to(self.low.device)).cpu(), 0.0), here

    def _reach(self, t: Tensor, here: Tensor) -> None:
        """Widen the range to cover these values."""
        known = self.least <= self.most
        least = torch.where(here, t, math.inf).amin(0).to(self.low).minimum(torch.where(known, self.least, math.inf))
        most = torch.where(here, t, -math.inf).amax(0).to(self.low).maximum(torch.where(known, self.most, -math.inf))
        seen = least <= most
        self.least, self.most = torch.where(seen, least, 1.0), torch.where(seen, most, 0.0)

    def _transformed(self, x: Float[Tensor, "*lead fields"]) -> Float[Tensor, "*lead fields"]:
        t = x
        if "bounded" in self.kinds:
            share = MARGIN + (1 - 2 * MARGIN) * (x - self.low) / self.width
            t = torch.where(self.bounded, share.logit(), x)
        t = torch.where(self.counted, x.log1p(), t) if "count" in self.kinds else t
        return torch.where(self.positive, x.log(), t) if "positive" in self.kinds else t

    def standardised(self, x: Shaped[Tensor, "rows fields"]) -> Float[Tensor, "rows fields"]:
        """The fields as they are modelled, in float64: u for the scaled ones, x for the others; absurd ones clamped.

        Raises:
            DataError: another number of fields.
        """
        self.require_fields(x)
        x = x.to(self.low.dtype)
        u = ((self._transformed(x) - self.mean) / self.std).clamp(-FARTHEST, FARTHEST)
        return torch.where(self.scaled, u, x.clamp(max=MOST))

    def require_fields(self, x: Tensor) -> None:
        """Raises DataError unless rows have one value per field."""
        if x.shape[1:] != (len(self.fields),):
            raise DataError(f"rows of shape {tuple(x.shape[1:])}; its fields are {len(self.fields)} values per row")

    @property
    def ends(self) -> tuple[Float[Tensor, "fields"], Float[Tensor, "fields"]]:
        """The least and the largest value that is generated for each field, in the user's units.

        They lie a tenth of the training range beyond it, on the scale of t: a likelihood's tails reach further, and one
        such number moves a mean of thousands. Those of a real field never cross 0 if no training value does.
        """
        least, most = self.least.expand_as(self.low), self.most.expand_as(self.low)
        more = BEYOND * (most - least)
        low, high = (self._back(end) for end in (least - more, most + more))
        low = torch.where(self.real & (least >= 0), low.clamp(min=0), low)
        high = torch.where(self.real & (most <= 0), high.clamp(max=0), high)
        low, high = torch.where(self.counted, low.floor(), low), torch.where(self.counted, high.ceil(), high)
        high = torch.where(self.bounded, high.minimum(self.high), high)
        known = (least <= most) & (self.scaled | self.counted)
        return torch.where(known, low, -math.inf), torch.where(known, high, math.inf)

    def near_training(self, x: Float[Tensor, "*lead fields"]) -> Float[Tensor, "*lead fields"]:
        """Generated numbers in the user's units, clamped to the `ends` of their field."""
        low, high = self.ends
        return x.clamp(low.to(x.dtype), high.to(x.dtype))

    def _back(self, t: Float[Tensor, "*lead fields"]) -> Float[Tensor, "*lead fields"]:
        """t of scaled fields and counts in the user's units."""
        return torch.where(self.counted, t.clamp(min=0).expm1(), self.in_units((t - self.mean) / self.std))

    def in_units(self, x: Float[Tensor, "*lead fields"], lead: int = 0) -> Float[Tensor, "*lead fields"]:
        """Modelled values in the user's units."""
        t = x.to(self.mean.dtype) * self.std + self.mean
        found = t
        if "bounded" in self.kinds:
            found = torch.where(self.bounded, self.low + self.width * _share_of(t), t)
        found = torch.where(self.positive, t.exp(), found) if "positive" in self.kinds else found
        return torch.where(self.scaled, found, x.to(found.dtype))

    def mean_in_units(
        self, mean: Float[Tensor, "*lead fields"], spread: Float[Tensor, "#*lead fields"]
    ) -> Float[Tensor, "*lead fields"]:
        """E[x] in the user's units, where u has these means and standard deviations.

        This uses Gauss-Hermite quadrature for bounded fields, and is exact for the others.
        """
        found = self.in_units(mean)
        if "positive" in self.kinds:
            of_log = mean.to(found.dtype) * self.std + self.mean + 0.5 * (spread.to(found.dtype) * self.std).square()
            found = torch.where(self.positive, of_log.exp(), found)
        if "bounded" in self.kinds:
            nodes, weights = (torch.from_numpy(a).to(found) for a in np.polynomial.hermite_e.hermegauss(NODES))
            center, std, low, width = (
                values.expand_as(self.low).index_select(0, self.within)
                for values in (self.mean, self.std, self.low, self.width)
            )
            mean, spread = mean.index_select(-1, self.within), spread.index_select(-1, self.within)
            total = torch.zeros_like(mean, dtype=found.dtype)
            for node, weight in zip(nodes, weights / math.sqrt(2 * math.pi), strict=True):
                t = (mean + node * spread).to(found.dtype) * std + center
                total = total + weight * (low + width * _share_of(t))
            found = found.index_copy(-1, self.within, total)
        return found

    def log_slope(self, u: Float[Tensor, "rows fields"]) -> Float[Tensor, "rows fields"]:
        """log |du/dx| of every value; 0 for the fields that are modelled as they are."""
        slope = -self.std.log()
        if {"positive", "bounded"} & self.kinds:
            t = u.to(self.mean.dtype) * self.std + self.mean
            own = torch.where(self.positive, -t, 0.0)
            if "bounded" in self.kinds:
                of_share = math.log1p(-2 * MARGIN) - self.width.log()
                logit = of_share - torch.nn.functional.logsigmoid(t) - torch.nn.functional.logsigmoid(-t)
                own = torch.where(self.bounded, logit, own)
            slope = own + slope
        return torch.where(self.scaled, slope, 0.0).to(u.dtype).expand_as(u)

    def as_features(self, x: Float[Tensor, "rows fields"]) -> Float[Tensor, "rows fields"]:
        """Modelled values as an encoder sees them: all standardised, counts by their logarithm."""
        if self.kinds <= set(SCALED):
            return x
        t = x.to(self.mean.dtype)
        t = torch.where(self.counted, x.clamp(min=0).log1p().to(t.dtype), t) if "count" in self.kinds else t
        return torch.where(self.scaled, x.to(t.dtype), (t - self.mean) / self.std).to(x.dtype)

    def invalid_values(
        self, x: Shaped[Tensor, "rows fields"], observed: Bool[Tensor, "rows fields"] | None = None
    ) -> tuple[Bool[Tensor, "rows fields"], str]:
        """Which observed values in the user's units are impossible, and what the first such field can have."""
        x = x.double()
        bad, possible = ~x.isfinite(), ["finite numbers"] * len(self.fields)
        for i, field in enumerate(self.fields):
            if field.kind not in ("real", "date"):
                least, most, whole, possible[i] = _range(field)
                own = x[:, i]
                bad[:, i] |= ~((own >= least) & (own <= most)) | (whole & (own != own.round()))
                bad[:, i] |= (field.kind == "positive") & (own == 0)
        bad = bad if observed is None else bad & observed
        first = int(bad.any(0).long().argmax())
        return bad, f"{possible[first]} in the field {self.fields[first].name!r}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As in `Scaling`."""
        for name in ("least", "most"):
            if isinstance(saved := state_dict.get(prefix + name), Tensor):
                setattr(self, name, saved.to(self.mean.device, self.mean.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _share_of(log_odds: Tensor) -> Tensor:
    """The position of a bounded field's value in its range, from 0 to 1."""
    return ((log_odds.sigmoid() - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)


def _range(field: Field) -> tuple[float, float, bool, str]:
    """The least and the largest value of a field, whether all are whole numbers, and this in words."""
    classes = field.classes or 2
    match field.kind:
        case "positive":
            return 0.0, math.inf, False, "numbers > 0"
        case "bounded":
            return field.low or 0.0, field.high or 0.0, False, f"numbers from {field.low:g} to {field.high:g}"
        case "count":
            return 0.0, math.inf, True, "whole numbers ≥ 0"
        case "binary":
            return 0.0, 1.0, True, "0 or 1"
        case _:
            return 0.0, classes - 1.0, True, f"class numbers 0 to {classes - 1}"
