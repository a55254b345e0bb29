"""Likelihoods by importance sampling (Sec. 5, App. D; Tables 2, 3, 6, 7).

For any proposal q(z) that covers the posterior, log p(x) = log E_q[w] with w = p(x | z) p(z) / q(z). One pass over
samples of a proposal gives every estimate at once, because they differ only in which log p(x_i | z) are added:

    marginal     log p(x1)       log w = log p(x1 | z)                  + log p(z) − log q(z)
    joint        log p(x1, x2)   log w = log p(x1 | z) + log p(x2 | z)  + log p(z) − log q(z)
    conditional  log p(x1 | x2) = log p(x1, x2) − log p(x2)

The conditional's weights p(x1 | z) p(z | x2) / q(z) with the exact p(z | x2) = p(x2 | z) p(z) / p(x2) are the joint's,
times a constant, so their log-variance is the joint's for the same proposal.

p(z) is N(0, I) or the fitted prior (`mvae.models.prior`), which is also normalised, so the estimate stays valid.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvae.arguments import SEEDS, checked_arguments, require_whole_number
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.importance import CHUNK, ENCODED, Pass
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.networks.products import best_products

__all__ = ["Denominator", "LogLikelihood", "log_likelihood", "log_likelihoods"]


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """An estimate of log p, in nats, for each row that has a scored modality.

    Attributes:
        rows: which rows of the table were scored.
        values: log p of each of these rows.
        effective_samples: (Σ w)² / Σ w², out of the samples drawn; near 1 the estimate rests on one sample.
        pareto_k: tail index k̂ of the weights, of a conditional the larger one of its numerator and its denominator.
            Above 0.7 the estimate is biased and its error unreliable: a conditional may be too low or too high, any
            other is too low. −∞ if all weights are equal to the precision of float32, NaN for 20 samples or fewer,
            which are too few to tell.
        log_weight_variance: variance over samples of log w, of each row (Table 3 averages it over rows).
    """

    rows: Int[Tensor, "n"]
    values: Float[Tensor, "n"]
    effective_samples: Float[Tensor, "n"]
    pareto_k: Float[Tensor, "n"]
    log_weight_variance: Float[Tensor, "n"]

    def of_rows(self, chosen: Bool[Tensor, "rows"]) -> "LogLikelihood | None":
        """The estimate for these rows of the table only; None if none of them was scored."""
        kept = chosen.to(self.rows.device)[self.rows]
        own = {field.name: getattr(self, field.name)[kept] for field in fields(self)}
        return LogLikelihood(**own) if kept.any() else None

    @property
    def mean(self) -> float:
        """Mean over rows."""
        return float(self.values.double().mean())

    @property
    def standard_error(self) -> float:
        """Standard error of that mean, over rows."""
        n = len(self.values)
        return float(self.values.double().std() / math.sqrt(n)) if n > 1 else math.nan

    @property
    def variance(self) -> float:
        """Mean over rows of the variance of log w: Table 3's number."""
        return float(self.log_weight_variance.double().mean())

    def __repr__(self) -> str:
        k = float(self.pareto_k.mean())
        return (
            f"LogLikelihood({self.mean:.3f} ± {self.standard_error:.3f} nats, {len(self.values)} rows, "
            f"ESS {float(self.effective_samples.mean()):.1f}, "
            f"{'k̂ needs more than 20 samples' if math.isnan(k) else f'k̂ {k:.2f}'})"
        )


@checked_arguments("samples", error=QueryError)
@dataclass(frozen=True)
class Denominator:
    """How log p(given), the denominator of a conditional, is estimated.

    Args:
        how: "importance": half of the draws from q(z | given) and half from the prior, so that no weight is large even
            where the posterior is too narrow (a label's often is, and sampling from it alone is then biased by tenths
            of a nat). "prior": the paper's E_p(z)[p(given | z)], hopeless for anything as informative as an image.
        samples: the number of draws; default 5,000 for "prior" (Sec. 5), else that of the numerator, and up to 20 times
            as many if rows share the given values, as with labels.

    Raises:
        QueryError: an unknown ``how``, or fewer than two draws.
    """

    how: str = "importance"
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.how not in ("importance", "prior"):
            raise QueryError(f"the denominator is estimated by 'importance' or from the 'prior', not by {self.how!r}")
        if self.samples is not None:
            require_whole_number("the denominator's samples", self.samples, 2)


@checked_arguments("data", "of", "given", "proposal", "samples", error=QueryError)
def log_likelihood(
    model: MultimodalVAE,
    data: Data,
    of: Sequence[str],
    given: Sequence[str] = (),
    proposal: Sequence[str] | None = None,
    samples: int = 1000,
    denominator: Denominator = Denominator(),
    seed: int = 0,
) -> LogLikelihood:
    """Estimate log p(of | given) of every row by importance sampling.

    Args:
        model: any model with a joint distribution.
        data: a table, a mapping of arrays or a data frame. Each row is evaluated on its observed modalities among
            ``of``, ``given`` and the proposal's; rows with none of ``of`` are left out.
        of: the modalities scored.
        given: the modalities conditioned on.
        proposal: samples come from q(z | proposal). Default: q(z | of and given), the best this model has. Sec. 5's
            tables use ["image"] (Table 2) and ["image", "label"] (Table 6). Sec. 5 prints q(z | x2) for the
            conditional; it is possible here, but a label's posterior is far too wide for 1,000 samples to hit an
            image's (look at the effective sample size), and the estimate is then off by hundreds of nats.
        samples: draws from the proposal per row. Sec. 5: 1,000 (100 on CelebA).
        denominator: how log p(given) is estimated, and with how many draws.
        seed: the seed of all draws.

    Raises:
        QueryError: an unknown modality, one both scored and given, no row with anything of ``of``, or samples < 2.
        DataError: data that does not fit the model.

    >>> from mvae.networks.mlp import mlp
    >>> model = mvae.MVAE({"x": mvae.Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian())}, latent_dim=2)
    >>> result = mvae.log_likelihood(model, {"x": torch.randn(5, 3)}, of=["x"], samples=50)
    >>> len(result.values)
    5
    """
    key = "log p"
    queries = {key: (of, given)}
    return log_likelihoods(
        model, data, queries, proposal=proposal, samples=samples, denominator=denominator, seed=seed
    )[key]


@torch.no_grad()
@checked_arguments("data", "proposal", "samples", error=QueryError)
def log_likelihoods(
    model: MultimodalVAE,
    data: Data,
    queries: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    *,
    proposal: Sequence[str] | None = None,
    samples: int = 1000,
    denominator: Denominator = Denominator(),
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> dict[str, LogLikelihood]:
    """Several estimates from one pass over one proposal's samples: name → (of, given), as in `log_likelihood`.

    The default proposal is q(z | everything any query names). ``progress`` is called with the completed share of the
    passes over rows, from 0 to 1; each denominator is a pass.
    """
    samples = require_whole_number("samples", samples, 2)
    require_whole_number("seed", seed, 0, SEEDS)
    plans = {}
    for name, (of, given) in queries.items():
        _check_query(model, of, given, proposal)
        plans[name] = model.plan_query(of, given)
    table = model.as_table(data)
    named = [name for name in model.names if any(name in (*of, *given) for of, given in queries.values())]
    proposal = named if proposal is None else proposal
    passes, done = 1 + sum(bool(divided) for _, divided in plans.values()), 0.0

    def scored(share: float) -> None:
        nonlocal done
        done += share / passes
        if progress is not None:
            progress(min(done, 1.0))

    result = {}
    pairs = CHUNK.get(model.device.type, CHUNK["cuda"])
    with evaluating(model), best_products(model, pairs, passes * samples * len(table)):
        numerator = Pass(model, table, [names for names, _ in plans.values()], proposal, samples, seed, scored)
        for (name, (of, _)), found in zip(queries.items(), numerator.run(), strict=True):
            has = torch.stack([table.has(name) for name in of if name in model.names]).any(0)
            if not has.any():
                raise QueryError(f"no row of the table has any of {', '.join(of)}")
            values, effective, k, variance = found
            if divided := plans[name][1]:
                divisor, its_k = _divisor(numerator, divided, denominator)
                values, k = values - divisor, torch.maximum(k, its_k)
            parts = (part[has] for part in (values, effective, k, variance))
            result[name] = LogLikelihood(has.nonzero().flatten(), *parts)
    return result


def _divisor(
    numerator: Pass, given: Sequence[str], how: Denominator
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
    """log p(given) of every row, and its k̂. Equal rows (of ten labels, say) are estimated once, with more draws."""
    table, samples = numerator.table, numerator.samples
    subset, inverse = _distinct(table, [*given, *numerator.model.covariates])
    importance = how.how == "importance"
    draws = how.samples or (samples * min(20, len(table) // len(subset)) if importance else 5000)
    proposal = given if importance else ()
    other = replace(numerator, table=subset, sums=[given], proposal=proposal, samples=draws, defensive=importance)
    values, _, k, _ = replace(other, seed=numerator.seed + 1).run()[0]
    return values[inverse], k[inverse]


def _distinct(table: Table, given: Sequence[str]) -> tuple[Table, Tensor]:
    """The distinct rows of the given modalities, and the index of each row among them; read a chunk at a time."""
    columns = [name for name in given if name in table.columns]
    place: dict[bytes, int] = {}  # a digest of a row's given values → its index
    first, inverse = [], []
    for rows in torch.arange(len(table)).split(ENCODED):
        digests = [hashlib.blake2b(digest_size=16) for _ in rows]
        for name in columns:
            column, there = table.select_rows(name, rows).cpu().reshape(len(rows), -1), table.has(name)[rows, None]
            if (observed := table.values_of(name, rows)) is not None:
                there = observed.cpu().reshape(len(rows), -1)
            values = torch.where(there, column, torch.zeros_like(column)).view(torch.uint8).numpy()
            for digest, row, here in zip(digests, values, there.numpy(), strict=True):
                digest.update(here.tobytes() + row.tobytes())
        for row, digest in zip(rows.tolist(), digests, strict=True):
            at = place.setdefault(digest.digest(), len(first))
            if at == len(first):
                first.append(row)
            inverse.append(at)
    return table.take(torch.tensor(first)), torch.tensor(inverse)


def _check_query(model: MultimodalVAE, of: Sequence[str], given: Sequence[str], proposal: Sequence[str] | None) -> None:
    for names, what in ((of, "of"), (given, "given"), (() if proposal is None else proposal, "proposal")):
        model.require_known(names, what)
    if not of:
        raise QueryError("of=[...] names no modality to score")
    for names in (of, given):
        for name in names:
            if list(names).count(name) > 1:
                raise QueryError(f"{name} is named twice")
    both = set(of) & set(given)
    if both:
        raise QueryError(f"{', '.join(sorted(both))} cannot be both scored and given")
