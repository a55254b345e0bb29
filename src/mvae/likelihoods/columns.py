"""Several columns of different kinds as one event: each field has its own family, and missing values are left out.

x is ``rows fields`` as `mvae.modality.columns.ColumnsModality` prepares it, with NaN where a value is missing. log p is
the sum over the observed values, which is exact because values are independent given z.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.data.fields import CLASSED, Field
from mvae.data.table import Table
from mvae.errors import DataError
from mvae.likelihoods.base import Likelihood
from mvae.likelihoods.counts import NegativeBinomial, Poisson
from mvae.likelihoods.discrete import Bernoulli, Categorical
from mvae.likelihoods.ordinal import Ordinal
from mvae.likelihoods.real import Gaussian, StudentT

__all__ = ["Fieldwise"]

CHUNK = 2**20  # values processed together
START = 0.3  # initial learned scale, in standard deviations: from 1 on, latents might never become useful
LEAST = 1e-2  # smallest learned scale, in standard deviations


@dataclass(frozen=True)
class _Group:
    """Fields of one family: their indices, their number of classes, and the slice of their parameters."""

    fields: tuple[int, ...]
    classes: int  # number of classes of categorical and ordinal fields, 2 for binary fields, else 0
    first: int
    per_value: int

    @property
    def end(self) -> int:
        return self.first + len(self.fields) * self.per_value


class Fieldwise(Likelihood):
    """The likelihood p(x | z) = Π over fields, each with its own family; the decoder gives ``N size`` parameters.

    Fields of one family are computed together. Real-valued fields are Gaussian (or Student's t) with a learned scale
    each, counts are negative binomial with a learned dispersion each (or Poisson), binary fields are Bernoulli,
    categorical fields are categorical, and ordinal fields have cumulative logits. `fit` sets the starting point to the
    training frequencies: a decoder that outputs zeros then predicts these.

    Attributes:
        size: the number of parameters that the decoder gives.
        width: the number of values and class probabilities that describe x (one for a binary field).

    >>> columns = Fieldwise([Field("hb"), Field("stage", "categorical", classes=3)])
    >>> x = torch.tensor([[0.0, 2.0], [float("nan"), 0.0]])
    >>> columns.size, columns.log_prob(torch.zeros(2, 4), x).detach()  # −½ log 2π − log 0.3 − log 3, − log 3
    (4, tensor([-0.8136, -1.0986]))
    """

    parameters_per_value = None

    def __init__(self, fields: Sequence[Field]):
        super().__init__()
        self.fields = tuple(fields)
        alike: dict[tuple[str, int], list[int]] = {}
        for i, field in enumerate(fields):
            classes = field.classes or 0 if field.kind in CLASSED else 2 * (field.kind == "binary")
            alike.setdefault((field.family or "", classes), []).append(i)
        self.families = nn.ModuleList(_FAMILIES[family](len(own), classes) for (family, classes), own in alike.items())
        self.groups: tuple[_Group, ...] = ()
        first = 0
        for (family, classes), own in alike.items():
            group = _Group(tuple(own), classes, first, classes if family == "categorical" else 1)
            self.groups, first = (*self.groups, group), group.end
        self.size = first
        self.width = sum(max(1, field.classes or 0) for field in fields)
        places = torch.tensor([i for group in self.groups for i in group.fields])
        self.places = nn.Buffer(places, persistent=False)
        self.order = nn.Buffer(places.argsort(), persistent=False)
        self.offset = nn.Buffer(torch.zeros(self.size))

    def fit(self, table: Table, name: str) -> None:
        """Set the starting point to the class frequencies and the mean counts of the observed training values."""
        rows = table.has(name).nonzero().flatten()
        seen = {i: torch.zeros(g.classes, dtype=torch.float64) for g in self.groups if g.classes for i in g.fields}
        total, number = torch.zeros(2, len(self.fields), dtype=torch.float64).unbind()
        for part in rows.split(max(1, CHUNK // len(self.fields))):
            x, here = table.observed_rows(name, part)
            total, number = total + torch.where(here, x, 0.0).sum(0), number + here.sum(0)
            for i, counts in seen.items():
                counts += torch.bincount(x[here[:, i], i].long(), minlength=len(counts))
        means, offset = (total / number.clamp(min=1)).unbind(), torch.zeros(self.size, dtype=torch.float64)
        for family, group in zip(self.families, self.groups, strict=True):
            own = slice(group.first, group.end)
            if isinstance(family, NegativeBinomial | Poisson):
                offset[own] = (torch.stack([means[i] for i in group.fields]) + 1e-3).log()
            elif group.classes:
                counts = torch.stack([seen[i] for i in group.fields])
                shares = (counts + 0.5) / (counts + 0.5).sum(-1, keepdim=True)
                if isinstance(family, Ordinal):
                    family.start_from(counts.to(family.raw_cuts))
                else:
                    offset[own] = shares[:, 1].logit() if isinstance(family, Bernoulli) else shares.log().flatten()
        self.offset = offset.to(self.offset)

    def prepare(self, x: Float[Tensor, "rows fields"], dtype: torch.dtype) -> Float[Tensor, "rows fields"]:
        """Cast to the networks' dtype: one matrix of real numbers, whatever the fields."""
        return x.to(dtype)

    def arrange(self, params: Tensor, lead: torch.Size, event: torch.Size) -> Float[Tensor, "*lead size"]:
        """Reshape the decoder's flat batch to ``lead… size``.

        Raises:
            DataError: the wrong number of fields or parameters.
        """
        if tuple(event) != (len(self.fields),):
            raise DataError(f"rows have shape {tuple(event)}; the fields need {len(self.fields)} values per row")
        if params.shape[1:].numel() != self.size:
            raise DataError(
                f"the decoder gives rows of shape {tuple(params.shape[1:])}; {self.size} parameters are needed"
            )
        return params.reshape(*lead, self.size)

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Only infinite values: NaN means missing, and the modality checks values in the user's units."""
        return x.isinf(), "finite numbers"

    def _parts(self, params: Float[Tensor, "*lead size"]) -> Iterator[tuple[Likelihood, _Group, Tensor]]:
        params = params + self.offset.to(params.dtype)
        for family, group in zip(self.families, self.groups, strict=True):
            own = params[..., group.first : group.end]
            own = own.unflatten(-1, (len(group.fields), group.per_value)) if group.per_value > 1 else own
            yield cast("Likelihood", family), group, own

    def assembled(
        self, params: Tensor, of: Callable[[Likelihood, _Group, Tensor], Tensor]
    ) -> Float[Tensor, "*lead fields"]:
        """Apply ``of`` to each family's parameters, and concatenate the results in the order of the fields."""
        found = [of(*part).to(params.dtype) for part in self._parts(params)]
        return found[0] if len(found) == 1 else torch.cat(found, -1).index_select(-1, self.order)

    def elementwise(self, params: Float[Tensor, "*lead size"], x: Float[Tensor, "rows fields"]) -> Tensor:
        """Compute log p of each value; 0 for missing values."""
        missing = x.isnan()
        safe = x.masked_fill(missing, 0.0)  # so that no gradient is NaN
        if len(self.groups) > 1:
            safe = safe.index_select(1, self.places)
        of_group = iter(safe.split([len(group.fields) for group in self.groups], 1))

        def score(family: Likelihood, group: _Group, own: Tensor) -> Tensor:
            values = next(of_group)
            return family.elementwise(own, values.long() if isinstance(family, Categorical) else values)

        return self.assembled(params, score).masked_fill(missing, 0.0)

    def log_prob(self, params: Float[Tensor, "*lead size"], x: Float[Tensor, "rows fields"]) -> Tensor:
        """Compute Σ log p over the observed values."""
        return self.elementwise(params, x).sum(-1)

    def probabilities(self, params: Float[Tensor, "*lead size"]) -> dict[str, Float[Tensor, "*lead classes"]]:
        """The class probabilities of each binary, categorical and ordinal field."""
        found = {}
        for family, group, own in self._parts(params):
            if group.classes:
                of_fields = _probabilities(family, own).unbind(-2)
                found |= {self.fields[i].name: p for i, p in zip(group.fields, of_fields, strict=True)}
        return {field.name: found[field.name] for field in self.fields if field.name in found}

    def spread(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """The standard deviations of the Gaussian fields; 0 for all other fields."""

        def scale(family: Likelihood, group: _Group, own: Tensor) -> Tensor:
            shape = *params.shape[:-1], len(group.fields)
            return family.log_s.exp().expand(shape) if isinstance(family, Gaussian) else own.new_zeros(shape)

        return self.assembled(params, scale)

    def mean(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """E[x | z] of every field; for classes, the expected class number."""

        def mean(family: Likelihood, group: _Group, own: Tensor) -> Tensor:
            found = family.mean(own)
            if isinstance(family, Categorical):
                return found @ torch.arange(group.classes, device=found.device, dtype=found.dtype)
            return found

        return self.assembled(params, mean)

    def numbers(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """E[x | z] of the fields without classes; 0 for all other fields."""

        def mean(family: Likelihood, group: _Group, own: Tensor) -> Tensor:
            shape = *params.shape[:-1], len(group.fields)
            return own.new_zeros(1).expand(shape) if group.classes else family.mean(own)

        return self.assembled(params, mean)

    def mode(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """The most probable class of binary, categorical and ordinal fields; the mean of all other fields."""
        return self.assembled(
            params, lambda family, group, own: family.mode(own) if group.classes else family.mean(own)
        )

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "*lead fields"]:
        """Draw x ~ p(x | z)."""
        return self.assembled(params, lambda family, group, own: family.sample(own, generator))

    def right(
        self, params: Float[Tensor, "rows size"], x: Float[Tensor, "rows fields"]
    ) -> tuple[Bool[Tensor, "rows fields"], Bool[Tensor, "rows fields"]]:
        """Where the mode equals a binary, categorical or ordinal value, and where such a value is observed."""
        classed = torch.tensor([f.kind in (*CLASSED, "binary") for f in self.fields], device=x.device)
        return (self.mode(params) == x) & classed, ~x.isnan() & classed


def _probabilities(family: Likelihood, own: Tensor) -> Tensor:
    """The class probabilities, as a last axis."""
    if isinstance(family, Ordinal):
        return family.probabilities(own)
    p = family.mean(own)
    return torch.stack([1 - p, p], -1) if isinstance(family, Bernoulli) else p


_FAMILIES: dict[str, Callable[[int, int], Likelihood]] = {
    "gaussian": lambda values, _: Gaussian(START, learned=True, least=LEAST, values=values),
    "student": lambda values, _: StudentT(START, learned=True, least=LEAST, values=values),
    "negative-binomial": lambda values, _: NegativeBinomial(values),
    "poisson": lambda *_: Poisson(),
    "bernoulli": lambda *_: Bernoulli(),
    "categorical": lambda *_: Categorical(),
    "ordinal": lambda values, classes: Ordinal(classes, values),
}
