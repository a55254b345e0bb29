"""The queries that a user can make of a model, answered in parts of bounded memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mvae.arguments import SEEDS, checked_arguments, require_whole_number
from mvae.data.idx import require_memory
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, abridged
from mvae.gaussian import Gaussian, map_parameters
from mvae.modality.modes import evaluating
from mvae.models.inputs import Data, Inputs
from mvae.models.mixture import Mixture
from mvae.models.prior import Prior

__all__ = ["Queries", "parts_of"]

VALUES = 2**20  # values encoded or decoded at once: a network's layers need many times their memory
ROWS = 4096  # rows at once, at most: a label is one value, but its network's layers are wide
FEW = 256  # (sample, row) pairs that are decoded at once whatever their size


class Queries(Inputs):
    """The queries that every model answers; a base class of `mvae.models.base.MultimodalVAE`.

    Data is a `Table`, a mapping of arrays or a data frame, and is checked before it is used (`Inputs.as_table`).
    However many rows and samples there are, they are read, encoded and decoded in parts of bounded memory, so columns
    may be memory-mapped; only the answer is held as a whole.
    """

    #: The p(z) that samples without data are drawn from, and that log p refers to (`mvae.models.fitting.fit_prior`);
    #: None: N(0, I), as in training. The posterior of a row with nothing given is N(0, I) in any case.
    prior: Prior | None = None

    def posterior_given(self, x: Mapping[str, Tensor], given: Bool[Tensor, "rows modalities"]) -> Gaussian | Mixture:
        """q(z | X) of prepared columns."""
        raise NotImplementedError

    # -- The queries -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def posterior(self, data: Data, given: Sequence[str] | None = None) -> Gaussian | Mixture:
        """q(z | X), ``rows latent``, where X is each row's observed modalities among ``given`` (default: all).

        A row with none of them observed gets the prior.

        Raises:
            QueryError: an unknown modality, or one that was never trained. DataError: data that does not fit the model.
        """
        table = self.as_table(data)
        if given is not None:
            self.require_known(given, "given")
        self.require_trained_in(table, given)
        with evaluating(self):
            return _joined([self.posterior_of(batch, given) for batch in parts_of(table)])

    @torch.no_grad()
    @checked_arguments("of", "n", "seed", error=QueryError)
    def generate(
        self,
        data: Data | None = None,
        of: Sequence[str] | None = None,
        n: int = 1,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        covariates: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """n samples of the modalities ``of`` for every row: z ~ q(z | X), x ~ p(x | z) (Fig. 2).

        Args:
            data: the observed values; None draws z from the prior (one row): N(0, I), or the fitted one (`prior`).
            of: the modalities to generate; default all. A requested modality is sampled even if it is given.
            n: samples per row.
            mean: E[x | z] instead of a sample of x (usual for pictures); z is sampled in any case.
            generator: source of randomness, on the model's device.
            seed: the seed of a new generator, instead of ``generator``.
            covariates: name → a value that the decoders use for all rows instead of the rows' own: what would this cell
                look like in batch b2? Encoders use the rows' own.

        Returns:
            name → ``samples rows event…``.

        Raises:
            QueryError: an unknown modality, or one that was never trained; a condition to be generated, n < 1, or both
                a generator and a seed.
            DataError: data that does not fit the model.
        """
        of = self.names if of is None else of
        self.require_known(of, "of")
        self._require_generated(of)
        n = require_whole_number("the number of samples n", n, 1)
        generator = self._generator(generator, seed)
        instead = self._instead(covariates)
        table = None if data is None else self.as_table(data)
        if table is not None:
            self.require_trained_in(table)
        made: dict[str, list[Tensor]] = {name: [] for name in of}
        with evaluating(self):
            pairs = n * (1 if table is None else len(table))
            event = self.values_of(of) if pairs > FEW else 0
            require_memory(4 * pairs * max(event, self.latent_dim), f"{n:,} samples")
            for batch in [None] if table is None else parts_of(table, n, event):
                x = {} if batch is None else self.prepare(batch)
                q = self._prior() if batch is None else self._infer(batch, x)
                shape = n, *q.mean.shape
                noise = torch.randn(shape, generator=generator, device=self.device, dtype=q.mean.dtype)
                z, context = q.rsample(noise, generator).to(self.dtype), self.context(x | _repeated(instead, shape[1]))
                at_once = max(1, VALUES // max(1, event * z.shape[1])) if event else n
                parts = [
                    {name: self.modalities[name].generate(part, context, mean=mean, generator=generator) for name in of}
                    for part in z.split(at_once)
                ]
                for name, values in made.items():
                    values.append(_cat([part[name] for part in parts], 0))
        return {name: _cat(values, 1) for name, values in made.items()}

    @torch.no_grad()
    @checked_arguments("of", "n", "seed", error=QueryError)
    def predict(
        self, data: Data, of: str, n: int | None = None, *, seed: int = 0, covariates: Mapping[str, Any] | None = None
    ) -> Shaped[Tensor, "rows *event"]:
        """E[x_of | the row's other observed modalities]: class probabilities, the mean of numbers, or the mean class
        number of ordered classes (`mvae.likelihoods.Ordinal`).

        Values of ``of`` itself in ``data`` are not used.

        Args:
            data: the rows.
            of: the modality predicted.
            n: average over n samples of z ~ q(z | rest). Default: E[x | z] at the mean of q(z | rest), which is faster
                and deterministic, but ignores how wide the posterior is.
            seed: the seed of the samples.
            covariates: values that the decoder uses instead of the rows' own (see `generate`).

        Raises:
            QueryError: an unknown modality, or one that was never trained; n < 1, or samples of a modality that has no
                mean (a string).
            DataError: data that does not fit the model.

        >>> from mvae.networks.mlp import LabelEncoder, mlp
        >>> label = mvae.Modality(LabelEncoder(3, 4), mlp(2, 3), mvae.likelihoods.Categorical())
        >>> x = mvae.Modality(mlp(5, 4), mlp(2, 5), mvae.likelihoods.Gaussian())
        >>> mvae.MVAE({"x": x, "label": label}, latent_dim=2).predict({"x": torch.zeros(7, 5)}, of="label").shape
        torch.Size([7, 3])
        """
        self.require_known([of], "of")
        self._require_generated([of])
        if n is not None:
            n = require_whole_number("the number of samples n", n, 1)
        generator, instead = self._generator(None, seed), self._instead(covariates)
        table, modality, found = self.as_table(data), self.modalities[of], []
        rest = [name for name in self.known if name != of]
        self.require_trained_in(table, rest)
        with evaluating(self):
            for batch in parts_of(table, n or 1, self.values_of([of])):
                x = self.prepare(batch)
                q, context = self._infer(batch, x, rest), self.context(x | _repeated(instead, len(batch)))
                if n is None:
                    found.append(modality.generate(q.mean.to(self.dtype), context, mean=True))
                    continue
                noise = torch.randn(n, *q.mean.shape, generator=generator, device=self.device, dtype=q.mean.dtype)
                total = torch.zeros((), device=self.device)
                for z in q.rsample(noise, generator).to(self.dtype).split(max(1, ROWS // q.mean.shape[0])):
                    means = modality.generate(z, context, mean=True)
                    if not (means.is_floating_point() and modality.has_mean):
                        raise QueryError(f"{of} has no mean over samples of z: leave n out, or generate({of!r}, n=…)")
                    total = total + means.sum(0)
                found.append(total / n)
        return _cat(found, 0)

    def log_likelihood(self, data: Data, of: Sequence[str], given: Sequence[str] = (), **options: Any) -> Any:
        """log p(of | given) of every row by importance sampling: `mvae.log_likelihood`, which documents the options.

        Returns:
            A `mvae.evaluation.likelihood.LogLikelihood`: values by row, mean, standard error, diagnostics.
        """
        import mvae  # imported here: the evaluation modules depend on the models

        return mvae.log_likelihood(self, data, of, given, **options)  # pyright: ignore[reportArgumentType]

    def _instead(self, covariates: Mapping[str, Any] | None) -> dict[str, Tensor]:
        """Covariate values shared by all rows, as the networks take them, ``1 features`` each."""
        found = {}
        for name, value in (covariates or {}).items():
            if name not in self.covariates:
                raise QueryError(f"no covariate {name!r} in this model; it has {', '.join(self.covariates) or 'none'}")
            own = self.covariates[name]
            many = getattr(value, "ndim", 0) or isinstance(value, list | tuple)
            if many and (own.categories or (own.width == 1 and len(value) != 1)):
                raise QueryError(
                    f"covariates[{name!r}] is one value for all rows, not {abridged(value)}: to use each row's "
                    f"own, give the column {name!r} with the data"
                )
            column = own.codes(value[None] if isinstance(value, Tensor) else [value], name)
            row = Table({name: column})
            own.check(row, name)
            found[name] = own.encode(column.to(self.device), row.has(name), self.dtype)
        return found

    def plan_query(self, of: Sequence[str], given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Which modalities to score, and whose log p to subtract: log p(of | given) = log p(of, given) − log p(given).

        Raises:
            QueryError: this model cannot answer; the message says why.
        """
        return (*of, *given), given

    def can_answer(self, of: Sequence[str], given: Sequence[str]) -> bool:
        """Whether this model has a log p(of | given). (A VAE has no joint one, a CVAE only the conditional one.)"""
        try:
            self.require_known([*of, *given])
            self.plan_query(of, given)
        except QueryError:
            return False
        return True

    # -- Parts -------------------------------------------------------------------------------------------------------

    def posterior_of(self, batch: Table, given: Sequence[str] | None = None) -> Gaussian | Mixture:
        """`posterior` of one batch, all at once and unchecked; in the networks' current mode."""
        return self._infer(batch, self.prepare(batch), given)

    def _infer(self, batch: Table, x: dict[str, Tensor], given: Sequence[str] | None = None) -> Gaussian | Mixture:
        mask = batch.presence(self.names)
        if given is not None:
            mask = mask & torch.tensor([name in given for name in self.names])
        q = self.posterior_given(x, mask)
        if not q.mean.isfinite().all():
            raise DataError("a row's posterior is not finite: its values are too large for the networks' precision")
        return q

    def will_use_prior(self) -> None:
        """Called before p(z) is sampled or evaluated: a model that trains no prior warns here."""

    def _prior(self) -> Gaussian | Prior:
        self.will_use_prior()
        return self.prior or Gaussian.standard(1, self.latent_dim, device=self.device)

    def values_of(self, of: Sequence[str]) -> int:
        """The number of values of the largest of these modalities, as decoded from one z."""
        z = torch.zeros(1, self.latent_dim, device=self.device, dtype=self.dtype)
        context = torch.zeros(1, self.context_dim, device=self.device, dtype=self.dtype) if self.context_dim else None
        return max((self.modalities[name].generate(z, context, mean=True).numel() for name in of), default=1)

    def _generator(self, generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
        if seed is None:
            return generator
        if generator is not None:
            raise QueryError("give a generator or a seed, not both")
        seed = require_whole_number("seed", seed, 0, SEEDS)
        return torch.Generator(self.device).manual_seed(seed)


def parts_of(table: Table, samples: int = 1, event: int = 1, rows: Tensor | None = None) -> Iterator[Table]:
    """A table, or those of its rows whose numbers are in ``rows``, in parts of bounded memory.

    Each row counts as ``samples`` × ``event`` values, or as its own number of values where that is larger.

    >>> [len(part) for part in parts_of(Table({"x": torch.zeros(5000, 1)}))]
    [4096, 904]
    """
    widest = max(math.prod(column.shape[1:]) for column in table.columns.values())
    at_once = max(1, min(ROWS, VALUES // max(1, widest, samples * event)))
    if rows is None:
        yield from table.batches(at_once)
    else:
        yield from (table.take(part) for part in rows.split(at_once))


def _repeated(values: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    return {name: value.expand(rows, -1) for name, value in values.items()}


def _cat(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _joined(parts: Sequence[Gaussian | Mixture]) -> Gaussian | Mixture:
    """The posteriors of successive rows as one; a Gaussian among mixtures becomes a mixture of equal components."""
    if len(parts) == 1:
        return parts[0]
    count = next((len(part.weight) for part in parts if isinstance(part, Mixture)), 0)
    if not count:
        return map_parameters(lambda *rows: torch.cat(rows), *parts)  # pyright: ignore[reportArgumentType]
    mixtures = [part if isinstance(part, Mixture) else _repeated_component(part, count) for part in parts]
    components = map_parameters(lambda *rows: torch.cat(rows, 1), *(mixture.components for mixture in mixtures))
    return Mixture(components, torch.cat([mixture.weight for mixture in mixtures], 1))


def _repeated_component(q: Gaussian, count: int) -> Mixture:
    components = map_parameters(lambda part: part.expand(count, -1, -1), q)
    return Mixture.even(components, torch.ones(count, 1, dtype=torch.bool))
