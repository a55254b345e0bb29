"""Mixtures against torch.distributions, one row at a time."""

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
    """The third row lacks the last component, the fourth the first."""
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


def test_density_mean_and_standard_deviation_are_pytorchs() -> None:
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
    """Which component each sample came from, found by going back to the noise from each."""
    z = q.rsample(noise, generator)
    back = (z - q.components.mean[:, None]) / q.components.stddev[:, None]
    return (back - noise).abs().sum(-1).argmin(0)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_samples_are_in_strata_and_none_is_of_a_component_without_weight(count: int) -> None:
    q, generator = random_mixture(), torch.Generator().manual_seed(1)
    component = chosen(q, torch.randn(count, ROWS, LATENT).double(), generator)
    for k in range(COMPONENTS):
        number = (component == k).sum(0)
        assert ((number - count * q.weight[k]).abs() < 2).all()
        assert (number[q.weight[k] == 0] == 0).all()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_each_sample_by_itself_and_every_second_one_are_of_the_mixture(every: int) -> None:
    """An estimator may take every second one from somewhere else."""
    q, generator, runs = random_mixture(), torch.Generator().manual_seed(2), 4000
    found = torch.stack([chosen(q, torch.randn(4, ROWS, LATENT).double(), generator) for _ in range(runs)])
    for k in range(COMPONENTS):
        share = (found[:, ::every] == k).double().mean((0, 1))
        assert ((share - q.weight[k]).abs() < 4 * (q.weight[k] * (1 - q.weight[k]) / runs).sqrt() + 1e-9).all()


def test_samples_have_the_moments_and_the_same_generator_draws_the_same() -> None:
    q, n = random_mixture(), 20_000
    z = q.sample(n, torch.Generator().manual_seed(3))
    assert z.shape == (n, ROWS, LATENT)
    assert ((z.mean(0) - q.mean).abs() < 5 * q.stddev / math.sqrt(n)).all()
    torch.testing.assert_close(z.var(0), q.variance, rtol=0.1, atol=0)
    assert torch.equal(z, q.sample(n, torch.Generator().manual_seed(3)))
    one = q.rsample(torch.zeros(ROWS, LATENT).double(), torch.Generator().manual_seed(4))
    assert (one[None] == q.components.mean).all(-1).any(0).all()


def test_the_gradient_of_a_sample_is_that_of_its_component() -> None:
    mean = torch.randn(2, 1, 1).double().requires_grad_()
    q = Mixture(Gaussian.from_mean_log_var(mean, torch.zeros(2, 1, 1).double()), torch.full((2, 1), 0.5).double())
    q.rsample(torch.zeros(10, 1, 1).double()).sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((2, 1, 1), 5.0).double())


def test_there_is_no_kl_in_closed_form() -> None:
    with pytest.raises(QueryError, match="estimate it from samples"):
        random_mixture().kl_to_prior()
