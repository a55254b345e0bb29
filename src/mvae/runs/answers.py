"""A model's predictions for a table's missing cells: points, probabilities of classes, and draws, for every row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvae.data.columns import Column
from mvae.data.table import Table
from mvae.data.tables.schema import TOKEN
from mvae.data.tables.tensors import arrays_of, table_of
from mvae.evaluation.impute import between, draws_of_columns, point_of_columns, resampled
from mvae.evaluation.proposal import log_joint, truncated, weighted_samples
from mvae.gaussian import Gaussian
from mvae.modality.columns import ColumnsModality
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.mixture import Mixture

__all__ = ["AT_ONCE", "SAMPLES", "Answer", "answers", "draws_given", "latents", "rows_at_once", "scores"]

SAMPLES = 400  # samples of z, by default
AT_ONCE = 1 << 22  # samples × values held together: more would fill memory, and no longer fit the processor's caches
ROWS = 1_000  # the most rows answered together
BLOCKS = 32  # of fields that are scored by the same samples: more would take more time, and hardly be more exact

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Answer:
    """The predictions for one modality of columns.

    Attributes:
        point: the mean of numbers, the most probable class, or the median of ordered classes, ``rows fields``.
        draws: samples of the values, ``draws rows fields``.
        probabilities: index of a field with classes → ``rows classes``.
        log_p: log p of each true value given the row's observed values, ``rows fields``; None without true values.
    """

    point: np.ndarray
    draws: np.ndarray
    probabilities: Mapping[int, np.ndarray]
    log_p: np.ndarray | None = None

    def between(self, share: float, place: int | slice | list[int] = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of intervals with this share of draws (`between`): ``rows fields``, or ``rows`` for one field."""
        low, high = between(torch.from_numpy(self.draws[:, :, place]), share)
        return low.numpy(), high.numpy()


@torch.no_grad()
def answers(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    of: Sequence[str],
    samples: int,
    seed: int = 0,
    *,
    draws: int | None = None,
    independent: bool = False,
    truth: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Answer]:
    """Predict modalities of columns by p(x | observed values); a row with nothing observed gets the prior's answer.

    Args:
        model: with modalities of columns.
        values: modality → values, as `TableSchema.encode` gives them.
        present: modality → which values are observed.
        of: the modalities to predict.
        samples: samples of z per row, weighted by p(row, z) (`mvae.evaluation.proposal`).
        seed: seed of the draws.
        draws: number of draws of x, 0 for none; default one per sample.
        independent: use different noise for different rows. By default all rows share it, so that a row's means and
            probabilities depend on that row alone.
        truth: which of ``values`` are true values, including those that ``present`` hides; their log p is computed.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    with evaluating(model):
        z, weight, decoded = _weighted(model, values, present, samples, generator, independent=independent)
        chosen = resampled(weight, samples, generator)[:draws]
        found = {}
        for name in of:
            modality = model.modalities[name]
            assert isinstance(modality, ColumnsModality)
            params = decoded[name] if name in decoded else modality.parameters_of(z)
            points, classes = point_of_columns(modality, params, weight)
            at = {i: field.name for i, field in enumerate(modality.fields) if field.name in classes}
            shares = {i: classes[field].double().cpu().numpy() for i, field in at.items()}
            plausible = np.empty((0, *points.shape))
            if len(chosen):
                drawn = draws_of_columns(modality, params, weight, chosen, generator)
                plausible = drawn.double().cpu().numpy()
            log_p = None if truth is None else _log_p(modality, params, weight, values[name], truth[name])
            found[name] = Answer(points.cpu().numpy(), plausible, shares, log_p)
    return found


def draws_given(model: MultimodalVAE, table: Table, of: str, seed: int = 0) -> np.ndarray:
    """Draws of a modality of columns given each row's observed values, ``draws rows fields``, as in `mvae impute`.

    Args:
        model: with this modality of columns.
        table: the rows, each with something observed.
        of: the modality.
        seed: seed of the draws.
    """
    found = []
    for part in table.batches(rows_at_once(model, table.columns)):
        found.append(answers(model, *arrays_of(part), [of], SAMPLES, seed)[of].draws)
    return np.concatenate(found, 1)


def rows_at_once(model: MultimodalVAE, columns: Mapping[str, Column], samples: int = SAMPLES) -> int:
    """The number of rows of these columns that can be answered together in bounded memory."""
    wide = sum(
        own.likelihood.width
        if name in model.modalities and isinstance(own := model.modalities[name], ColumnsModality)
        else math.prod(column.shape[1:]) * (TOKEN if column.ndim == 2 else 1)
        for name, column in columns.items()
    )
    return max(1, min(ROWS, AT_ONCE // (samples * wide)))


def _weighted(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    samples: int,
    generator: torch.Generator,
    *,
    independent: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Samples of z given each row's observed values, ``samples rows latent``, and their weights.

    An empty row's samples come from the prior. The third value holds what was decoded on the way: the likelihood's
    parameters of each modality of columns that all rows have.
    """
    table, here = table_of(values, present)
    parts: dict[str, list[Tensor]] = {}
    shape = samples, len(here) if independent else 1, model.latent_dim
    z = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
    rows, prior = torch.from_numpy(here).to(model.device), model.prior
    if prior is not None and not here.all():
        z = torch.where(rows[:, None], z, prior.rsample(z, generator))
    z = z.expand(-1, len(here), -1).clone()
    weight = torch.full(z.shape[:2], 1 / samples, device=z.device, dtype=torch.float64)
    if table is not None:
        q, x = model.posterior(table), model.prepare(table)
        z[:, rows], weight[:, rows] = weighted_samples(
            model, table, x, q, z[:, rows], generator, alike=not independent, decoded=parts if here.all() else None
        )
    return z, weight, {name: torch.cat(own) for name, own in parts.items()}


def _log_p(
    modality: ColumnsModality, params: Tensor, weight: Tensor, values: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """The log of the weighted mean of p(value | z), for each value that is there; NaN for the others."""
    x = modality.prepare(torch.from_numpy(values).to(params.device), torch.from_numpy(there).to(params.device))
    each = torch.logsumexp(modality.likelihood.elementwise(params, x) + weight.log()[..., None], 0)
    each = each + modality.scaling.log_slope(x)
    return torch.where(x.isnan(), torch.nan, each).double().cpu().numpy()


@torch.no_grad()
def latents(
    model: MultimodalVAE, values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of q(z | observed values), ``rows latent``; an empty row has the prior's."""
    table, here = table_of(values, present)
    mean, spread = np.zeros((len(here), model.latent_dim)), np.ones((len(here), model.latent_dim))
    if table is not None:
        q = model.posterior(table)
        mean[here], spread[here] = (part.double().cpu().numpy() for part in (q.mean, q.stddev))
    return mean, spread


@torch.no_grad()
def scores(
    model: MultimodalVAE,
    values: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    samples: int,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """log p of each row's observed values, and of each part given the rest of its row; NaN where nothing is observed.

    The parts are the modalities or, where there is only one, its fields. All rows share their noise, so that a row's
    scores depend on that row alone.
    """
    table, here = table_of(values, present)
    names = [name for name in model.names if name in values]
    total = np.full(len(here), np.nan)
    if table is not None:
        total[here] = _log_p_of_rows(model, table, samples, seed)
    modality = model.modalities[names[0]]
    if len(names) > 1 or not isinstance(modality, ColumnsModality):
        several = names if len(names) > 1 else ()
        return total, {name: _part_given_the_rest(model, name, (values, present), samples, seed) for name in several}
    fields = len(modality.fields)
    found = np.empty((len(here), fields))
    for first in range(min(BLOCKS, fields)):  # neighbours, often alike, are in different blocks
        places = list(range(first, fields, BLOCKS))
        found[:, places] = _given_the_rest(model, names[0], places, (values, present), samples, seed)
    return total, {field.name: found[:, i] for i, field in enumerate(modality.fields)}


def _log_p_of_rows(model: MultimodalVAE, table: Table, samples: int, seed: int) -> np.ndarray:
    """log p of each row's observed values, by samples of its q(z | ·)."""
    generator = torch.Generator(model.device).manual_seed(seed)
    with evaluating(model):
        q, x = model.posterior(table), model.prepare(table)
        noise = torch.randn(samples, 1, model.latent_dim, generator=generator, device=model.device, dtype=q.mean.dtype)
        noise = noise.expand(-1, len(table), -1)
        z = _drawn(q, noise, generator)
        log_w = log_joint(model, table, x, z) - q.log_prob(z)
    return (log_w.double().logsumexp(0) - math.log(samples)).cpu().numpy()


def _part_given_the_rest(
    model: MultimodalVAE,
    name: str,
    data: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    samples: int,
    seed: int,
) -> np.ndarray:
    """log p of a modality given all others of its row; for classes it is never above 0.

    p(x_i | rest) is a mean of p(x_i | z), weighted by p(rest, z). Half of the samples come from q(z | rest), or, if it
    is empty, from the prior, and half from q(z | the whole row), because almost no z proposed by the rest
    alone explains a picture or many columns.
    """
    values, present = data
    own = present[name].reshape(len(present[name]), -1).any(1)
    others = {n: np.zeros_like(mask) if n == name else mask for n, mask in present.items()}
    rest = np.stack([mask.reshape(len(mask), -1).any(1) for mask in others.values()]).any(0)
    found = np.full(len(present[name]), np.nan)
    for rows, alone in ((own & rest, False), (own & ~rest, True)):
        if rows.any():
            own_values, whole, some = ({n: m[rows] for n, m in each.items()} for each in (values, present, others))
            generator = torch.Generator(model.device).manual_seed(seed)
            with evaluating(model):
                x = model.prepare(Table(own_values, whole))
                z, log_w = _weighted_by_both(model, own_values, whole, None if alone else some, samples, generator)
                log_p = model.modalities[name].log_prob(x[name], z, model.context(x)).double()
                found[rows] = ((log_w + log_p).logsumexp(0) - log_w.logsumexp(0)).cpu().numpy()
    return found


def _weighted_by_both(
    model: MultimodalVAE, values: Values, whole: Values, rest: Values | None, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Samples of z, ``samples rows latent``, and their log weights by p(rest, z); without a rest, by p(z).

    One half is drawn given the rest, the other given the whole row; all rows share their noise.
    """
    table = Table(dict(values), dict(whole))
    given = None if rest is None else Table(dict(values), dict(rest))
    shape = samples, 1, model.latent_dim
    noise = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
    first, second = noise.tensor_split(2)
    if given is None:
        prior = model.prior or Gaussian.standard(1, model.latent_dim, device=model.device, dtype=model.dtype)
        one, log_p = prior.rsample(first, generator).expand(-1, len(table), -1), prior.log_prob
    else:
        q = model.posterior(given)
        one, log_p = _drawn(q, first.expand(-1, len(table), -1), generator), q.log_prob
    q_whole = model.posterior(table)
    z = torch.cat([one, _drawn(q_whole, second.expand(-1, len(table), -1), generator)])
    shares = torch.tensor([len(first), len(second)], device=z.device, dtype=torch.float64).log() - math.log(samples)
    density = torch.stack([log_p(z).double() + shares[0], q_whole.log_prob(z).double() + shares[1]])
    joint = log_p(z) if given is None else log_joint(model, given, model.prepare(given), z)
    return z, joint.double() - density.logsumexp(0)


def _drawn(q: Gaussian | Mixture, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Samples of a posterior; rows with the same noise draw the same components of a mixture."""
    return q.rsample(noise, generator, alike=True) if isinstance(q, Mixture) else q.rsample(noise)


def _given_the_rest(
    model: MultimodalVAE,
    name: str,
    places: Sequence[int],
    data: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    samples: int,
    seed: int,
) -> np.ndarray:
    """log p of each of these fields given all others of its row, ``rows places``; never above 0 for a class.

    The samples are drawn given the fields that are not in ``places``. Each field then weighs them by p(x | z) of the
    other places, too.
    """
    values, present = data
    own = np.flatnonzero(present[name][:, places].any(1))
    found = np.full((len(present[name]), len(places)), np.nan)
    if len(own):
        others, truth = present[name][own], np.zeros_like(present[name][own])  # copies
        truth[:, places] = others[:, places]
        others[:, places] = False
        modality = model.modalities[name]
        assert isinstance(modality, ColumnsModality)
        generator = torch.Generator(model.device).manual_seed(seed)
        known = values[name][own]
        with evaluating(model):
            z, weight, decoded = _weighted(model, {name: known}, {name: others}, samples, generator)
            params = decoded[name] if name in decoded else modality.parameters_of(z)
            x = modality.prepare(torch.from_numpy(known).to(z.device), torch.from_numpy(truth).to(z.device))
            each = modality.likelihood.elementwise(params, x)[..., places].double()  # 0 where missing
            rest = truncated(weight.log()[..., None] + each.sum(-1, keepdim=True) - each).log()
            log_p = torch.logsumexp(rest + each, 0) + modality.scaling.log_slope(x)[:, places]
            found[own] = torch.where(x[:, places].isnan(), torch.nan, log_p).double().cpu().numpy()
    return found
