"""Imputation of missing values: draws, means and intervals from p(missing | observed), by importance resampling.

z is drawn and weighted so that answers come from the model's own posterior, not from its encoder's approximation
(Mattei & Frellsen 2019; `mvae.evaluation.proposal`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mvae.arguments import SEEDS, fits, require_whole_number
from mvae.data.fields import Field
from mvae.data.table import Column, Table
from mvae.errors import QueryError, abridged
from mvae.evaluation.proposal import average, weighted_samples
from mvae.likelihoods.ordinal import Ordinal
from mvae.modality.base import Modality
from mvae.modality.columns import ColumnsModality
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.models.queries import parts_of

__all__ = [
    "Imputed",
    "best_class",
    "between",
    "draws_of_columns",
    "impute",
    "imputed_parts",
    "point_of_columns",
    "resampled",
]


EXACT = 1e-9  # tolerance of a place among draws: a share of them is rarely exact in binary


@dataclass(frozen=True, eq=False)
class Imputed:
    """Rows with all missing values filled in; observed values are unchanged.

    Attributes:
        table: the rows; a missing number is replaced by its mean, a missing class by the most probable one, and a
            missing ordered class by the median.
        draws: modality → ``draws rows event…``; each draw has a plausible value in every missing place.
        low: modality → ``rows event…``, the lower end of each value's interval (for an observed value, itself).
        high: the upper end.
        probabilities: modality → field → ``rows classes``, the class probabilities of a modality of columns, given the
            row's observed values; a modality of classes has the field ``""``. For an observed class they are the
            model's probabilities, not 0 and 1.
        effective_samples: of z, in each row; near 1, its answers rest on a single sample.
    """

    table: Table
    draws: dict[str, Shaped[Tensor, "draws rows *event"]]
    low: dict[str, Shaped[Tensor, "rows *event"]]
    high: dict[str, Shaped[Tensor, "rows *event"]]
    probabilities: dict[str, dict[str, Float[Tensor, "rows classes"]]]
    effective_samples: Float[Tensor, "rows"]

    def __repr__(self) -> str:
        draws = next(iter(self.draws.values()), ())
        return f"Imputed({self.table!r}, {len(draws)} draws)"


def impute(
    model: MultimodalVAE, data: Data, draws: int = 20, interval: float = 0.9, *, seed: int = 0, samples: int = 400
) -> Imputed:
    """Fill in the missing modalities and the missing single values of rows.

    Args:
        model: a trained model.
        data: the rows. A modality of the model that is not among its columns is filled in for every row.
        draws: the number of plausible values for each missing one (multiple imputation), at most ``samples``.
        interval: the probability with which a missing value lies between ``low`` and ``high``.
        seed: the seed of all draws.
        samples: the number of samples of z per row. More make intervals smoother and means more exact.

    Raises:
        QueryError: a number or an interval outside its range, or a modality that was never trained.
        DataError: data that does not fit the model.

    >>> model = mvae.MVAE({"labs": mvae.Columns.of(["hb", "crp"], latent_dim=2)}, latent_dim=2)
    >>> labs = torch.tensor([[7.1, float("nan")], [6.5, 3.0]])
    >>> found = impute(model, mvae.Table({"labs": labs}, present={"labs": ~labs.isnan()}), draws=5)
    >>> found
    Imputed(Table(2 rows; labs: 2 float64), 5 draws)
    >>> found.table["labs"][1], found.draws["labs"].shape
    (tensor([6.5000, 3.0000], dtype=torch.float64), torch.Size([5, 2, 2]))
    """
    parts = list(imputed_parts(model, data, draws, interval, seed=seed, samples=samples))

    def joined(values: Sequence[Mapping[str, Any]], rows_axis: int = 0) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in values], rows_axis) for name in values[0]}

    return Imputed(
        Table(joined([part.table.columns for part in parts])),
        joined([part.draws for part in parts], 1),
        joined([part.low for part in parts]),
        joined([part.high for part in parts]),
        {name: joined([part.probabilities[name] for part in parts]) for name in parts[0].probabilities},
        torch.cat([part.effective_samples for part in parts]),
    )


def imputed_parts(
    model: MultimodalVAE, data: Data, draws: int = 20, interval: float = 0.9, *, seed: int = 0, samples: int = 400
) -> Iterator[Imputed]:
    """`impute` in parts of bounded memory, in the rows' order, for tables of any length.

    Raises:
        QueryError, DataError: as `impute`, before the first part.
    """
    require_whole_number("samples", samples, 2)
    require_whole_number("draws", draws, 1)
    seed = require_whole_number("seed", seed, 0, SEEDS)
    if draws > samples:
        raise QueryError(f"draws must be at most samples, {samples}, not {draws}")
    if not fits(interval, float) or not 0 < interval < 1:
        raise QueryError(f"the interval's probability must be between 0 and 1, not {abridged(interval)}")
    model.require_known(model.names)
    table = model.as_table(data)
    generator = torch.Generator(model.device).manual_seed(seed)
    with evaluating(model):
        for batch in parts_of(table, samples, max(1, _width(model) // 2)):
            with torch.no_grad():  # not around the yield, where the caller's code runs
                part = _Part(model, batch, samples, generator).imputed(draws, interval)
            yield part


def _width(model: MultimodalVAE) -> int:
    """The approximate number of values that the decoders return for one z."""
    columns = [2 * own.likelihood.width for own in model.modalities.values() if isinstance(own, ColumnsModality)]
    others = [name for name, own in model.modalities.items() if not isinstance(own, ColumnsModality)]
    return max([*columns, model.values_of(others)])


class _Part:
    """A few rows, samples of z for each of them, and the samples' weights."""

    def __init__(self, model: MultimodalVAE, batch: Table, samples: int, generator: torch.Generator):
        self.model, self.batch, self.generator = model, batch, generator
        self.x = x = model.prepare(batch)
        shape = samples, len(batch), model.latent_dim
        noise = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
        parts: dict[str, list[Tensor]] = {}
        q = model.posterior_of(batch)
        self.z, self.weight = weighted_samples(model, batch, x, q, noise, generator, decoded=parts)
        self.decoded = {name: torch.cat(own) for name, own in parts.items()}
        self.context = model.context(x)
        self.chosen = resampled(self.weight, samples, generator)

    def imputed(self, draws: int, interval: float) -> Imputed:
        columns: dict[str, Column] = {}
        all_draws, low, high, probabilities = {}, {}, {}, {}
        z = self.z.gather(0, self.chosen[..., None].expand(-1, -1, self.z.shape[-1]))
        for name, modality in self.model.modalities.items():
            if isinstance(modality, ColumnsModality):
                params = self.decoded[name] if name in self.decoded else modality.parameters_of(self.z, self.context)
                drawn = draws_of_columns(modality, params, self.weight, self.chosen, self.generator)
                point, classes = point_of_columns(modality, params, self.weight)
            else:
                drawn = modality.generate(z, self.context, generator=self.generator)
                point, classes = self._point(modality)
            here, own = self._observed(name, drawn)
            columns[name] = torch.where(here, own, point.to(drawn.dtype).reshape(drawn.shape[1:]))
            drawn = torch.where(here, own, drawn)
            all_draws[name] = drawn[:draws].clone().cpu()  # a slice alone would keep all of them
            low[name], high[name] = (torch.where(here, own, end).cpu() for end in between(drawn, interval))
            if classes:
                probabilities[name] = {field: p.cpu() for field, p in classes.items()}
        filled = Table({name: cast("Tensor", column).cpu() for name, column in columns.items()})
        effective = 1 / self.weight.square().sum(0)
        return Imputed(filled, all_draws, low, high, probabilities, effective.cpu())

    def _observed(self, name: str, like: Shaped[Tensor, "draws rows *event"]) -> tuple[Tensor, Tensor]:
        """Which values of a modality are observed, and the values, in the shape of generated ones."""
        batch, event = self.batch, like.shape[2:]
        if name not in batch.columns:
            return torch.zeros(like.shape[1:], dtype=torch.bool, device=like.device), torch.zeros_like(like[0])
        here = batch.has(name).reshape(-1, *[1] * len(event)).expand(len(batch), *event)
        if name in batch.observed:
            here = batch.observed[name].reshape(len(batch), *event)
        own = cast("Tensor", batch.columns[name]).to(like.device).reshape(len(batch), *event)
        exact = like.is_floating_point() and own.dtype in (torch.int32, torch.int64, torch.float64)
        return here.to(like.device), own.to(torch.float64 if exact else like.dtype)

    def _point(self, modality: Modality) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Each row's mean of numbers and most probable classes, and the classes' probabilities."""
        w = self.weight
        if isinstance(modality.likelihood, Ordinal):
            params = modality.decode(self.z, self.context)
            chances = modality.likelihood.probabilities(params.reshape(*self.z.shape[:-1], *params.shape[1:]))
            p = average(w, chances)
            return _median(p), {"": p.flatten(1)} if p[0].numel() == p.shape[-1] else {}
        mean = modality.generate(self.z, self.context, mean=True)
        if not mean.is_floating_point():  # a string: the one written from the z of the largest weight
            best = w.argmax(0)
            return mean[best, torch.arange(mean.shape[1], device=mean.device)], {}
        mean = average(w, mean)
        if modality.likelihood.discrete and modality.likelihood.parameters_per_value is None:
            return mean.argmax(-1), {"": mean} if mean.dim() == 2 else {}
        return mean, {}


def point_of_columns(
    modality: ColumnsModality, params: Float[Tensor, "samples rows size"], weight: Float[Tensor, "samples rows"]
) -> tuple[Float[Tensor, "rows fields"], dict[str, Tensor]]:
    """Each row's mean of numbers and best class (`best_class`), and the class probabilities by field.

    Args:
        modality: a modality of columns.
        params: its likelihood's parameters, for all samples of z.
        weight: the samples' weights, which sum to 1 in each row.
    """
    each = modality.scaling.near_training(modality.means(params).to(torch.float64))
    point = average(weight, each)
    classes = {field: average(weight, p) for field, p in modality.likelihood.probabilities(params).items()}
    for i, field in enumerate(modality.fields):
        if field.name in classes:
            point[:, i] = best_class(field, classes[field.name].double()).to(point.dtype)
    return point, classes


def draws_of_columns(
    modality: ColumnsModality,
    params: Float[Tensor, "samples rows size"],
    weight: Float[Tensor, "samples rows"],
    chosen: Int[Tensor, "draws rows"],
    generator: torch.Generator,
) -> Float[Tensor, "draws rows fields"]:
    """Plausible values for the chosen samples of z, stretched about the mean of all samples and clamped near training.

    Args:
        modality: a modality of columns.
        params: its likelihood's parameters, for all samples of z.
        weight: the samples' weights, which sum to 1 in each row.
        chosen: the indices of the samples that are drawn from (`resampled`).
        generator: the generator of the draws.
    """
    middle = average(weight, modality.likelihood.numbers(params).double())
    drawn = modality.sampled(params.gather(0, chosen[..., None].expand(-1, -1, params.shape[-1])), generator)
    return modality.scaling.near_training(modality.stretched(drawn, middle))


def best_class(field: Field, probabilities: Float[Tensor, "*rows classes"]) -> Int[Tensor, "*rows"]:
    """The class of least expected error: the most probable one; for ordered classes, the median.

    >>> share = torch.tensor([0.4, 0.25, 0.35])
    >>> [best_class(Field("stage", kind, classes=3), share).item() for kind in ("categorical", "ordinal")]
    [0, 1]
    """
    return _median(probabilities) if field.kind == "ordinal" else probabilities.argmax(-1)


def _median(probabilities: Float[Tensor, "*rows classes"]) -> Int[Tensor, "*rows"]:
    return (probabilities.cumsum(-1) < 0.5).sum(-1)


def resampled(
    weight: Float[Tensor, "samples rows"], samples: int, generator: torch.Generator
) -> Int[Tensor, "samples rows"]:
    """Indices of samples, drawn by weight (systematic resampling), in random order."""
    rows = weight.shape[1]
    start = torch.rand(rows, 1, generator=generator, device=weight.device, dtype=weight.dtype)
    place = (torch.arange(samples, device=weight.device) + start) / samples
    found = torch.searchsorted(weight.T.cumsum(1).contiguous(), place).clamp(max=len(weight) - 1)
    order = torch.rand(rows, samples, generator=generator, device=weight.device).argsort(1)
    return found.gather(1, order).T


def between(
    drawn: Shaped[Tensor, "draws *event"], share: float
) -> tuple[Shaped[Tensor, "*event"], Shaped[Tensor, "*event"]]:
    """The ends of the intervals that contain this share of the draws, of which there is at least one and none is NaN.

    The same share lies above and below. If at least that share of the draws equals the least value, such as rain of 0,
    or the largest one, the interval starts or ends there, and the whole remainder lies on the other side.

    >>> between(torch.tensor([0.0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]), 0.8)  # and not 6
    (tensor(0.), tensor(5.))
    """
    ordered = drawn.sort(0).values
    low, high, above, below = (_quantile(ordered, q) for q in ((1 - share) / 2, (1 + share) / 2, 1 - share, share))
    at_least, at_most = ((ordered == end).double().mean(0) >= (1 - share) / 2 for end in (ordered[0], ordered[-1]))
    return torch.where(at_most & ~at_least, above, low), torch.where(at_least & ~at_most, below, high)


def _quantile(ordered: Shaped[Tensor, "draws *event"], share: float) -> Shaped[Tensor, "*event"]:
    """A quantile of sorted draws; for whole numbers, one of the values drawn."""
    place = share * (len(ordered) - 1)
    below, above = math.floor(place + EXACT), math.ceil(place - EXACT)
    lower, upper = ordered[below], ordered[above]
    if not ordered.is_floating_point():
        return lower if share < 0.5 else upper
    between = torch.lerp(lower, upper, max(0.0, place - below))
    whole = (ordered == ordered.round()).all(0)
    return torch.where(whole, lower if share < 0.5 else upper, between)
