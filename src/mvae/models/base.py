"""The base class of all models: modalities, a posterior for any subset, and the queries a user can make.

A model is a class that defines which posterior belongs to a subset (``combine``) and which terms are optimised
(``terms``); everything else, from training to the estimators, is written once, against this interface.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.gaussian import Gaussian
from mvae.models import plan
from mvae.models.inputs import Data, Parts
from mvae.models.mixture import Mixture
from mvae.models.objective import Objective
from mvae.models.queries import Queries
from mvae.models.terms import Terms, mvae_terms

__all__ = ["MultimodalVAE", "Parts"]


class MultimodalVAE(Queries):
    """A joint model p(z) Π p(x_i | z) of several modalities; the base of every model here.

    Args:
        modalities: name → `Modality`, and optionally name → `Covariate`.
        latent_dim: the number of latents D.

    Raises:
        SettingsError: no modality, a latent_dim < 1, covariates for a model or for networks that take none, or networks
            on a device without float64 ("mps").
    """

    @checked_arguments()
    def __init__(self, modalities: Parts, latent_dim: int):
        super().__init__(modalities, latent_dim)

    def __init_subclass__(cls, **named: Any) -> None:
        """Encode modality by modality, not in banks, in a subclass that overrides ``expert``."""
        super().__init_subclass__(**named)
        cls.banked = cls.expert is MultimodalVAE.expert

    #: Whether encoders of the same shape may run as one batched call that bypasses `expert`.
    banked = True

    # -- What a model defines ------------------------------------------------------------------------------

    @property
    def encoders(self) -> Sequence[plan.Experts | plan.JointEncoder]:
        """The encoders of its posteriors, each for the subsets it is `used` for; by default one expert per modality."""
        return (plan.Experts(self.combine),)

    #: The error message for a given subset that has no encoder.
    no_posterior = "this model has no posterior given several modalities at once: give one of them"

    def combine(self, experts: Gaussian, given: Bool[Tensor, "terms #rows modalities"]) -> Gaussian:
        """q(z | X) of every term's subset from one expert per modality (``modalities rows latent``)."""
        raise TypeError(f"{type(self).__name__} does not say how experts combine: define combine(experts, given)")

    def terms(self, present: Bool[Tensor, "rows modalities"], generator: torch.Generator | None = None) -> Terms:
        """The terms of one training step for rows with these modalities present."""
        return mvae_terms(present, self.names, generator=generator)

    #: Training stages, in order; `fit` trains each for its epochs, with fresh annealing and a fresh optimiser.
    stages: tuple[str, ...] = ("all",)

    #: The current stage; `terms` may depend on it.
    stage = "all"

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters that a stage trains."""
        return self.parameters()

    #: Whether there is a posterior given all modalities together.
    joint_posterior = True

    @property
    def cross_from(self) -> tuple[str, ...] | None:
        """Modalities whose posterior must also explain everything else in a row; None: not a setting of this model."""
        return None

    #: Whether it learns from complete rows only. (A run with few pairs then gives it only those rows.)
    needs_complete = False

    #: Whether its best weights are selected by the validation objective. (Otherwise the last ones are kept.)
    keeps_best = True

    #: Whether it uses only the first modality. (The others of a declaration are then left out.)
    first_only = False

    #: Whether it models one modality given another. (Its networks then take that one in addition to x and z.)
    conditional = False

    #: The declaration it was built from (`mvae.runs.config.Config`), which `mvae.save` stores; None if made by hand.
    declaration: object = None

    def penalty(self, posterior: Gaussian, terms: Terms, beta: float | Tensor) -> Float[Tensor, "rows"] | None:
        """A penalty on the posteriors (``terms rows latent``), added to each row's loss; by default None."""
        return None

    @property
    def static_terms(self) -> bool:
        """Whether complete rows have the same terms at every step. (A step can then be recorded and replayed.)"""
        return True

    def presence(self, table: Table) -> Bool[Tensor, "rows_or_1 modalities"]:
        """The modalities that each row has, by which `terms` are planned; a single row if all have the same terms."""
        return table.presence(self.names)

    # -- Posteriors ----------------------------------------------------------------------------------------

    def expert(self, name: str, x: Tensor, context: Tensor | None = None) -> Gaussian:
        """The expert of one modality for rows that have it, ``rows latent``."""
        return self.to_expert(*self.modalities[name].expert_parameters(x, context))

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
        """The subsets of each row's given modalities whose posteriors form an even mixture; None: no mixture.

        A row's components are the subsets that contain at least one modality.
        """
        return None

    def posterior_given(self, x: Mapping[str, Tensor], given: Bool[Tensor, "rows modalities"]) -> Gaussian | Mixture:
        """q(z | X) of prepared columns, ``rows latent``, where X is what ``given`` (a CPU mask) marks in each row."""
        terms = self._query(given)
        q = self.posteriors(x, terms)
        return q[0] if len(terms.given) == 1 else Mixture.even(q, terms.given.any(-1))

    def _query(self, given: Bool[Tensor, "rows modalities"]) -> Terms:
        """One term for each component of q(z | X)."""
        subsets = self.mixed(given) if (given.sum(-1) > 1).any() else None  # a single modality needs no mixture
        subsets = given[None] if subsets is None else subsets
        names = tuple(f"query {k}" for k in range(len(subsets)))
        return Terms(names, subsets, subsets, torch.ones(len(subsets), len(given)))

    def has_posterior(self, table: Table, given: Sequence[str]) -> bool:
        """Whether each row has a posterior given what it has of ``given`` (a JMVAE has none given two of three)."""
        mask = table.presence(self.names) & torch.tensor([name in given for name in self.names])
        mask = mask.unique(dim=0)  # a mixture has up to 2^M − 1 components
        try:
            plan.require_posterior(self, self._query(mask))
        except QueryError:
            return False
        return True

    # -- The objective -------------------------------------------------------------------------------------

    __call__: Callable[..., Objective]

    def forward(
        self,
        batch: Data,
        terms: Terms | None = None,
        *,
        beta: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Objective:
        """The objective of one batch (Eq. 5), with fresh noise unless some is given. The data is checked.

        For custom training loops. `mvae.fit` calls `batch_objective`, and refuses a model that overrides this method.

        Raises:
            DataError: data that does not fit the model. QueryError: a name that is not a modality.
        """
        return self.batch_objective(self.as_table(batch), terms, beta=beta, generator=generator, noise=noise)

    def batch_objective(
        self,
        batch: Table,
        terms: Terms | None = None,
        *,
        beta: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Objective:
        """`forward` without its checks, for batches of a table that was checked as a whole; training steps call it."""
        if terms is None:
            terms = self.terms(self.presence(batch), generator)
        if noise is None:
            shape = len(terms.names), len(batch), self.latent_dim
            noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.objective(self.prepare(batch), terms, noise, beta)

    def objective(
        self, x: dict[str, Tensor], terms: Terms, noise: Float[Tensor, "terms rows latent"], beta: float | Tensor = 1.0
    ) -> Objective:
        """The loss of prepared columns under a plan of terms: minus the sum of the terms' ELBOs.

        Args:
            x: prepared columns, ``rows event…`` each; one that no term needs may be absent.
            terms: what each term is given, what it scores, and its weight.
            noise: ε ~ N(0, I) of the reparameterised samples.
            beta: weight of the KL, annealed from 0 to 1 (Eq. 1).
        """
        context = self.context(x)
        posterior = self.posteriors(x, terms)
        z = posterior.rsample(noise)
        kl = posterior.kl_to_prior()
        log_prob = plan.scores(self.modalities, x, z, terms, context)
        here = terms.on_device(noise.device)
        bound = self.with_likelihoods(-beta * kl, x, log_prob, here)
        loss = -(here.weight_of_rows * bound).sum() / noise.shape[1]
        penalty = self.penalty(posterior, here, beta)
        if penalty is not None:
            loss = loss + here.mean(penalty)
        return Objective(loss, log_prob, kl, here, self.names)

    def with_likelihoods(
        self,
        bound: Float[Tensor, "terms rows"],
        x: Mapping[str, Tensor],
        log_prob: Float[Tensor, "modalities entries rows"],
        terms: Terms,
    ) -> Float[Tensor, "terms rows"]:
        """The bound plus Σ_i λ_i log p(x_i | z), with the plan's λ or the modality's own, times its class weight."""
        own, weighted = terms.likelihood_weight, []
        weights = self.weights if own is None else own[..., None].unbind(1)
        for name, weight, log_p in zip(self.names, weights, log_prob.unbind(), strict=True):
            by_row = self.modalities[name].weight_of_rows(x[name]) if name in x else None
            weighted.append((weight if by_row is None else weight * by_row) * log_p)
        if terms.alone is not None:
            return bound + terms.by_term(torch.stack(weighted))
        for log_p in weighted:
            bound = bound + log_p
        return bound

    def evaluation_terms(self, present: Bool[Tensor, "rows modalities"]) -> Terms:
        """The deterministic terms by which models are selected; by default the training terms."""
        return self.terms(present)
