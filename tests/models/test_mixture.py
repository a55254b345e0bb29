"""Mixtures compared with torch.distributions, row by row."""

import math

import pytest
import torch
from torch import Tensor

from mvae.errors import QueryError
from mvae.gaussian import Gaussian
from mvae.models.mixture import Mixture
from tests.models.common import mixture

COMPONENTS, ROWS, LATENT = 3, 4, 2


def random_mixture(seed: int = 0) -> Mixture:
    """The last component has no weight in the third row, and the first has none in the fourth."""
    torch.manual_seed(seed)
    components = Gaussian.from_mean_log_var(*3 * torch.randn(2, COMPONENTS, ROWS, LATENT).double() / 3)
    weight = torch.rand(COMPONENTS, ROWS).double()
    weight[2, 2] = weight[0, 3] = 0
    return Mixture(components, weight / weight.sum(0))


def naive(q: Mixture, row: int) -> torch.distributions.MixtureSameFamily:
    components = [
        (mean[row], variance[row]) for mean, variance in zip(q.components.mean, q.components.variance, strict=True)
    ]
    return mixture(components, q.weight[:, row].tolist())


def test_density_and_moments_match_pytorch() -> None:
    q, z = random_mixture(), torch.randn(5, 6, ROWS, LATENT).double()
    for row in range(ROWS):
        expected = naive(q, row)
        torch.testing.assert_close(q.log_prob(z)[..., row], expected.log_prob(z[..., row, :]))
        torch.testing.assert_close(q.mean[row], expected.mean)
        torch.testing.assert_close(q.stddev[row], expected.stddev)
        torch.testing.assert_close(
            q[row : row + 1].log_prob(z[..., row : row + 1, :]), q.log_prob(z)[..., row : row + 1]
        )


def chosen(q: Mixture, noise: Tensor, generator: torch.Generator) -> Tensor:
    """The component of each sample, found by recovering the noise from every component."""
    z = q.rsample(noise, generator)
    back = (z - q.components.mean[:, None]) / q.components.stddev[:, None]
    return (back - noise).abs().sum(-1).argmin(0)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_samples_are_stratified_by_component_weight(count: int) -> None:
    q, generator = random_mixture(), torch.Generator().manual_seed(1)
    component = chosen(q, torch.randn(count, ROWS, LATENT).double(), generator)
    for k in range(COMPONENTS):
        number = (component == k).sum(0)
        assert ((number - count * q.weight[k]).abs() < 2).all()
        assert (number[q.weight[k] == 0] == 0).all()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_nth_sample_follows_mixture(every: int) -> None:
    """An estimator may replace every second sample."""
    q, generator, runs = random_mixture(), torch.Generator().manual_seed(2), 4000
    found = torch.stack([chosen(q, torch.randn(4, ROWS, LATENT).double(), generator) for _ in range(runs)])
    for k in range(COMPONENTS):
        share = (found[:, ::every] == k).double().mean((0, 1))
        assert ((share - q.weight[k]).abs() < 4 * (q.weight[k] * (1 - q.weight[k]) / runs).sqrt() + 1e-9).all()


def test_samples_have_mixture_moments_and_are_reproducible() -> None:
    q, n = random_mixture(), 20_000
    z = q.sample(n, torch.Generator().manual_seed(3))
    assert z.shape == (n, ROWS, LATENT)
    assert ((z.mean(0) - q.mean).abs() < 5 * q.stddev / math.sqrt(n)).all()
    torch.testing.assert_close(z.var(0), q.variance, rtol=0.1, atol=0)
    assert torch.equal(z, q.sample(n, torch.Generator().manual_seed(3)))
    one = q.rsample(torch.zeros(ROWS, LATENT).double(), torch.Generator().manual_seed(4))
    assert (one[None] == q.components.mean).all(-1).any(0).all()


def test_sample_gradient_is_that_of_its_component() -> None:
    mean = torch.randn(2, 1, 1).double().requires_grad_()
    q = Mixture(Gaussian.from_mean_log_var(mean, torch.zeros(2, 1, 1).double()), torch.full((2, 1), 0.5).double())
    q.rsample(torch.zeros(10, 1, 1).double()).sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((2, 1, 1), 5.0).double())


def test_closed_form_kl_is_refused() -> None:
    with pytest.raises(QueryError, match="estimate it from samples"):
        random_mixture().kl_to_prior()
