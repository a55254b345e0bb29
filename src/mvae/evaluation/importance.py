"""Importance sampling: one pass over samples of a proposal, for one or more estimates (`mvae.evaluation.likelihood`).

Weights are never stored: sums, moments and the largest few are kept while samples stream through, so memory does
not grow with samples × rows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.data.table import Table
from mvae.evaluation.pareto import pareto_k
from mvae.evaluation.scoring import Scorer
from mvae.gaussian import Gaussian
from mvae.models.base import MultimodalVAE
from mvae.models.mixture import Mixture

__all__ = ["CHUNK", "ENCODED", "Pass", "Stream"]

CHUNK = {"cpu": 1024, "cuda": 131_072}  # (sample, row) pairs decoded at once; on a CPU they stay in its cache
EVENT = 28 * 28  # values of a pair; for larger events, fewer pairs are decoded at once (CelebA: 1.4 times as fast)
ENCODED = 256  # rows encoded, or compared, at once: encoding one by one would cost a fifth of the time


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over samples of a proposal: for each of ``sums``, the modalities whose log p are added.

    A defensive proposal (Hesterberg 1995) is half q and half prior, so that no weight exceeds 2 p(x | z).
    """

    model: MultimodalVAE
    table: Table
    sums: Sequence[Sequence[str]]
    proposal: Sequence[str]
    samples: int
    seed: int
    scored: Callable[[float], None]
    defensive: bool = False

    def run(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """log p, effective samples, k̂ and variance of log w of every row, for each sum."""
        model, table, samples = self.model, self.table, self.samples
        generator = torch.Generator(model.device).manual_seed(self.seed)
        needed = [name for name in model.names if any(name in names for names in self.sums)]
        event = max((math.prod(table.columns[name].shape[1:]) for name in needed if name in table.columns), default=1)
        pairs = max(1, CHUNK.get(model.device.type, CHUNK["cuda"]) * EVENT // max(event, EVENT))
        rows_at_once = max(1, pairs // samples)
        samples_at_once = max(1, pairs // rows_at_once)
        parts: list[list[tuple[Tensor, ...]]] = [[] for _ in self.sums]
        score = Scorer(model, samples * len(table))
        for x, q, here in self._encoded(rows_at_once):
            streams = [Stream(len(here), samples, model.device) for _ in self.sums]
            for first in range(0, samples, samples_at_once):
                z, base = self._draw(q, first, min(samples_at_once, samples - first), generator)
                scores = {name: score(name, x, z, here) for name in needed}
                for stream, names in zip(streams, self.sums, strict=True):
                    stream.add(base + torch.stack([scores[name] for name in names]).sum(0))
            for part, stream in zip(parts, streams, strict=True):
                part.append(stream.result())
            self.scored(len(here) / len(table))
        return [tuple(torch.cat(column) for column in zip(*part, strict=True)) for part in parts]  # pyright: ignore

    def _draw(
        self, q: Gaussian | Mixture, first: int, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "samples rows latent"], Float[Tensor, "samples rows"]]:
        """Samples of z from the ``first`` on, and log p(z) minus the log density that they come from."""
        like = q.mean
        noise = torch.randn((count, *like.shape), generator=generator, device=like.device, dtype=like.dtype)
        self.model.will_use_prior()
        fitted = self.model.prior
        if fitted is not None and not self.proposal:
            return fitted.rsample(noise, generator), torch.zeros(noise.shape[:2], device=like.device, dtype=like.dtype)
        z = q.rsample(noise, generator)
        if self.defensive:
            from_prior = (torch.arange(first, first + count, device=z.device) % 2 == 1)[:, None, None]
            z = torch.where(from_prior, noise if fitted is None else fitted.rsample(noise, generator), z)
        standard = Gaussian.standard(self.model.latent_dim, device=z.device, dtype=self.model.dtype)
        prior = (fitted or standard).log_prob(z)
        density = q.log_prob(z)
        if self.defensive:  # the mixture's density, by the share of draws from each
            shares = (self.samples + 1) // 2 / self.samples, self.samples // 2 / self.samples
            density = torch.logaddexp(density + math.log(shares[0]), prior + math.log(shares[1]))
        return z, prior - density

    def _encoded(
        self, rows_at_once: int
    ) -> Iterator[tuple[dict[str, Tensor], Gaussian | Mixture, Bool[Tensor, "part modalities"]]]:
        """Columns, proposal q(z | ·) and presence of a few rows at a time, from blocks of rows encoded together."""
        for batch in self.table.batches(rows_at_once * math.ceil(ENCODED / rows_at_once)):
            columns, q = self.model.prepare(batch), self.model.posterior_of(batch, self.proposal)
            present = batch.presence(self.model.names).expand(len(batch), -1)
            for first in range(0, len(batch), rows_at_once):
                rows = slice(first, first + rows_at_once)
                yield {name: column[rows] for name, column in columns.items()}, q[rows], present[rows]


class Stream:
    """Running log Σw, log Σw², mean and variance of log w, and the largest weights, of each row."""

    def __init__(self, rows: int, samples: int, device: torch.device):
        self.n = 0
        self.log_sum = torch.full((rows,), -math.inf, dtype=torch.float64, device=device)
        self.log_sum_of_squares = self.log_sum.clone()
        self.mean = torch.zeros(rows, dtype=torch.float64, device=device)
        self.square = torch.zeros_like(self.mean)
        self.tail = math.ceil(min(0.2 * samples, 3 * math.sqrt(samples)))  # Vehtari et al. (2024)
        self.largest = torch.empty(0, rows, dtype=torch.float64, device=device)

    def add(self, log_weight: Float[Tensor, "samples rows"]) -> None:
        """Add samples."""
        log_weight = log_weight.double()
        count = len(log_weight)
        self.log_sum = torch.logaddexp(self.log_sum, log_weight.logsumexp(0))
        self.log_sum_of_squares = torch.logaddexp(self.log_sum_of_squares, (2 * log_weight).logsumexp(0))
        mean = log_weight.mean(0)  # the parallel form of Welford's update
        delta, total = mean - self.mean, self.n + count
        self.square = self.square + (log_weight - mean).square().sum(0) + delta.square() * self.n * count / total
        self.mean, self.n = self.mean + delta * count / total, total
        both = torch.cat([self.largest, log_weight])
        self.largest = both.topk(min(self.tail + 1, len(both)), dim=0).values

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log p, effective samples, k̂ and variance of log w of each row."""
        log_mean = self.log_sum - math.log(self.n)
        effective = torch.exp(2 * self.log_sum - self.log_sum_of_squares)
        return log_mean.cpu(), effective.cpu(), pareto_k(self.largest.cpu()), (self.square / (self.n - 1)).cpu()
