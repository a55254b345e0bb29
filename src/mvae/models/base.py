"""What all models share: modalities, a posterior for any subset, and the questions a user asks.

A model is a class that says which posterior belongs to a subset (``combine``) and which terms are optimised
(``terms``); everything else, from training to the estimators, is written once, against this interface.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.data.table import Column, Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.gaussian import Gaussian
from mvae.likelihoods import Categorical
from mvae.modality.base import Modality, evaluating
from mvae.models import plan
from mvae.models.mixture import Mixture
from mvae.models.named_modules import NamedModules
from mvae.models.objective import Objective
from mvae.models.terms import Terms, mvae_terms

__all__ = ["MultimodalVAE", "evaluating"]

CHECKED = 2**22  # values of a column looked at together: data larger than memory is looked at too


class MultimodalVAE(nn.Module):
    """A joint model p(z) Π p(x_i | z) of several modalities; the base of every model here.

    Args:
        modalities: name → `Modality`.
        latent_dim: the number of latents D.

    Raises:
        SettingsError: no modality, a latent_dim < 1.
    """

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int):
        super().__init__()
        if not modalities:
            raise SettingsError("a model needs at least one modality: MVAE({'image': Modality(...)}, ...)")
        if latent_dim < 1:
            raise SettingsError(f"latent_dim must be at least 1, not {latent_dim}")
        for name in modalities:
            if not isinstance(name, str) or not name:
                raise SettingsError(f"a modality's name must be a non-empty string, not {name!r}")
        self._modalities = NamedModules(modalities)
        self._names = tuple(modalities)
        self.latent_dim = latent_dim

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Name → modality, in the model's order; read-only, as a model's modalities are those it was made of."""
        return MappingProxyType(cast("dict[str, Modality]", self._modalities.by_name))

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names, in order: the axis M of every mask."""
        return self._names

    @property
    def weights(self) -> tuple[float, ...]:
        """λ of each modality (Eq. 2)."""
        return tuple(modality.weight for modality in self.modalities.values())

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the latents: that of the networks, but float32 at least."""
        return torch.promote_types(next(iter(self.modalities.values())).dtype, torch.float32)

    # -- What a model defines ------------------------------------------------------------------------------

    @property
    def encoders(self) -> Sequence[plan.Experts | plan.JointEncoder]:
        """What its posteriors are made of, each for the subsets it is `used` for: one expert a modality by default."""
        return (plan.Experts(self.combine),)

    #: What is said where a subset is given for which there is no encoder.
    no_posterior = "this model has no posterior given several modalities at once: give one of them"

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """q(z | X) of every term's subset from one expert a modality (``modalities rows latent``)."""
        raise TypeError(f"{type(self).__name__} does not say how experts combine")

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The terms of one training step, for rows that have these modalities."""
        return mvae_terms(present, self.names, generator=generator)

    #: Training stages, in order; `fit` trains each for its epochs, with fresh annealing and a fresh optimiser.
    stages: tuple[str, ...] = ("all",)

    #: The stage in hand; `terms` may depend on it.
    stage = "all"

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters that a stage trains."""
        return self.parameters()

    #: Is there a posterior given all modalities together?
    joint_posterior = True

    @property
    def cross_from(self) -> tuple[str, ...]:
        """Modalities whose posterior is asked to explain everything else in a row, too (`mvae.models.mvae`)."""
        return ()

    #: Does it learn from complete rows only? (Then a run with few pairs gives it those, and not the other rows.)
    needs_complete = False

    #: Are its best weights chosen by the validation objective? (Otherwise the last ones stay.)
    keeps_best = True

    #: Has it the first of the modalities only? (Then a declaration's others are left out.)
    first_only = False

    #: Is it of one modality given another? (Then its networks take that one beside x and z.)
    conditional = False

    #: What it was built from (`mvae.runs.config.Config`), which `mvae.save` keeps; None where it was made by hand.
    declaration: object = None

    #: The condition's number of features, where the networks take one besides x and z.
    context_dim = 0

    def context(self, x: Mapping[str, Tensor]) -> Float[Tensor, "rows features"] | None:
        """What encoders and decoders are conditioned on besides x and z; nothing by default."""
        return None

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """What a model adds to each row's loss for its posteriors, ``terms rows latent``; nothing by default."""
        return None

    @property
    def static_terms(self) -> bool:
        """Are the terms of complete rows the same at every step? (Then a step can be recorded and replayed.)"""
        return True

    # -- Posteriors ----------------------------------------------------------------------------------------

    def expert(self, name: str, x: Tensor) -> Gaussian:
        """The expert of one modality for rows that have it, ``rows latent``."""
        return self.to_expert(*self.modalities[name].expert_parameters(x))

    def to_expert(self, mean: Float[Tensor, "*rows latent"], raw: Float[Tensor, "*rows latent"]) -> Gaussian:
        """An encoder's two outputs as an expert: by default mean and log-variance."""
        return Gaussian.from_mean_log_var(mean, raw)

    def posteriors(self, x: Mapping[str, Tensor], terms: Terms) -> Gaussian:
        """q(z | X) of every term and row, ``terms rows latent``.

        Raises:
            QueryError: a subset for which there is no posterior.
        """
        return plan.posteriors(self, x, terms)

    def mixed(self, given: Bool[Tensor, "rows modalities"]) -> Bool[Tensor, "components rows modalities"] | None:
        """The subsets of what each row is given whose posteriors are mixed evenly; None: its posterior is no mixture.

        A row has the components that are given anything.
        """
        return None

    def posterior_given(self, x: Mapping[str, Tensor], given: Bool[Tensor, "rows modalities"]) -> Gaussian | Mixture:
        """q(z | X) of prepared columns, ``rows latent``, where X is what each row is given (on the CPU)."""
        subsets = self.mixed(given) if (given.sum(-1) > 1).any() else None  # of one modality there is no mixture
        subsets = given[None] if subsets is None else subsets
        names = tuple(f"query {k}" for k in range(len(subsets)))
        q = self.posteriors(x, Terms(names, subsets, subsets, torch.ones(len(subsets), len(given))))
        if len(subsets) == 1:
            return q[0]
        has = subsets.any(-1)
        has = has | ~has.any(0)  # given nothing: the prior, whichever component is drawn
        weight = (has.to(q.mean.dtype) / has.sum(0)).to(q.mean.device)
        return Mixture(q, weight.expand(-1, q.mean.shape[1]))

    # -- The objective -------------------------------------------------------------------------------------

    def prepare(self, batch: Table) -> dict[str, Tensor]:
        """A batch's columns as the networks take them, on the model's device."""
        columns = batch.to(self.device).columns  # tensors, also where the batch is made of a user's arrays
        return {
            name: modality.prepare(cast("Tensor", columns[name]))
            for name, modality in self.modalities.items()
            if name in columns
        }

    __call__: Callable[..., Objective]

    def forward(
        self,
        batch: Table,
        terms: Terms | None = None,
        *,
        beta: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Objective:
        """The objective of one batch (Eq. 5), with fresh noise unless some is given.

        Raises:
            DataError: the batch and the model have no modality in common.
        """
        self._require_shared(batch)
        if terms is None:
            terms = self.terms(batch.presence(self.names), generator)
        if noise is None:
            shape = len(terms.names), len(batch), self.latent_dim
            noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.objective(self.prepare(batch), terms, noise, beta)

    def objective(
        self,
        x: dict[str, Tensor],
        terms: Terms,
        noise: Float[Tensor, "terms rows latent"],
        beta: float | Tensor = 1.0,
    ) -> Objective:
        """The loss of prepared columns under a plan of terms: minus the sum of the terms' ELBOs.

        Args:
            x: prepared columns, ``rows event…`` each; one that no term needs may be absent.
            terms: what is given, what is scored, and how much each counts.
            noise: ε ~ N(0, I) of the reparameterised samples.
            beta: weight of the KL, annealed from 0 to 1 (Eq. 1).
        """
        context = self.context(x)
        posterior = self.posteriors(x, terms)
        z = posterior.rsample(noise)
        kl = posterior.kl_to_prior()
        log_prob = plan.scores(self.modalities, x, z, terms, context)
        here = terms.on_device(noise.device)
        own = here.likelihood_weight  # λ of each term and modality, where it is not the modality's own
        weights = self.weights if own is None else own[..., None].unbind(1)
        bound = -beta * kl
        for weight, log_p in zip(weights, log_prob.unbind(), strict=True):
            bound = bound + weight * log_p
        loss = -(here.weight * bound).sum() / noise.shape[1]
        penalty = self.penalty(posterior, here, beta)
        if penalty is not None:
            loss = loss + penalty.mean()
        return Objective(loss, log_prob, kl, here, self.names)

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """The terms by which models are selected, without randomness: by default those that are trained."""
        return self.terms(present)

    # -- Questions -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def posterior(
        self, data: Table | Mapping[str, Column | Sequence], given: Sequence[str] | None = None
    ) -> Gaussian | Mixture:
        """q(z | X), ``rows latent``, where X is what each row has of ``given`` (default: of everything).

        A row that has nothing of it gets the prior.

        Raises:
            QueryError: an unknown modality. DataError: data that does not fit the model.
        """
        table = self._as_table(data)
        mask = table.presence(self.names)
        if given is not None:
            self.require_known(given)
            mask = mask & torch.tensor([name in given for name in self.names])
        with evaluating(self):
            return self.posterior_given(self.prepare(table.take(slice(None))), mask)

    @torch.no_grad()
    def generate(
        self,
        data: Table | Mapping[str, Column | Sequence] | None = None,
        of: Sequence[str] | None = None,
        n: int = 1,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """n samples of the modalities ``of`` for every row: z ~ q(z | X), x ~ p(x | z) (Fig. 2).

        Args:
            data: what is known; None draws z from the prior (one row).
            of: the modalities to generate; default all.
            n: samples a row.
            mean: E[x | z] instead of a sample of x (what pictures usually show); z is sampled in any case.
            generator: source of randomness, on the model's device.

        Returns:
            name → ``samples rows event…``.
        """
        of = self.names if of is None else of
        self.require_known(of)
        if conditions := [name for name in of if name not in self.names]:
            raise QueryError(f"{', '.join(conditions)}: a condition is given, and not generated")
        if n < 1:
            raise QueryError(f"the number of samples n must be at least 1, not {n}")
        table = None if data is None else self._as_table(data)
        q = Gaussian.standard(1, self.latent_dim, device=self.device) if table is None else self.posterior(table)
        shape = n, *q.mean.shape
        noise = torch.randn(shape, generator=generator, device=self.device, dtype=q.mean.dtype)
        z = q.rsample(noise, generator).to(self.dtype)
        with evaluating(self):
            context = self.context({} if table is None else self.prepare(table))
            return {name: self.modalities[name].generate(z, context, mean=mean, generator=generator) for name in of}

    def check(self, table: Table, chunk: int = 4096) -> None:
        """Does every present value of the table fit this model? Reads it once, in chunks.

        Raises:
            DataError: naming the modality and the first row that does not fit, and what would.
        """
        self._require_shared(table)
        for name, modality in self.modalities.items():
            if name not in table.columns:
                continue
            here = table.present[:, table.names.index(name)]
            brightest = 0
            at_once = max(1, min(chunk, CHECKED // max(1, math.prod(table.columns[name].shape[1:]))))
            for start in range(0, len(table), at_once):
                rows = here[start : start + at_once].nonzero().flatten() + start
                if not len(rows):
                    continue
                part = cast("Tensor", table.select_rows(name, rows)).to(self.device)
                if part.dtype == torch.uint8 and not isinstance(modality.likelihood, Categorical):
                    brightest = max(brightest, int(part.max()))
                try:
                    bad, possible = modality.check(part, self.latent_dim, self.context_dim)
                except DataError as error:
                    raise DataError(f"modality {name!r}: {error}") from error.__cause__
                if bad.any():
                    row = int(rows[bad.cpu()][0])
                    raise DataError(
                        f"modality {name!r}, row {row}: {possible} are needed; mend the value or mark it as "
                        "missing with Table(..., present={...})"
                    )
            if brightest == 1:  # as levels of 255 they would silently be learned as 0 and 0.004
                raise DataError(
                    f"modality {name!r} is of bytes and holds only 0 and 1, but bytes are levels 0 to 255: give the "
                    "column as booleans or floats"
                )

    def _as_table(self, data: Table | Mapping[str, Column | Sequence]) -> Table:
        if isinstance(data, Table):
            self._require_shared(data)
            return data
        self.require_known(list(data))
        table = Table(data)
        self.check(table)
        return table

    def plan_query(self, of: Sequence[str], given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Which modalities to score, and whose log p to subtract: log p(of | given) = log p(of, given) − log p(given).

        Raises:
            QueryError: this model cannot answer, and why.
        """
        return (*of, *given), given

    @property
    def known(self) -> tuple[str, ...]:
        """What a query may name: the modalities."""
        return self.names

    def require_known(self, names: Sequence[str]) -> None:
        """Raises QueryError unless a query may use every name."""
        if isinstance(names, str):
            raise QueryError(f"name modalities in a list: [{names!r}]")
        for name in names:
            if name not in self.known:
                raise QueryError(f"no modality {name!r} in this model; it has {', '.join(self.known)}")

    def _require_shared(self, table: Table) -> None:
        if not set(self.known) & set(table.names):
            raise DataError(
                f"the table ({', '.join(table.names)}) and the model ({', '.join(self.names)}) have no "
                "modality in common"
            )
