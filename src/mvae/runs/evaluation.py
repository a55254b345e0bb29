"""Log-likelihoods of a run's test rows, and the other instruments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.likelihood import Denominator, LogLikelihood, log_likelihoods
from mvae.evaluation.validation import validate
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import richest
from mvae.runs.run import Run

__all__ = ["Evaluation", "evaluate", "part_of", "tested"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The likelihoods and other instruments of a table.

    Attributes:
        likelihoods: likelihoods by name; the joint and the conditional one are of rows with x1 and something of x2.
        instruments: other instruments by name (`mvae.evaluation.validation`).
        rows: number of rows of the table.
        proposal: modalities that q(z | ·), from which the samples came, was conditioned on.
        proposal_x1: the same for log p(x1).
        samples: importance samples per row.
    """

    likelihoods: Mapping[str, LogLikelihood]
    instruments: Mapping[str, float]
    rows: int
    proposal: tuple[str, ...]
    proposal_x1: tuple[str, ...]
    samples: int

    @property
    def source(self) -> str:
        """Where the samples came from, in words."""
        one, other = (f"q(z | {', '.join(names)})" for names in (self.proposal_x1, self.proposal))
        return one if one == other else f"{one} for log p(x1), of {other} for the others"

    def conditional_gap(self) -> float | None:
        """The mean of log p(x1, x2) − log p(x1 | x2), which is log p(x2): −2.30 for ten equally frequent classes."""
        joint, conditional = self.likelihoods.get("log p(x1,x2)"), self.likelihoods.get("log p(x1|x2)")
        return None if joint is None or conditional is None else joint.mean - conditional.mean


def tested(run: Run) -> Table:
    """The test rows that the model can be evaluated on; for a CVAE, those that have its condition.

    Raises:
        QueryError: there is no such row.
    """
    table, conditions = run.data.test, [name for name in run.model.known if name not in run.model.names]
    if not conditions or (has := table.presence(conditions).all(1)).all():
        return table
    if not has.any():
        raise QueryError(f"no test row has {conditions[0]}, the condition of this model: give some of them one")
    return table.take(has)


def _proposal(
    model: MultimodalVAE, table: Table, paired: Bool[Tensor, "rows"], names: tuple[str, ...]
) -> tuple[tuple[str, ...], Table]:
    """The modalities whose posterior proposes z for the paired rows, and a table of the rows that can be scored.

    They are the richest ones, such as a picture; all if a row lacks these; a single one if the model has no posterior
    of several. The rows are all, or the paired ones if the model has no posterior for some of the others.
    """
    rich = tuple(name for name in richest(model.modalities, model.latent_dim, model.context_dim) if name in names)
    rows = table if model.has_posterior(table, names) else table.take(paired)

    def had(some: Sequence[str]) -> bool:
        return bool(some) and bool(torch.stack([table.has(name) for name in some]).any(0)[paired].all())

    wanted = [some for some in (rich, names, rich[:1]) if had(some)]
    return next((some for some in wanted if model.has_posterior(rows, some)), names[:1]), rows


def _in_two_passes(
    score: Callable[..., dict[str, LogLikelihood]],
    queries: Mapping[str, tuple[list[str], list[str]]],
    marginal: tuple[Table, tuple[str, ...]],
    joint: tuple[Table, tuple[str, ...]],
    rows_of: Int[Tensor, "pairs"],
    progress: Callable[[float], object] | None,
) -> dict[str, LogLikelihood]:
    """log p(x1), and the others on their own rows, whose numbers are ``rows_of``; each with a table and a proposal."""
    one = {name: query for name, query in queries.items() if name == "log p(x1)"}
    others = {name: query for name, query in queries.items() if name not in one}
    likelihoods = score(marginal[0], one, proposal=marginal[1], progress=part_of(progress, 0, 2))
    found = score(joint[0], others, proposal=joint[1], progress=part_of(progress, 1, 2))
    return likelihoods | {name: replace(value, rows=rows_of[value.rows]) for name, value in found.items()}


def part_of(progress: Callable[[float], object] | None, number: int, of: int) -> Callable[[float], object] | None:
    """The progress of one of several equal parts."""
    return None if progress is None else lambda share: progress((number + share) / of)


def _can_answer(model: MultimodalVAE, table: Table, of: Sequence[str], given: Sequence[str]) -> bool:
    """Whether the model has this log p and, for a conditional one, a posterior by which to estimate log p(given)."""
    return model.can_answer(of, given) and model.has_posterior(table, model.plan_query(of, given)[1])


def evaluate(
    run: Run,
    *,
    rows: int | None = None,
    samples: int | None = None,
    proposal: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> Evaluation:
    """Compute log p(x1), log p(x1, x2) and log p(x1 | x2) of test rows, with diagnostics; x1 is the first modality.

    The joint and the conditional one use only rows that have x1 and something of x2: for other rows they would be the
    log p of fewer modalities. x2 are all modalities but the first. The conditional one is left out if the model has no
    posterior given x2, by which log p(x2) is estimated: a JMVAE has posteriors given one modality or all of them. For
    a CVAE, the rows are those with its condition.

    Args:
        run: an opened run (`open_run`).
        rows: use only the first ``rows`` test rows; default all.
        samples: importance samples per row; default the declaration's.
        proposal: modalities that q(z | ·), the source of the samples, is conditioned on. Default: the first for
            log p(x1), as in the paper's Table 2; for the others the richest (`mvae.models.mvae.richest`), or
            all if a row lacks these.
        seed: seed of the draws.
        progress: called with the share of the scoring that is done.

    Raises:
        QueryError: an unknown modality, rows < 1.
    """
    if rows is not None and rows < 1:
        raise QueryError(f"rows must be at least 1, not {rows}")
    table, settings = tested(run), run.config.evaluation
    table = table if rows is None else table.first(rows)
    first, *others = [name for name in run.model.known if name in table.names]
    queries = {"log p(x1)": ([first], [])}
    if others:
        queries |= {"log p(x1,x2)": ([first, *others], []), "log p(x1|x2)": ([first], others)}
    queries = {name: query for name, query in queries.items() if _can_answer(run.model, table, *query)}
    samples = settings.samples if samples is None else samples
    paired = table.has(first) & torch.stack([table.has(name) for name in others or [first]]).any(0)
    names = tuple(name for name in (first, *others) if name in run.model.names)
    if isinstance(proposal, str):
        run.model.require_known(proposal, "proposal")  # says how to write a list
    alone = joint = tuple(proposal or (first,))
    pairs = table
    if not proposal and len(names) > 1 and len(queries) > 1 and paired.any():
        joint, pairs = _proposal(run.model, table, paired, names)
    denominator = Denominator(samples=settings.denominator_samples)
    score = partial(log_likelihoods, run.model, samples=samples, denominator=denominator, seed=seed)
    if joint == alone:
        likelihoods = score(table, queries, proposal=alone, progress=progress)
    else:
        rows_of = torch.arange(len(table)) if pairs is table else paired.nonzero().flatten()
        likelihoods = _in_two_passes(score, queries, (table, alone), (pairs, joint), rows_of, progress)
    found = {name: own.of_rows(paired) if name != "log p(x1)" else own for name, own in likelihoods.items()}
    likelihoods = {name: own for name, own in found.items() if own is not None}
    return Evaluation(likelihoods, validate(run.model, table), len(table), joint, alone, samples)
