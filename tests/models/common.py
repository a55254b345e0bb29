"""Helpers for the tests of all models: small float64 models, incomplete tables, and naive Gaussians row by row.

The naive code uses `torch.distributions` and the oracle's loops, and nothing from `mvae.gaussian`,
`mvae.models.objective` or `mvae.models.terms`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, distributions, nn

from mvae.data.table import Table
from mvae.evaluation.likelihood import log_likelihood
from mvae.evaluation.validation import validate
from mvae.gaussian import Gaussian
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.mixture import Mixture
from mvae.training.fit import fit
from tests.every_kind import MaskedTerms, column, gradients, modality, noise_for
from tests.oracle import LinearGaussian, cell, naive_expert, naive_log_prob

LATENT = 2
KINDS = ["image", "label", "signal"]

Normal = tuple[Tensor, Tensor]  # mean and variance of one row's Gaussian, ``latent`` each


# -- Small models and tables -------------------------------------------------------------------------------------


def parts(kinds: Sequence[str] = KINDS, latent: int = LATENT, seed: int = 0) -> dict[str, Modality]:
    """Float64 modalities with random weights and a random λ, one for each kind of likelihood."""
    torch.manual_seed(seed)
    return {kind: modality(kind, latent, weight=0.5 + 2 * torch.rand(()).item()) for kind in kinds}


def complete(rows: int, kinds: Sequence[str] = KINDS) -> Table:
    return Table({kind: column(kind, rows) for kind in kinds})


def incomplete(rows: int, kinds: Sequence[str] = KINDS) -> Table:
    """A table with a third of its cells missing; the first row is complete and no row is empty."""
    present = torch.rand(rows, len(kinds)) < 0.67
    present[torch.arange(rows), torch.randint(0, len(kinds), (rows,))] = True
    present[0] = True
    return Table({kind: column(kind, rows) for kind in kinds}, {k: present[:, i] for i, k in enumerate(kinds)})


def refilled(table: Table, fill: Mapping[str, float]) -> Table:
    """The same table with other values in its missing cells."""
    columns = {}
    for i, (name, values) in enumerate(table.columns.items()):
        columns[name] = cast("Tensor", values).clone()
        columns[name][~table.present[:, i]] = fill[name]
    return Table(columns, {name: table.present[:, i] for i, name in enumerate(table.names)})


def observed(table: Table, row: int, names: Sequence[str]) -> list[str]:
    """The modalities among these that are observed in the row."""
    return [name for name in names if name in table.names and table.present[row, table.names.index(name)]]


# -- Values and gradients ----------------------------------------------------------------------------------------


def assert_same_gradients(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def assert_same(model: nn.Module, fast: Tensor, naive: Tensor) -> None:
    """Same value and same gradient of every parameter, to float64's accuracy."""
    torch.testing.assert_close(fast, naive, rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(model, fast), gradients(model, naive))


class WeightedGradients:
    """Sums of gradients of a model's parameters, each output with a weight of its own; ``found`` is by name."""

    def __init__(self, model: nn.Module):
        self.named = dict(model.named_parameters())
        self.found = {name: torch.zeros_like(parameter) for name, parameter in self.named.items()}

    def add(self, output: Tensor, weight: Tensor) -> None:
        parts = torch.autograd.grad(output, list(self.named.values()), weight, allow_unused=True, retain_graph=True)
        for name, part in zip(self.named, parts, strict=True):
            self.found[name] += 0 if part is None else part


def assert_naive(
    model: MultimodalVAE, table: Table, naive: Callable[[Any, Table, Tensor, float], Tensor], beta: float
) -> None:
    """The loss and its gradients are those of the naive loop over rows, with the same noise."""
    noise = noise_for(model, model.terms(table.presence(model.names)), len(table))
    assert_same(model, model(table, beta=beta, noise=noise).loss, naive(model, table, noise, beta))


def assert_posterior(q: Gaussian | Mixture, expected: Sequence[Normal]) -> None:
    """Each row's mean and variance are these."""
    mean, variance = (torch.stack(parts).double() for parts in zip(*expected, strict=True))
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, variance)


def assert_mixtures(q: Gaussian | Mixture, expected: Sequence[Sequence[Normal]]) -> None:
    """Each row's density, mean and variance are those of the mixture of these; of the prior, if there are none."""
    z = torch.randn(7, len(expected), LATENT).double()
    for row, components in enumerate(expected):
        naive = mixture(components or [standard()])
        torch.testing.assert_close(q.log_prob(z)[:, row], naive.log_prob(z[:, row]))
        torch.testing.assert_close(q.mean[row], naive.mean)
        torch.testing.assert_close(q.variance[row], naive.variance)


# -- Naive Gaussians, one row at a time --------------------------------------------------------------------------


def normal(q: Normal) -> distributions.Independent:
    return distributions.Independent(distributions.Normal(q[0], q[1].sqrt()), 1)


def mixture(components: Sequence[Normal], weight: Sequence[float] | None = None) -> distributions.MixtureSameFamily:
    """PyTorch's mixture of these Gaussians, with equal weights by default."""
    mean, variance = (torch.stack(parts) for parts in zip(*components, strict=True))
    chances = torch.tensor(weight or [1.0] * len(components)).double()
    each = distributions.Independent(distributions.Normal(mean, variance.sqrt()), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(chances), each)


def standard(latent: int = LATENT) -> Normal:
    return torch.zeros(latent).double(), torch.ones(latent).double()


def divergence(q: Normal, p: Normal | None = None) -> Tensor:
    """KL[q, p]; p is the prior by default."""
    return distributions.kl_divergence(normal(q), normal(p or standard(len(q[0]))))


def expert(model: MultimodalVAE, table: Table, name: str, row: int) -> Normal:
    """N(mean, exp(log-variance)) from the outputs of the modality's encoder."""
    return naive_expert(model.modalities[name], cell(table, name, row))


def product_of(experts: Sequence[Normal]) -> Normal:
    """The product of these Gaussians, without the prior."""
    precision = torch.stack([1 / variance for _, variance in experts]).sum(0)
    weighted = torch.stack([mean / variance for mean, variance in experts]).sum(0)
    return weighted / precision, 1 / precision


def log_joint(model: MultimodalVAE, table: Table, row: int, of: Sequence[str], z: Tensor) -> Tensor:
    """Σ λ_i log p(x_i | z) for one row."""
    parts = [m.weight * naive_log_prob(m, cell(table, n, row), z) for n, m in model.modalities.items() if n in of]
    return torch.stack(parts).sum()


def bound(
    model: MultimodalVAE, table: Table, row: int, q: Normal, of: Sequence[str], noise: Tensor, beta: float
) -> Tensor:
    """log p of the scored modalities at one sample of q, minus β KL[q, p(z)]."""
    return log_joint(model, table, row, of, q[0] + q[1].sqrt() * noise) - beta * divergence(q)


# -- Properties of every model --------------------------------------------------------------------------------------


def assert_missing_values_ignored(
    model: MultimodalVAE, kinds: Sequence[str] = KINDS, make: Callable[[int, Sequence[str]], Table] = incomplete
) -> None:
    """Zeros and nonsense in the missing cells give the same bits of loss, gradients, metrics and posteriors.

    The result is also the same if networks run on every row and masks select what counts.
    """
    rows = 9
    zeros = refilled(make(rows, kinds), dict.fromkeys(KINDS, 0))
    nonsense = refilled(zeros, {"image": 255, "label": -9, "signal": math.nan})
    terms = model.terms(zeros.presence(model.names))
    noise = noise_for(model, terms, rows)
    one, other = (model(table, terms, noise=noise) for table in (zeros, nonsense))
    assert one.loss.isfinite()
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.sums(), other.sums())
    expected, found = gradients(model, one.loss), gradients(model, other.loss)
    for name, gradient in found.items():
        assert gradient.isfinite().all()
        assert torch.equal(gradient, expected[name]), name
    for name in model.names:
        q, p = (model.posterior(table, given=[name]) for table in (zeros, nonsense))
        assert torch.equal(q.mean, p.mean)
        assert torch.equal(q.variance, p.variance)
    assert validate(model, zeros) == validate(model, nonsense)
    masks = MaskedTerms(terms.names, terms.given, terms.of, terms.weight, terms.likelihood_weight, terms.keys)
    masked = model(zeros.filled(), masks, noise=noise)
    torch.testing.assert_close(masked.loss, one.loss, rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(model, masked.loss), expected)
    torch.testing.assert_close(masked.sums(), one.sums())


def assert_empty_row_adds_nothing(model: MultimodalVAE, kinds: Sequence[str] = KINDS) -> None:
    """A row in which only an unknown column is observed counts as a row and adds zero to every sum."""
    rows, unknown = 4, torch.zeros(4)
    table = incomplete(rows - 1, kinds)
    columns = {n: torch.cat([cast("Tensor", c), cast("Tensor", c)[:1]]) for n, c in table.columns.items()}
    present = {n: torch.cat([table.present[:, i], torch.tensor([False])]) for i, n in enumerate(table.names)}
    longer = Table(columns | {"unknown": unknown}, present)
    terms = model.terms(longer.presence(model.names))
    noise = noise_for(model, terms, rows)
    result = model(longer, terms, noise=noise)
    own = model.terms(table.presence(model.names))
    kept = [terms.names.index(name) for name in own.names]
    expected = model(table, own, noise=noise[kept][:, : rows - 1]).loss * (rows - 1) / rows
    assert_same(model, result.loss, expected)
    assert result.sums().isfinite().all()


def assert_answers_all_queries(built: MultimodalVAE) -> None:
    """A model of `KINDS` gives marginal, joint and conditional likelihoods, and samples."""
    built, table = built.float(), complete(3)
    assert built.plan_query(["image"], ["label"]) == (("image", "label"), ["label"])
    for of, given in ((["image"], []), (["image", "label"], []), (["signal"], ["image", "label"])):
        assert log_likelihood(built, table, of=of, given=given, samples=20).values.isfinite().all()
    assert built.generate({"label": [0, 1]}, n=4)["image"].shape == (4, 2, 6)


def assert_trains(
    build: Callable[[], MultimodalVAE],
    kinds: Sequence[str] = KINDS,
    tables: Sequence[Callable[[int, Sequence[str]], Table]] = (complete, incomplete),
) -> dict[str, float]:
    """Two epochs of `fit` on complete and on incomplete rows give finite numbers and change the weights.

    Returns:
        The metrics of `validate` on complete rows.
    """
    measured: dict[str, float] = {}
    for make in tables:
        torch.manual_seed(1)
        model, table, validation = build(), make(13, kinds), make(6, kinds)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        history = fit(model, table, validation=validation, epochs=2, anneal_epochs=1, batch_size=3, callbacks=[])
        assert all(math.isfinite(value) for row in history.epochs for value in row.values())
        assert "train/loss" in history.epochs[0]
        assert "validation/objective" in history.epochs[0]
        assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
        measured = measured or validate(model, complete(6, kinds))
    assert all(math.isfinite(value) for value in measured.values())
    return measured


# -- Closed forms --------------------------------------------------------------------------------------------------


def expected_objective(model: MultimodalVAE, table: Table, row: int) -> Tensor:
    """Minus the loss of one row, averaged exactly over z: corners (±1, …) do so for functions quadratic in z."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=model.latent_dim)), dtype=torch.float64)
    copies = table.take([row] * len(corners))
    terms = model.terms(copies.presence(model.names))
    return -model(copies, terms, noise=corners.expand(len(terms.names), -1, -1)).loss


def posterior_row(exact: LinearGaussian, table: Table, row: int) -> Normal:
    """The true posterior given the row's observed values."""
    mean, variance = exact.posterior(table, exact.names)
    return mean[row], variance[row]


def exact_elbo(exact: LinearGaussian, table: Table, row: int, q: Normal) -> Tensor:
    """The ELBO of the row's observed values under any q: log p(X) − KL[q, p(z | X)]."""
    return exact.log_prob(table, exact.names)[row] - divergence(q, posterior_row(exact, table, row))
