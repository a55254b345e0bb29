"""References that are independent of the library: a naive objective and a model with closed forms.

`naive_loss` is Eq. 5 as a plain loop over rows and terms, one row through one network at a time, with its own
product of experts, its own KL and its own log p. `LinearGaussian` is a model whose every quantity is known
exactly. Neither uses `mvae.gaussian`, `mvae.models.objective`, `mvae.models.terms` or a likelihood's log p.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributions, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import MVAE
from mvae.models.terms import Terms

# -- The objective, naively ------------------------------------------------------------------------------------


@dataclass
class Term:
    """One ELBO of one row: ``t`` is the index of its noise, ``lam`` the λ of each modality, ``times`` its weight."""

    t: int
    given: frozenset[str]
    of: frozenset[str]
    lam: Mapping[str, float]
    times: float = 1.0


def eq5(has: Sequence[str], drawn: Mapping[str, frozenset[str]], distinct: bool = True) -> dict[str, frozenset[str]]:
    """Term name → subset, for a row that has these modalities and drew these random subsets (Eq. 5).

    With ``distinct``, a repeated subset is left out.
    """
    listed = {name: frozenset([name]) for name in has} | {"full": frozenset(has)} | dict(drawn)
    terms: dict[str, frozenset[str]] = {}
    for name, subset in listed.items():
        if subset and not (distinct and subset in terms.values()):
            terms[name] = subset
    return terms


def mvae_plan(model: MVAE, batch: Table, terms: Terms, lam: Tensor | None = None) -> list[list[Term]]:
    """Eq. 5's terms of each row, and the model's cross terms.

    From ``terms``, only the drawn subsets and the indices of the noise are used. ``lam`` replaces the modalities' own λ
    in each term, ``terms modalities``.
    """
    rows = [
        [n for n in model.names if n in batch.names and batch.present[r, batch.names.index(n)]]
        for r in range(len(batch))
    ]
    pairs = {source: sum(source in has and len(has) > 1 for has in rows) / len(rows) for source in model.cross_from}
    plan = []
    for has in rows:
        row = len(plan)
        drawn = {}
        for t, name in enumerate(terms.names):
            if name.startswith("random "):
                mask = terms.given[t, row if terms.given.shape[1] > 1 else 0]
                drawn[name] = frozenset(n for n, taken in zip(model.names, mask.tolist(), strict=True) if taken)
        row_terms = []
        for name, subset in eq5(has, drawn, model.distinct_terms).items():
            t = terms.names.index(name)
            counts = not model.cross_from or (len(subset) == 1 and name != "full")
            weights = ([w if counts else 1.0 for w in model.weights]) if lam is None else lam[t].tolist()
            row_terms.append(Term(t, subset, subset, dict(zip(model.names, weights, strict=True))))
        for source in model.cross_from:
            if source in has and len(has) > 1:
                t = terms.names.index(f"{source} to all")
                share = model.recipe.share / max(model.recipe.share, pairs[source])
                weights = [max(1.0, w * share) for w in model.weights]
                weights = dict(zip(model.names, weights, strict=True))
                row_terms.append(Term(t, frozenset([source]), frozenset(has), weights))
        plan.append(row_terms)
    return plan


def any_plan(model: MultimodalVAE, rows: int, terms: Terms) -> list[list[Term]]:
    """The terms as the masks define them, for models and plans other than Eq. 5's."""
    plan = []
    for row in range(rows):
        row_terms = []
        for t in range(len(terms.names)):
            given, of, times = (
                part[t, row if part.shape[1] > 1 else 0] for part in (terms.given, terms.of, terms.weight)
            )
            lam = model.weights if terms.likelihood_weight is None else terms.likelihood_weight[t].tolist()
            row_terms.append(
                Term(
                    t,
                    frozenset(name for i, name in enumerate(model.names) if given[i]),
                    frozenset(name for i, name in enumerate(model.names) if of[i]),
                    dict(zip(model.names, lam, strict=True)),
                    float(times),
                )
            )
        plan.append([term for term in row_terms if term.times])
    return plan


def naive_loss(
    model: MultimodalVAE, batch: Table, plan: list[list[Term]], noise: Tensor, beta: float | Tensor = 1.0
) -> Tensor:
    """Minus the mean over rows of the sum over a row's terms of its ELBO (Eq. 2, 5)."""
    total = torch.zeros((), dtype=noise.dtype)
    for row, terms in enumerate(plan):
        for term in terms:
            bound = naive_elbo(model, batch, row, term, noise[term.t, row], beta)
            total = total + term.times * bound
    return -total / len(batch)


def naive_elbo(model: MultimodalVAE, batch: Table, row: int, term: Term, noise: Tensor, beta: float | Tensor) -> Tensor:
    """One term of one row (Eq. 2) with one sample of z."""
    experts = [naive_expert(model.modalities[name], cell(batch, name, row)) for name in sorted(term.given)]
    mean, variance = naive_product(experts, len(noise))
    z = mean + variance.sqrt() * noise
    bound = -beta * naive_kl(mean, variance)
    for name in sorted(term.of):
        bound = bound + term.lam[name] * naive_log_prob(model.modalities[name], cell(batch, name, row), z)
    return bound


def cell(batch: Table, name: str, row: int) -> Tensor:
    """One row of one column, of shape ``1 event…``, in the dtype that its networks take."""
    value = cast("Tensor", batch.columns[name])[row : row + 1]
    if value.dtype == torch.uint8:
        return value.double() / 255  # as in `tests.every_kind`: Bernoulli(levels=255)
    return value.double() if value.is_floating_point() or value.dtype == torch.bool else value


def naive_expert(modality: Modality, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q̃(z | x) for one row, as the encoder outputs them."""
    output = modality.encoder(x)
    mean, log_var = (
        output if isinstance(output, tuple) else (output[:, : output.shape[1] // 2], output[:, output.shape[1] // 2 :])
    )
    return mean[0], log_var[0].exp()


def naive_product(experts: Iterable[tuple[Tensor, Tensor]], latent_dim: int) -> tuple[Tensor, Tensor]:
    """App. B: μ = (Σ μ_i T_i)(Σ T_i)^−1 and V = (Σ T_i)^−1 with T_i = V_i^−1, the prior N(0, 1) among the experts."""
    precision, weighted = torch.ones(latent_dim).double(), torch.zeros(latent_dim).double()
    for mean, variance in experts:
        precision = precision + 1 / variance
        weighted = weighted + mean / variance
    return weighted / precision, 1 / precision


def naive_kl(mean: Tensor, variance: Tensor) -> Tensor:
    """KL[N(mean, variance), N(0, I)], summed over the latents."""
    total = torch.zeros((), dtype=mean.dtype)
    for mu, v in zip(mean, variance, strict=True):
        total = total + distributions.kl_divergence(distributions.Normal(mu, v.sqrt()), distributions.Normal(0.0, 1.0))
    return total


def naive_log_prob(modality: Modality, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) of one row by torch.distributions."""
    output, family = modality.decoder(z[None]), modality.likelihood
    match family:
        case likelihoods.Categorical():
            return distributions.Categorical(logits=output.reshape(*x.shape, output.shape[-1])).log_prob(x).sum()
        case likelihoods.Bernoulli():
            p = distributions.Bernoulli(logits=output.reshape(x.shape), validate_args=False)  # grey levels, not bits
        case likelihoods.Gaussian():
            p = distributions.Normal(output.reshape(x.shape), family.log_scale.exp())
        case likelihoods.Laplace():
            p = distributions.Laplace(output.reshape(x.shape), family.log_scale.exp())
        case _:
            raise NotImplementedError(type(family).__name__)
    return p.log_prob(x).sum()


# -- A model with closed forms ---------------------------------------------------------------------------------


class LinearGaussian:
    """z ~ N(0, I); x_i | z ~ N(A_i z + b_i, s_i² I), in float64, with modalities named x1, x2, ….

    A_iᵀA_i is diagonal, so that q̃(z | x_i) ∝ p(x_i | z) is a diagonal Gaussian which a linear encoder gives
    exactly, and the product of experts is the exact posterior of every subset.

    Args:
        latent_dim: D.
        dims: the length of each modality, at least D.
        seed: seed of A, b, s and the perturbation.
        perturb: 0 for the exact encoders. Otherwise every expert's log-variance is too large by this much, and its
            mean is off by this many standard normal numbers. (A proposal that is too wide keeps the variance of
            importance weights finite. With the exact one they are constant, and an estimator's test tests nothing.)

    >>> exact = LinearGaussian(2, [3, 4], seed=0)
    >>> table = exact.data(5, seed=1)
    >>> exact.log_conditional(table, of=["x1"], given=["x2"]).shape
    torch.Size([5])
    """

    def __init__(self, latent_dim: int, dims: Sequence[int], seed: int, perturb: float = 0.0):
        if min(dims) < latent_dim:
            raise ValueError(f"each modality must have at least {latent_dim} dimensions, for AᵀA to have full rank")
        generator = torch.Generator().manual_seed(seed)
        self.latent_dim = latent_dim
        self.names = [f"x{i + 1}" for i in range(len(dims))]
        self.loading: dict[str, Tensor] = {}
        self.offset: dict[str, Tensor] = {}
        self.scale: dict[str, Tensor] = {}
        modalities = {}
        for name, dim in zip(self.names, dims, strict=True):
            columns = torch.linalg.qr(torch.randn(dim, latent_dim, generator=generator).double()).Q
            length = 0.5 + torch.rand(latent_dim, generator=generator).double()
            start = 0.4 + 0.6 * torch.rand((), generator=generator).item()
            a, b = columns * length, torch.randn(dim, generator=generator).double()
            likelihood = likelihoods.Gaussian(start).double()
            s = likelihood.log_scale.exp()  # the model's value, after rounding
            off = perturb * torch.randn(latent_dim, generator=generator).double()
            inverse = columns.T / length[:, None]  # (AᵀA)^−1 Aᵀ
            encoder = _linear(
                torch.cat([inverse, torch.zeros_like(inverse)]),
                torch.cat([-inverse @ b + off, 2 * (s / length).log() + perturb]),
            )
            self.loading[name], self.offset[name], self.scale[name] = a, b, s
            modalities[name] = Modality(encoder, _linear(a, b), likelihood)
        self.model = MVAE(modalities, latent_dim, cross_from=())

    def data(self, n: int, seed: int) -> Table:
        """n rows drawn from the model, complete."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.latent_dim, generator=generator).double()
        columns = {}
        for name in self.names:
            noise = torch.randn(n, len(self.offset[name]), generator=generator).double()
            columns[name] = z @ self.loading[name].T + self.offset[name] + self.scale[name] * noise
        return Table(columns)

    def log_prob(self, table: Table, of: Sequence[str]) -> Tensor:
        """log p of each row's observed values of these modalities, ``rows`` in nats (0 if all are missing)."""
        return self.log_conditional(table, of, given=[])

    def log_conditional(self, table: Table, of: Sequence[str], given: Sequence[str]) -> Tensor:
        """log p(of | given) of each row's observed values, given those of ``given``; ``rows`` in nats."""
        result = torch.zeros(len(table)).double()
        for row in range(len(table)):
            observed = self._has(table, row, of)
            if not observed:
                continue
            mean, covariance = self._row_posterior(table, row, given)
            a = torch.cat([self.loading[name] for name in observed])
            b = torch.cat([self.offset[name] for name in observed])
            noise = torch.cat([(self.scale[name] ** 2).expand(len(self.offset[name])) for name in observed])
            x = torch.cat([cast("Tensor", table.columns[name])[row].double() for name in observed])
            predictive = distributions.MultivariateNormal(a @ mean + b, a @ covariance @ a.T + noise.diag())
            result[row] = predictive.log_prob(x)
        return result

    def posterior(self, table: Table, given: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Mean and variance, ``rows latent`` each, of p(z | each row's observed values of these modalities)."""
        means, variances = [], []
        for row in range(len(table)):
            mean, covariance = self._row_posterior(table, row, given)
            assert math.isclose(covariance.abs().sum().item(), covariance.diagonal().sum().item(), rel_tol=1e-9)
            means.append(mean)
            variances.append(covariance.diagonal())
        return torch.stack(means), torch.stack(variances)

    def _row_posterior(self, table: Table, row: int, given: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Mean and full covariance of z given one row, by the textbook formula for linear-Gaussian models."""
        precision, weighted = torch.eye(self.latent_dim).double(), torch.zeros(self.latent_dim).double()
        for name in self._has(table, row, given):
            a, s2 = self.loading[name], self.scale[name] ** 2
            x = cast("Tensor", table.columns[name])[row].double()
            precision = precision + a.T @ a / s2
            weighted = weighted + a.T @ (x - self.offset[name]) / s2
        covariance = torch.linalg.inv(precision)
        return covariance @ weighted, covariance

    def _has(self, table: Table, row: int, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in table.names and table.present[row, table.names.index(name)]]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
