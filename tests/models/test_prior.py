"""Fitted priors: density compared with SciPy, moments of samples, log p in closed form, saving and loading."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mvae.errors import QueryError
from mvae.evaluation.likelihood import Denominator, log_likelihood
from mvae.gaussian import Gaussian
from mvae.models.fitting import fit_prior, load_prior, save_prior
from mvae.models.mixture import Mixture
from mvae.models.mmvae import MMVAE
from mvae.models.prior import MixturePrior, Prior
from tests.models.common import KINDS, complete, parts
from tests.oracle import LinearGaussian
from tests.unchecked import unchecked


def some_prior(latent: int = 2) -> MixturePrior:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, latent, latent, generator=generator).double()
    covariance = root @ root.mT + 0.3 * torch.eye(latent).double()
    centre = 2 * torch.randn(3, latent, generator=generator).double()
    return MixturePrior(torch.tensor([0.5, 0.3, 0.2]).double(), centre, covariance)


def density(prior: MixturePrior, z: Tensor, loading: Tensor | None = None, scale: float = 0.0) -> Tensor:
    """log Σ_k w_k N(z; A μ_k, A Σ_k Aᵀ + scale² I), by SciPy; A = I by default."""
    parts = []
    for weight, centre, covariance in zip(prior.weight, prior.centre, prior.covariance, strict=True):
        a = torch.eye(len(centre)).double() if loading is None else loading
        spread = (a @ covariance @ a.T + scale**2 * torch.eye(len(a)).double()).numpy()
        found = stats.multivariate_normal((a @ centre).numpy(), spread).logpdf(z.numpy())
        parts.append(torch.from_numpy(np.atleast_1d(found)) + weight.log())
    return torch.stack(parts).logsumexp(0)


def test_mixture_density_and_moments_are_exact() -> None:
    prior, z = some_prior(), torch.randn(50, 2).double()
    torch.testing.assert_close(prior.log_prob(z), density(prior, z))
    assert prior.log_prob(z.reshape(5, 10, 2)).shape == (5, 10)
    noise = torch.randn(60_000, 2, generator=torch.Generator().manual_seed(1)).double()
    drawn = prior.rsample(noise, torch.Generator().manual_seed(2))
    away = prior.centre - prior.mean
    covariance = (prior.weight[:, None, None] * (prior.covariance + away[:, :, None] * away[:, None])).sum(0)
    torch.testing.assert_close(drawn.mean(0), prior.mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.15, rtol=0.05)


@pytest.mark.parametrize(("of", "given"), [(["x1", "x2"], []), (["x1"], ["x2"])])
def test_log_p_with_prior_matches_closed_form(of: list[str], given: list[str]) -> None:
    """The proposals are inexact; each x of a linear model is then a mixture of Gaussians."""
    exact = LinearGaussian(2, [3, 2], seed=0, perturb=0.3)
    table, prior = exact.data(8, seed=1), some_prior()
    exact.model.prior = prior

    def true_log_p(names: list[str]) -> Tensor:
        """The closed form, for x / s with unit noise."""
        loading = torch.cat([exact.loading[n] / exact.scale[n] for n in names])
        x = torch.cat([(torch.as_tensor(table[n]) - exact.offset[n]) / exact.scale[n] for n in names], 1)
        volume = sum(len(exact.offset[n]) * math.log(exact.scale[n]) for n in names)
        return density(prior, x, loading, 1.0) - volume

    expected = true_log_p([*of, *given]) - (true_log_p(given) if given else 0)
    for denominator in (Denominator(), Denominator("prior", 20_000))[: 1 + bool(given)]:
        found = log_likelihood(exact.model, table, of, given, samples=5_000, denominator=denominator)
        error = (1 / found.effective_samples - 1 / 5_000).clamp(min=0).sqrt()
        assert ((found.values - expected).abs() < 5 * (2 if given else 1) * error + 2e-3).all()
        assert error.median() < 0.05
    exact.model.prior = None
    without = log_likelihood(exact.model, table, of, given, samples=100)
    assert (without.values - expected).abs().max() > 0.5


def test_prior_changes_only_samples_without_data() -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    model, table = exact.model, exact.data(4, seed=1)
    before = model.generate(table, ["x1"], seed=0, mean=True)["x1"]
    far = MixturePrior(torch.ones(1).double(), torch.full((1, 2), 50.0).double(), torch.eye(2)[None].double())
    model.prior = far
    assert torch.equal(model.generate(table, ["x1"], seed=0, mean=True)["x1"], before)
    drawn = model.generate(n=500, of=["x1"], seed=0, mean=True)["x1"][:, 0]
    expected = exact.loading["x1"] @ far.centre[0] + exact.offset["x1"]
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.2, rtol=0)


def aggregate(q: Gaussian | Mixture) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the aggregate posterior, for latents that are independent given a row."""
    return q.mean.mean(0), q.mean.T.cov(correction=0) + torch.diag(q.variance.mean(0))


def check_moments(prior: Prior, q: Gaussian | Mixture, tolerance: float) -> None:
    noise = torch.randn(20_000, q.mean.shape[1], generator=torch.Generator().manual_seed(1)).to(q.mean)
    drawn, (mean, covariance) = prior.rsample(noise, torch.Generator().manual_seed(2)), aggregate(q)
    torch.testing.assert_close(drawn.mean(0), mean, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(drawn.T.cov().reshape(covariance.shape), covariance, atol=tolerance, rtol=2 * tolerance)


@pytest.mark.parametrize("components", [1, 4])
def test_fitted_mixture_has_moments_of_aggregate_posterior(components: int) -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    table = exact.data(2000, seed=1)
    check_moments(fit_prior(exact.model, table, components=components), exact.model.posterior(table), 0.03)


def test_prior_fits_mixture_of_experts() -> None:
    torch.manual_seed(0)
    model, table = MMVAE(parts(KINDS), 2), complete(4000)
    check_moments(fit_prior(model, table, components=4), model.posterior(table), 0.1)


def test_prior_survives_saving_and_is_reproducible(tmp_path: Path) -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    table, z = exact.data(200, seed=1), torch.randn(5, 2).double()
    prior = fit_prior(exact.model, table, components=3, seed=4)
    save_prior(prior, tmp_path / "prior.safetensors")
    again = load_prior(tmp_path / "prior.safetensors")
    assert torch.equal(again.log_prob(z), prior.log_prob(z))
    assert torch.equal(fit_prior(exact.model, table, components=3, seed=4).log_prob(z), prior.log_prob(z))


def test_flow_is_normalised_fits_and_survives_saving(tmp_path: Path) -> None:
    pytest.importorskip("zuko")
    exact = LinearGaussian(1, [3, 4], seed=0)
    table = exact.data(2000, seed=1)
    prior = fit_prior(exact.model, table, "flow", epochs=60)
    grid = torch.linspace(-12, 12, 4001)[:, None]
    assert float(prior.log_prob(grid).exp().sum() * 24 / 4000) == pytest.approx(1, abs=1e-3)
    check_moments(prior, Gaussian(*(part.float() for part in _parts(exact.model.posterior(table)))), 0.1)
    save_prior(prior, tmp_path / "prior.safetensors")
    assert torch.equal(load_prior(tmp_path / "prior.safetensors").log_prob(grid), prior.log_prob(grid))
    exact.model.prior = prior
    assert log_likelihood(exact.model, table[:5], ["x1"], samples=50).values.isfinite().all()


def test_flow_fits_and_loads_where_float64_is_the_default(tmp_path: Path) -> None:
    pytest.importorskip("zuko")
    exact = LinearGaussian(2, [3, 4], seed=0)
    table, z = exact.data(50, seed=1), torch.randn(5, 2, dtype=torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        prior = fit_prior(exact.model, table, "flow", epochs=1)
        save_prior(prior, tmp_path / "prior.safetensors")
        assert torch.equal(load_prior(tmp_path / "prior.safetensors").log_prob(z), prior.log_prob(z))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(load_prior(tmp_path / "prior.safetensors").log_prob(z), prior.log_prob(z))


def _parts(q: Gaussian | Mixture) -> tuple[Tensor, Tensor]:
    assert isinstance(q, Gaussian)
    return q.precision, q.shift


def test_invalid_fit_settings_are_refused() -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    table = exact.data(5, seed=1)
    with pytest.raises(QueryError, match="'mixture' or a 'flow', not 'vamp'"):
        fit_prior(exact.model, table, "vamp")
    with pytest.raises(QueryError, match="5 rows are too few"):
        fit_prior(exact.model, table, components=6)
    with pytest.raises(QueryError, match="epochs must be at least 1"):
        fit_prior(exact.model, table, epochs=0)
    for seed in (-1, 2**32, "a", 1.5):
        with unchecked(), pytest.raises(QueryError, match="seed must be"):
            fit_prior(exact.model, table, components=2, seed=seed)  # pyright: ignore[reportArgumentType]
