"""Spread the labels of a few rows to similar rows: Poisson learning on a graph of latents (Calder et al. 2020).

A modality that few rows have, such as a class that a person must assign, is learned poorly from these rows alone. A
model of the other modalities knows which rows are similar: each row is joined with its nearest neighbours in the
latents, and known labels spread over the graph. Rows that are surrounded by rows of their class get confident labels.

J. Calder, B. Cook, M. Thorpe, D. Slepčev: Poisson Learning: Graph Based Semi-Supervised Learning at Very Low Label
Rates (ICML 2020), Algorithms 1 and 2. Our additions are limits on the classes' frequencies, within sampling error, and
the confidence of a label, by a random walk.
"""

import logging

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation.rows import latent_means
from mvae.models.base import MultimodalVAE

__all__ = ["Graph", "spread_labels"]

_log = logging.getLogger("mvae")

NEIGHBOURS = 10
SHARE = 0.95  # of the rows without a label, the most confident, get one
MOST_CLASSES = 1_000
ALIKE = 1e-4  # latents that differ by less in each dimension become one row of the graph
TOGETHER = 50_000_000  # distances at once
POISSON_STEPS = 200
ROUNDS, STEPS = 20, 20  # rounds in which labels are made whole, and steps of spreading in each
BALANCING, LEAST, MOST = 200, 0.5, 2.0  # steps, and limits of a class's factor
APART = 2.0  # standard errors by which a class may be more or less frequent than among known labels
WALK = 10  # steps of the random walk that gives a label's confidence


@checked_arguments(error=QueryError)
@torch.no_grad()
def spread_labels(
    model: MultimodalVAE, table: Table, name: str, *, share: float = SHARE, neighbours: int = NEIGHBOURS
) -> Table:
    """Spread the values of a discrete modality to most of the rows where it is missing.

    Train a model of the other modalities, spread, and train on the result. This helps if classes are clusters and
    labels are few: with 50 labelled images of MNIST, ten points of accuracy (docs/research/few-pairs.md).

    Time grows with rows²: 25,000 rows take ten seconds, 100,000 some minutes. Memory grows with rows × classes.

    Args:
        model: a trained model, with or without the modality. Latents are the means of q(z | a row's other modalities).
        table: some rows have the modality, and rows without it have others. The frequency of each class is taken from
            all rows with the modality, including those with nothing else.
        name: the modality, of classes or other values that repeat.
        share: of the rows without it, the share that gets a label: the most confident ones. The others stay without, as
            do rows that no label reaches. Classes that only occur in rows with nothing else are not spread (a warning
            names them).
        neighbours: the number of neighbours of each row in the graph.

    Raises:
        QueryError: an unknown name, a share out of range, too many neighbours, no labelled row with another modality,
            one class only, or more than 1,000. DataError: data that does not fit the model, or labels that are NaN.

    >>> from mvae.networks.mlp import mlp
    >>> parts = {"x": mvae.Modality(mlp(2, 4), mlp(2, 2), mvae.likelihoods.Gaussian())}
    >>> x = torch.cat([torch.randn(20, 2), torch.randn(20, 2) + 9])  # two groups, and a label in each
    >>> table = mvae.Table({"x": x, "y": torch.arange(40) // 20}, {"y": torch.arange(40) % 20 == 0})
    >>> spread = mvae.spread_labels(mvae.VAE(parts, latent_dim=2), table, "y", neighbours=5)
    >>> int(spread.has("y").sum())
    38
    """
    if not 0 < share <= 1:
        raise QueryError(f"share, of the rows that get a label, must be above 0 and at most 1, not {share:g}")
    others = _others(model, table, name)
    rows = table.presence(others).any(1).expand(len(table)).nonzero().flatten()
    has = table.has(name)
    known = has[rows].nonzero().flatten()
    if not len(known):
        raise QueryError(f"no row has {name} and any of {', '.join(others)}: label some rows")
    values, label, counts = _classes(table, name, rows[known])
    z = latent_means(model, table, rows, others)
    first, same = _distinct(z)
    if not 1 <= neighbours < len(first):
        raise QueryError(f"neighbours must be 1 to {len(first) - 1} ({len(first)} rows differ), not {neighbours}")
    found, sure = Graph(z[first], neighbours).spread(same[known], label, counts, torch.bincount(same))
    found, sure = found[same], sure[same]
    unknown = (~has[rows]).nonzero().flatten()
    surest = unknown[sure[unknown].argsort(descending=True, stable=True)[: round(share * len(unknown))]]
    surest = surest[sure[surest] > 0]
    column = table.select_rows(name, torch.arange(len(table)))
    column[rows[surest].to(column.device)] = values[found[surest]].to(column)
    has = has.clone()
    has[rows[surest]] = True
    return table.with_column(name, column, has)


def _others(model: MultimodalVAE, table: Table, name: str) -> list[str]:
    """The modalities by which rows are compared."""
    if name not in table:
        raise QueryError(f"no modality {name!r} in this table; it has {', '.join(table.names)}")
    table.require_whole(name)
    model.check(table)
    others = [other for other in model.names if other != name and other in table]
    if not others:
        raise QueryError(f"the model has no other modality of this table by which rows with {name} can be compared")
    return others


def _distinct(z: Float[Tensor, "rows latent"]) -> tuple[Int[Tensor, "distinct"], Int[Tensor, "rows"]]:
    """The first row of each group of equal rows, and the group of each row."""
    _, same = ((z - z.mean(0)) / ALIKE).round().unique(dim=0, return_inverse=True)
    first = torch.full((int(same.max()) + 1,), len(z)).scatter_reduce(0, same, torch.arange(len(z)), "amin")
    return first, same


def _classes(
    table: Table, name: str, known: Int[Tensor, "labelled"]
) -> tuple[Tensor, Int[Tensor, "labelled"], Int[Tensor, "classes"]]:
    """The values of the known rows, the index of each row's value, and how often each occurs in the whole table."""
    labelled = table.has(name).nonzero().flatten()
    column = table.select_rows(name, labelled).cpu()
    if column.is_floating_point() and not column.isfinite().all():
        raise DataError(f"{name} has labels that are not finite numbers: say with present= where it is missing")
    values, classes = column.unique(dim=0, return_inverse=True)
    label = classes[torch.searchsorted(labelled, known)]
    counts, here = torch.bincount(classes), torch.bincount(label, minlength=len(values)) > 0
    if not 2 <= here.sum() <= MOST_CLASSES:
        counted = "one value only" if here.sum() == 1 else f"{int(here.sum()):,} different values"
        raise QueryError(f"{name} has {counted} in rows with other modalities: 2 to {MOST_CLASSES:,} are needed")
    if not here.all():
        absent = ", ".join(str(value.tolist()) for value in values[~here][:5])
        _log.warning("no row with anything besides %s has the value %s: it is not spread", name, absent)
    return values[here], (here.cumsum(0) - 1)[label], counts[here]


class Graph:
    """Rows joined with their nearest neighbours, by weights exp(−4 d² / d²ₖ), where dₖ is the distance of the k-th.

    Args:
        z: ``rows dimensions``.
        neighbours: k.

    Attributes:
        weights: ``rows rows``, sparse and symmetric.
        degree: ``rows``, the sum of a row's weights.
    """

    weights: Float[Tensor, "rows rows"]
    degree: Float[Tensor, "rows"]

    def __init__(self, z: Float[Tensor, "rows dimensions"], neighbours: int):
        z = z - z.mean(0)  # far from 0 the distances below would be inexact
        n, square = len(z), z.square().sum(1)
        away, nearest = [], []
        for part in torch.arange(n).split(max(1, TOGETHER // n)):
            distance = square[part, None] + square - 2 * z[part] @ z.T
            distance[torch.arange(len(part)), part] = torch.inf
            found = distance.topk(neighbours, largest=False)
            away.append(found.values.clamp(min=0).double())
            nearest.append(found.indices)
        distance = torch.cat(away)
        weight = (-4 * distance / distance[:, -1:].clamp(min=1e-300)).exp().flatten() / 2
        pairs = torch.stack([torch.arange(n).repeat_interleave(neighbours), torch.cat(nearest).flatten()])
        both = torch.cat([pairs, pairs.flip(0)], 1)
        self.weights = torch.sparse_coo_tensor(both, weight.repeat(2), (n, n), check_invariants=True).coalesce()
        self.degree = torch.sparse.sum(self.weights, 1).to_dense()

    def spread(
        self,
        known: Int[Tensor, "labelled"],
        label: Int[Tensor, "labelled"],
        counts: Int[Tensor, "classes"],
        copies: Int[Tensor, "rows"],
    ) -> tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]:
        """Every row's label and its confidence: the share of its class among the rows at which a random walk ends.

        Args:
            known: the numbers of the rows whose label is known; each class has one.
            label: their labels.
            counts: how many labels of each class are known: classes are made as frequent, within sampling error.
            copies: how many rows each row stands for.

        Returns:
            Labels and shares; a row that no label reaches has the share 0.
        """
        one_hot = F.one_hot(label, len(counts)).double()
        source = torch.zeros(len(self.degree), len(counts), dtype=torch.float64)
        source.index_add_(0, known, one_hot - one_hot.mean(0))
        u = self.potential(source)
        reached = (u != 0).any(1)
        step = 1 / self.degree.max()
        for _ in range(ROUNDS):  # Algorithm 2
            for _ in range(STEPS):
                u = u + step * (source - self.degree[:, None] * (u - self.walked(u)))
            u = _whole(u, copies * reached, counts)
        for _ in range(WALK):
            u = self.walked(u)
        sure, found = u.max(1)
        return found, sure * reached

    def potential(
        self, source: Float[Tensor, "rows values"], steps: int = POISSON_STEPS
    ) -> Float[Tensor, "rows values"]:
        """An approximate solution u of (D − W) u = source; zero where no source reaches (Algorithm 1)."""
        u = torch.zeros_like(source)
        for _ in range(steps):
            u = self.walked(u) + source / self.degree[:, None]
        return u

    def walked(self, u: Float[Tensor, "rows values"]) -> Float[Tensor, "rows values"]:
        """The weighted average over each row's neighbours."""
        return torch.sparse.mm(self.weights, u) / self.degree[:, None]


def _whole(
    u: Float[Tensor, "rows classes"], copies: Int[Tensor, "rows"], counts: Int[Tensor, "classes"]
) -> Float[Tensor, "rows classes"]:
    """One class for each row, with factors that make classes as frequent as known labels; 0 without copies."""
    labels = int(counts.sum()) + len(counts)
    frequent = (counts + 1) / labels  # one more of each class leaves room for rare ones
    room = APART * (frequent * (1 - frequent) / labels).sqrt()
    factor = torch.ones(len(counts), dtype=torch.float64)
    for _ in range(BALANCING):
        now = torch.bincount((u * factor).argmax(1), copies.double(), len(counts)) / copies.sum()
        missing = now.clamp(frequent - room, frequent + room) - now
        if missing.abs().max() < 1e-3:
            break
        factor = (factor + missing).clamp(LEAST, MOST)
    return F.one_hot((u * factor).argmax(1), len(counts)).double() * (copies > 0)[:, None]
