"""Gaussians against densities on a grid, torch.distributions, and the algebra of App. B and C."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributions

from mvae.gaussian import Gaussian, kl_divergence, product, quotient

GRID = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
seeds = st.integers(0, 2**31)


def normal(mean: float, variance: float) -> distributions.Normal:
    loc, scale = torch.tensor([mean, variance**0.5], dtype=torch.float64)
    return distributions.Normal(loc, scale)


def moments(log_density: Tensor) -> tuple[float, float]:
    """Mean and variance of an unnormalised density on the grid."""
    p = (log_density - log_density.max()).exp()
    p = p / torch.trapezoid(p, GRID)
    mean = torch.trapezoid(p * GRID, GRID)
    return mean.item(), torch.trapezoid(p * (GRID - mean).square(), GRID).item()


def make(means: list[float], variances: list[float]) -> Gaussian:
    """1-D experts, ``modalities 1 1``, in float64."""
    mean, variance = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (means, variances))
    return Gaussian.from_mean_log_var(mean, variance.log())


def random_gaussian(*shape: int, seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_var = (3 * torch.randn(*shape, generator=generator).double() for _ in range(2))
    return Gaussian.from_mean_log_var(mean, log_var)


def all_subsets(modalities: int) -> Tensor:
    """Every subset as a mask, ``2^modalities 1 modalities``."""
    return torch.tensor(list(itertools.product([False, True], repeat=modalities)))[:, None]


# -- Product (App. B) --------------------------------------------------------------------------------------------


def test_product_matches_the_densities_on_a_grid() -> None:
    means, variances = [1.5, -2.0, 0.3], [0.5, 2.0, 4.0]
    masks = all_subsets(3)
    q = product(make(means, variances), masks)
    for t, mask in enumerate(masks[:, 0].tolist()):
        log_density = normal(0.0, 1.0).log_prob(GRID)
        for taken, mean, variance in zip(mask, means, variances, strict=True):
            if taken:
                log_density = log_density + normal(mean, variance).log_prob(GRID)
        mean, variance = moments(log_density)
        assert q.mean[t].item() == pytest.approx(mean, rel=1e-9, abs=1e-12)
        assert q.variance[t].item() == pytest.approx(variance, rel=1e-9)


def test_product_matches_appendix_b() -> None:
    experts = random_gaussian(3, 4, 2, seed=0)
    given_ = torch.rand(5, 4, 3) < 0.5
    q = product(experts, given_)
    for t, b in itertools.product(range(5), range(4)):
        chosen = [i for i in range(3) if given_[t, b, i]]
        precision = 1 + sum((1 / experts.variance[i, b] for i in chosen), torch.zeros(2).double())
        weighted = sum((experts.mean[i, b] / experts.variance[i, b] for i in chosen), torch.zeros(2).double())
        torch.testing.assert_close(q.variance[t, b], 1 / precision)
        torch.testing.assert_close(q.mean[t, b], weighted / precision)


def test_product_counts_the_prior_once() -> None:
    standard = make([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    q = product(standard, all_subsets(3))
    assert q.precision.flatten().tolist() == [1, 2, 2, 3, 2, 3, 3, 4]
    assert q.mean.abs().max() == 0


def test_one_row_mask_applies_to_every_row() -> None:
    experts, masks = random_gaussian(3, 5, 2, seed=1), all_subsets(3)
    once, each = product(experts, masks), product(experts, masks.expand(-1, 5, -1))
    assert torch.equal(once.precision, each.precision)
    assert torch.equal(once.shift, each.shift)


@given(seed=seeds, modalities=st.integers(1, 5))
@settings(max_examples=25)
def test_product_does_not_depend_on_modality_order(seed: int, modalities: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    experts = random_gaussian(modalities, 3, 2, seed=seed)
    given_ = torch.rand(4, 3, modalities, generator=generator) < 0.5
    order = torch.randperm(modalities, generator=generator)
    one, other = product(experts, given_), product(experts[order], given_[..., order])
    torch.testing.assert_close(one.precision, other.precision)
    torch.testing.assert_close(one.shift, other.shift, rtol=1e-9, atol=1e-9 * experts.shift.abs().max().item())


@given(seed=seeds, modalities=st.integers(1, 5))
@settings(max_examples=25)
def test_flat_and_unselected_experts_change_nothing(seed: int, modalities: int) -> None:
    experts = random_gaussian(modalities, 3, 2, seed=seed)
    chosen = torch.rand(4, 3, modalities, generator=torch.Generator().manual_seed(seed)) < 0.5
    alone = product(experts, chosen)
    for extra, taken in ((torch.zeros(1, 3, 2).double(), True), (torch.full((1, 3, 2), 1e30).double(), False)):
        more = Gaussian(torch.cat([experts.precision, extra]), torch.cat([experts.shift, extra]))
        q = product(more, torch.cat([chosen, torch.full((4, 3, 1), taken)], -1))
        torch.testing.assert_close(q.precision, alone.precision)
        torch.testing.assert_close(q.shift, alone.shift, rtol=1e-9, atol=1e-9 * experts.shift.abs().max().item())


@given(seed=seeds, modalities=st.integers(1, 5))
@settings(max_examples=25)
def test_posterior_is_at_least_as_precise_as_the_prior(seed: int, modalities: int) -> None:
    q = product(random_gaussian(modalities, 3, 2, seed=seed), all_subsets(modalities))
    assert q.precision.min() >= 1
    assert q.kl_to_prior().min() >= -1e-12


# -- Quotient (App. C) -------------------------------------------------------------------------------------------


def test_quotient_matches_the_densities_on_a_grid() -> None:
    numerator, denominator = make([1.2], [0.4]), make([-0.5], [1.5])
    q = quotient(numerator, denominator)
    mean, variance = moments(normal(1.2, 0.4).log_prob(GRID) - normal(-0.5, 1.5).log_prob(GRID))
    assert q.mean.item() == pytest.approx(mean, rel=1e-9)
    assert q.variance.item() == pytest.approx(variance, rel=1e-9)


@given(seed=seeds)
@settings(max_examples=25)
def test_quotient_inverts_the_product(seed: int) -> None:
    experts = random_gaussian(3, 4, 2, seed=seed)
    both = product(experts, torch.tensor([[[True, True, True]]]))
    others = product(experts, torch.tensor([[[True, False, True]]]))
    back = quotient(both, others)[0]
    torch.testing.assert_close(back.precision, experts.precision[1], rtol=0, atol=1e-12 * both.precision.max().item())
    torch.testing.assert_close(back.shift, experts.shift[1], rtol=0, atol=1e-12 * experts.shift.abs().sum().item())


def test_quotients_by_the_prior_give_mvae_q() -> None:
    """Eq. 3: Π q(z|x_i) / p(z)^(N−1) has T = 1 + Σ (1/V_i − 1)."""
    means, variances = [0.7, -1.1, 0.4], [0.3, 1.2, 1.4]  # all below N/(N−1) = 1.5, so every subset is proper
    masks = all_subsets(3)
    q = product(quotient(make(means, variances), Gaussian.standard(3, 1, 1)), masks)
    for t, mask in enumerate(masks[:, 0].tolist()):
        chosen = [(m, v) for taken, m, v in zip(mask, means, variances, strict=True) if taken]
        assert q.precision[t].item() == pytest.approx(1 + sum(1 / v - 1 for _, v in chosen), rel=1e-12)
        log_density = sum((normal(m, v).log_prob(GRID) for m, v in chosen), torch.zeros_like(GRID))
        mean, variance = moments(log_density - (len(chosen) - 1) * normal(0.0, 1.0).log_prob(GRID))
        assert q.mean[t].item() == pytest.approx(mean, rel=1e-8, abs=1e-9)
        assert q.variance[t].item() == pytest.approx(variance, rel=1e-8)


@pytest.mark.parametrize("modalities", [2, 3, 19])
def test_mvae_q_is_proper_below_n_over_n_minus_1(modalities: int) -> None:
    limit = modalities / (modalities - 1)
    for variance, proper in ((0.999 * limit, True), (1.001 * limit, False)):
        experts = quotient(make([0.0] * modalities, [variance] * modalities), Gaussian.standard(modalities, 1, 1))
        q = product(experts, torch.ones(1, 1, modalities, dtype=torch.bool))
        assert (q.precision.item() > 0) == proper


# -- KL, density, sampling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1.3, 0.2), (-2.0, 3.0), (0.1, 1e-2)])
def test_kl_matches_the_integral(mean: float, variance: float) -> None:
    q, p = normal(mean, variance), normal(0.5, 2.0)
    expert, other = make([mean], [variance]), make([0.5], [2.0])
    weight = q.log_prob(GRID).exp()
    to_other = torch.trapezoid(weight * (q.log_prob(GRID) - p.log_prob(GRID)), GRID).item()
    to_prior = torch.trapezoid(weight * (q.log_prob(GRID) - normal(0.0, 1.0).log_prob(GRID)), GRID).item()
    assert kl_divergence(expert, other).item() == pytest.approx(to_other, rel=1e-8, abs=1e-9)
    assert expert.kl_to_prior().item() == pytest.approx(to_prior, rel=1e-8, abs=1e-9)


@given(seed=seeds)
@settings(max_examples=25)
def test_kl_matches_torch_distributions(seed: int) -> None:
    q, p = random_gaussian(4, 3, seed=seed), random_gaussian(4, 3, seed=seed + 1)
    as_torch = [distributions.Normal(g.mean, g.variance.sqrt()) for g in (q, p)]
    expected = distributions.kl_divergence(*as_torch).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-8, atol=1e-8)
    assert kl_divergence(q, p).min() >= 0
    assert q.kl_to_prior().min() >= 0
    standard = Gaussian.standard(4, 3)
    torch.testing.assert_close(q.kl_to_prior(), kl_divergence(q, standard), rtol=1e-8, atol=1e-8)


def test_log_prob_matches_torch_distributions() -> None:
    q = random_gaussian(4, 3, seed=2)
    z = torch.randn(5, 4, 3).double()
    torch.testing.assert_close(q.log_prob(z), distributions.Normal(q.mean, q.stddev).log_prob(z).sum(-1))


def test_rsample_is_reparameterised() -> None:
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    log_var = torch.tensor([[0.5, -1.0]], requires_grad=True)
    noise = torch.randn(7, 1, 2)
    z = Gaussian.from_mean_log_var(mean, log_var).rsample(noise)
    torch.testing.assert_close(z, mean + (log_var / 2).exp() * noise)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((1, 2), 7.0))
    torch.testing.assert_close(log_var.grad, (0.5 * (log_var / 2).exp() * noise.sum(0)).detach())


def test_indexing_selects_leading_axes() -> None:
    q = random_gaussian(4, 3, 2, seed=3)
    assert torch.equal(q[1:3].mean, q.mean[1:3])
    assert torch.equal(q[2].variance, q.variance[2])


def test_standard_is_the_prior() -> None:
    q = Gaussian.standard(2, 3)
    assert (q.mean.tolist(), q.variance.tolist()) == ([[0.0] * 3] * 2, [[1.0] * 3] * 2)
    assert q.kl_to_prior().tolist() == [0.0, 0.0]


# -- Extreme values ----------------------------------------------------------------------------------------------

QUANTITIES: dict[str, Callable[[Gaussian], Tensor]] = {
    "kl_to_prior": lambda q: q.kl_to_prior(),
    "kl_divergence": lambda q: kl_divergence(q, Gaussian.standard(*q.mean.shape)),
    "reverse kl": lambda q: kl_divergence(Gaussian.standard(*q.mean.shape), q),
    "log_prob": lambda q: q.log_prob(torch.ones_like(q.mean)),
    "rsample": lambda q: q.rsample(torch.ones_like(q.mean)),
    "posterior kl": lambda q: alone(q).kl_to_prior(),
    "posterior sample": lambda q: alone(q).rsample(torch.ones_like(q.mean)),
}


def alone(q: Gaussian) -> Gaussian:
    """The posterior given this one expert."""
    return product(Gaussian(q.precision[None], q.shift[None]), torch.ones(1, 1, 1, dtype=torch.bool))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_extreme_log_variances_give_finite_values_and_gradients(quantity: str, dtype: torch.dtype) -> None:
    log_var = torch.tensor([[-1e4], [-100.0], [-88.0], [0.0], [88.0], [100.0], [1e4]], dtype=dtype)
    for mean in (0.0, -1.0, 100.0):
        parameters = [torch.full_like(log_var, mean).requires_grad_(), log_var.clone().requires_grad_()]
        value = QUANTITIES[quantity](Gaussian.from_mean_log_var(*parameters))
        assert value.isfinite().all()
        for gradient in torch.autograd.grad(value.sum(), parameters):
            assert gradient.isfinite().all()


def test_very_precise_expert_decides_and_very_flat_one_is_ignored() -> None:
    experts = Gaussian.from_mean_log_var(torch.tensor([[[3.0]], [[-7.0]]]), torch.tensor([[[-1e4]], [[1e4]]]))
    q = product(experts, torch.tensor([[[True, True]], [[False, True]]]))
    torch.testing.assert_close(q.mean.flatten(), torch.tensor([3.0, 0.0]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.variance.flatten(), torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mean_dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("log_var_dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(mean_dtype: torch.dtype, log_var_dtype: torch.dtype) -> None:
    mean = torch.randn(3, 2).to(mean_dtype).requires_grad_()
    log_var = torch.randn(3, 2).to(log_var_dtype).requires_grad_()
    q = Gaussian.from_mean_log_var(mean, log_var)
    exact = Gaussian.from_mean_log_var(mean.detach().float(), log_var.detach().float())
    assert q.precision.dtype == q.shift.dtype == torch.float32
    assert torch.equal(q.precision, exact.precision)
    assert torch.equal(q.shift, exact.shift)
    q.kl_to_prior().sum().backward()
    assert mean.grad is not None
    assert mean.grad.abs().min() > 0


def test_float64_stays_float64() -> None:
    q = random_gaussian(2, 3, 2, seed=0)
    assert product(q, all_subsets(2)).precision.dtype == torch.float64


def test_autocast_does_not_round_the_product() -> None:
    experts = Gaussian.from_mean_log_var(torch.randn(4, 6, 3), torch.randn(4, 6, 3))
    plain = product(experts, all_subsets(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = product(experts, all_subsets(4))
    assert cast.precision.dtype == torch.float32
    assert torch.equal(cast.precision, plain.precision)
    assert torch.equal(cast.shift, plain.shift)


def test_log_variance_beyond_its_bound_can_return() -> None:
    inside = torch.linspace(-20, 20, 41, requires_grad=True)
    Gaussian.from_mean_log_var(torch.zeros(41), inside).precision.log().sum().backward()
    torch.testing.assert_close(inside.grad, -torch.ones(41))
    for start, target in ((50.0, 1.0), (-50.0, 1.0)):
        log_var = torch.tensor([start], requires_grad=True)
        optimizer = torch.optim.Adam([log_var], 1.0)
        for _ in range(150):
            q = Gaussian.from_mean_log_var(torch.zeros(1), log_var)
            optimizer.zero_grad()
            (q.precision.log() - target).square().sum().backward()
            optimizer.step()
        assert abs(float(log_var.detach()) + target) < 0.5  # a clamp would have a gradient of zero here
    outward = torch.tensor([50.0], requires_grad=True)
    (-Gaussian.from_mean_log_var(torch.zeros(1), outward).precision.log()).neg().sum().backward()
    assert outward.grad is not None
    assert outward.grad.item() == 0  # no gradient leads further out
