"""Pareto k̂ on tails of known shape."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mvae.evaluation.likelihood import log_likelihoods
from mvae.evaluation.pareto import pareto_k
from tests.oracle import LinearGaussian

ROWS = 200


def shrunk(k: float, n: int) -> float:
    """What an unbiased estimate becomes under the documented prior, worth ten observations at ½."""
    return (k * n + 0.5 * 10) / (n + 10)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.7, 0.9, 1.5])
@pytest.mark.parametrize("n", [30, 300])
def test_the_shape_of_a_generalised_pareto_tail_is_found(k: float, n: int) -> None:
    exceedances = stats.genpareto.rvs(k, scale=3.0, size=(n, ROWS), random_state=np.random.default_rng(0))
    weights = torch.cat([torch.ones(1, ROWS).double(), 1 + torch.from_numpy(exceedances)])
    found = pareto_k(weights.log())
    assert float(found.mean()) == pytest.approx(shrunk(k, n), abs=0.03 if n == 300 else 0.1)
    spread = (1 + k) / math.sqrt(n)  # of the maximum-likelihood estimate, for large n
    assert float(found.std()) < 1.5 * max(spread, 0.5 / math.sqrt(n))


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_tail_index_is_found_from_the_largest_weights(k: float) -> None:
    """w = U^−k has the tail P(w > t) = t^(−1/k)."""
    log_weight = -k * torch.rand(4000, ROWS, generator=torch.Generator().manual_seed(0)).double().log()
    largest = log_weight.topk(191, dim=0).values
    assert float(pareto_k(largest).mean()) == pytest.approx(shrunk(k, 190), abs=0.03)


def naive_k(weights: list[float]) -> float:
    """Zhang & Stephens (2009), Eq. 6 and 7, for the exceedances of one row over its smallest weight, then shrunk."""
    threshold, *rest = sorted(weights)
    x = [weight - threshold for weight in rest]
    n, m = len(x), 30 + math.floor(math.sqrt(len(x)))
    quartile = x[math.floor(n / 4 + 0.5) - 1]
    thetas = [1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * quartile) for j in range(1, m + 1)]

    def shape(theta: float) -> float:
        return sum(math.log1p(-theta * value) for value in x) / n

    profiles = [n * (math.log(-theta / shape(theta)) - shape(theta) - 1) for theta in thetas]
    shares = [1 / sum(math.exp(other - own) for other in profiles) for own in profiles]
    return shrunk(shape(sum(share * theta for share, theta in zip(shares, thetas, strict=True))), n)


@pytest.mark.parametrize("n", [5, 20, 190])
def test_k_is_the_estimate_of_zhang_and_stephens_shrunk_as_documented(n: int) -> None:
    log_weight = 2 * torch.randn(n + 1, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = [naive_k(column.exp().tolist()) for column in log_weight.T]
    torch.testing.assert_close(pareto_k(log_weight), torch.tensor(expected, dtype=torch.float64))


def largest_of_random_weights() -> Tensor:
    return torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double()


def test_neither_the_order_nor_the_scale_of_the_weights_matters() -> None:
    largest = largest_of_random_weights()
    expected = pareto_k(largest)
    torch.testing.assert_close(pareto_k(largest.flip(0)), expected)
    torch.testing.assert_close(pareto_k(largest - 90_000), expected)
    torch.testing.assert_close(pareto_k(largest + 90_000), expected)


def test_rows_are_independent() -> None:
    largest = largest_of_random_weights()
    for row in range(5):
        torch.testing.assert_close(pareto_k(largest[:, row : row + 1]), pareto_k(largest)[row : row + 1])


def test_equal_weights_have_no_tail() -> None:
    largest = largest_of_random_weights()
    expected = pareto_k(largest)
    largest[:, 2] = -123.4
    found = pareto_k(largest)
    assert found[2] == -math.inf
    torch.testing.assert_close(found[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_fewer_than_five_exceedances_give_nan(entries: int) -> None:
    assert pareto_k(largest_of_random_weights()[:entries]).isnan().all()


def test_five_exceedances_are_enough() -> None:
    assert pareto_k(largest_of_random_weights()[:6]).isfinite().all()


def test_one_dominant_weight_gives_a_high_k() -> None:
    largest = largest_of_random_weights()
    largest[7] = 5_000.0  # all others underflow relative to it
    assert (pareto_k(largest) > 0.7).all()


def test_zero_weights_keep_k_finite() -> None:
    largest = largest_of_random_weights()
    largest[:30] = -math.inf
    assert pareto_k(largest).isfinite().all()


def test_a_conditional_is_distrusted_for_its_denominator_too() -> None:
    """A bad q(z | x2) makes log p(x2) too low, and so log p(x1 | x2) too high, however good the numerator is."""
    misled = LinearGaussian(8, (200, 8), seed=3)
    encode = misled.model.modalities["x2"].expert_parameters

    def wrong(x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_var = encode(x, context)
        return mean + 0.5, log_var - 4

    misled.model.modalities["x2"].expert_parameters = wrong  # pyright: ignore[reportAttributeAccessIssue]
    table = misled.data(12, seed=4)
    queries = {"joint": (["x1", "x2"], []), "conditional": (["x1"], ["x2"])}
    joint, found = log_likelihoods(misled.model, table, queries, proposal=["x1"], samples=1000).values()
    assert joint.pareto_k.median() < 0.7
    assert (found.values - misled.log_conditional(table, ["x1"], ["x2"])).mean() > 1
    assert (found.pareto_k > 0.7).all()
