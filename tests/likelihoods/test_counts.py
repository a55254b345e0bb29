"""Count likelihoods compared with SciPy and exact arithmetic, for tiny to huge counts, rates and dispersions."""

import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import mvae
from mvae.errors import DataError, QueryError, SettingsError
from mvae.likelihoods import LIKELIHOODS, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial, named
from mvae.likelihoods.counts import Counts
from mvae.testing import check_likelihood, check_modality

FAMILIES = [
    (Poisson(), 1),
    (Poisson(exposure=True), 1),
    (NegativeBinomial(5, theta=2.0), 1),
    (NegativeBinomial(1, exposure=True), 1),
    (NegativeBinomial(), 2),
    (ZeroInflatedNegativeBinomial(5), 2),
    (ZeroInflatedNegativeBinomial(exposure=True), 3),
]
each_family = pytest.mark.parametrize(
    ("family", "per_value"), FAMILIES, ids=lambda f: repr(f) if isinstance(f, Counts) else ""
)
magnitude = st.floats(-6, 6)
count = st.one_of(st.integers(0, 50), st.integers(0, 10**6))


def parameters(rows: int, features: int, per_value: int, seed: int = 0) -> Tensor:
    shape = (rows, features) if per_value == 1 else (rows, features, per_value)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def double(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counts(rows: int = 6, features: int = 5) -> Tensor:
    return torch.poisson(torch.full((rows, features), 3.0), generator=torch.Generator().manual_seed(1))


def exact(x: int, log_mean: float, log_theta: float) -> float:
    with mpmath.workdps(40):
        mean, theta = mpmath.exp(log_mean), mpmath.exp(log_theta)
        log = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
        return float(log + theta * mpmath.log(theta / (theta + mean)) + x * mpmath.log(mean / (theta + mean)))


def cdf(family: Counts, params: Tensor, x: Tensor) -> Tensor:
    """P(X ≤ x) for one row of a family without exposure, by summation."""
    below = torch.arange(int(x.max()) + 1).double()[:, None].expand(-1, x.shape[1])
    p = family.elementwise(params.expand(len(below), *params.shape[1:]), below).exp()
    return p.cumsum(0).gather(0, x.long())


@settings(max_examples=200, deadline=None)
@given(count, magnitude, magnitude)
@example(486876, 0.08592844487544404, -5.723214754630487)
def test_negative_binomial_log_prob_is_exact(x: int, mean: float, theta: float) -> None:
    log_mean, log_theta = (value * float(np.log(10)) for value in (mean, theta))
    expected = exact(x, log_mean, log_theta)
    params, value = (
        torch.tensor([[[log_mean, log_theta]]], dtype=torch.float64),
        double([[x]]),
    )
    scale = 1 + abs(expected) + x
    assert abs(float(NegativeBinomial().log_prob(params, value)) - expected) < 1e-10 * scale


@settings(max_examples=100, deadline=None)
@given(count, magnitude)
def test_poisson_matches_scipy(x: int, mean: float) -> None:
    expected = float(stats.poisson.logpmf(x, 10.0**mean))
    found = float(Poisson().log_prob(torch.tensor([[mean]], dtype=torch.float64) * np.log(10), double([[x]])))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(count, st.floats(-4, 4), magnitude)
@example(10**6, 1e-4, 6.0)
@example(10**6, 0.0, -6.0)
def test_float32_log_prob_is_as_exact_as_its_mean(x: int, away: float, theta: float) -> None:
    """For means near the count, log p is about -10 although its terms are about 1e7."""
    params = torch.tensor([[[np.log(max(x, 0.5)) + away, theta * np.log(10)]]], dtype=torch.float32)
    log_mean, log_theta = params.double().flatten().tolist()
    mean, size = np.exp(log_mean), np.exp(log_theta)
    for family, own, expected, slope in (
        (NegativeBinomial(), params, exact(x, log_mean, log_theta), abs(x - mean) * size / (size + mean)),
        (Poisson(), params[..., 0], float(stats.poisson.logpmf(x, mean)), abs(x - mean)),
    ):
        found = float(family.log_prob(own, torch.tensor([[float(x)]])))
        rounding = 2e-6 * slope + (3e-7 * min(x, size) if isinstance(family, NegativeBinomial) else 1e-8 * x)
        assert abs(found - expected) < 2e-5 * (1 + abs(expected)) + rounding  # log μ is accurate to 1e-6


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, 6), st.floats(-3, 3), st.floats(-30, 30), st.integers(0, 1000))
def test_zero_inflation_matches_scipy(mean: float, theta: float, logit: float, x: int) -> None:
    params = torch.tensor([[[mean, theta, logit]]], dtype=torch.float64)
    base = stats.nbinom.pmf(x, np.exp(theta), 1 / (1 + np.exp(mean - theta)))
    share = 1 / (1 + np.exp(-logit))
    expected = (1 - share) * base + share * (x == 0)
    found = ZeroInflatedNegativeBinomial().log_prob(params, double([[x]])).exp()
    assert float(found) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(count, magnitude, magnitude)
def test_extreme_gradients_are_finite_and_correct(x: int, mean: float, theta: float) -> None:
    params = torch.tensor([[[mean, theta]]], dtype=torch.float64).mul(np.log(10)).requires_grad_()
    (grad,) = torch.autograd.grad(NegativeBinomial().log_prob(params, double([[x]])).sum(), params)
    log_mean, log_theta = params.flatten().tolist()
    ratio = 1 / (1 + np.exp(log_mean - log_theta))
    assert float(grad[0, 0, 0]) == pytest.approx((x - np.exp(log_mean)) * ratio, rel=1e-6, abs=1e-6)
    assert grad.isfinite().all()


@each_family
def test_family_keeps_likelihood_contract(family: Counts, per_value: int) -> None:
    check_likelihood(family, parameters(6, 5, per_value).float() / 2, counts())


@each_family
def test_mean_and_variance_match_samples(family: Counts, per_value: int) -> None:
    params, n = parameters(1, 5, per_value) / 2, 40_000
    assert isinstance(family, Poisson | NegativeBinomial)
    own: dict = {"exposure": 50.0} if family.exposure else {}
    draws = family.sample(params.expand(n, *params.shape[1:]), torch.Generator().manual_seed(0), **own)
    mean, variance = family.mean(params, **own)[0], family.variance(params, **own)[0]
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    torch.testing.assert_close(draws.var(0), variance.detach(), rtol=0.15, atol=0.01)


@pytest.mark.parametrize(("family", "per_value"), [pair for pair in FAMILIES if not pair[0].exposure])
@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_quantile_is_least_count_reaching_q(family: Counts, per_value: int, q: float) -> None:
    assert isinstance(family, Poisson | NegativeBinomial)
    params = parameters(1, 5, per_value, seed=3)
    found = family.quantile(params, q)
    assert (cdf(family, params, found) >= q - 1e-9).all()
    below = found - 1
    assert (torch.where(below >= 0, cdf(family, params, below.clamp(min=0)), 0.0) < q).all()


def test_extreme_dispersion_gives_poisson_or_zeros() -> None:
    wide = torch.tensor([[[3.0, 13.8]]]).expand(20_000, 1, 2)
    draws = NegativeBinomial().sample(wide, torch.Generator().manual_seed(0))
    assert float(draws.var() / draws.mean()) == pytest.approx(1, abs=0.05)
    narrow = torch.tensor([[[3.0, -13.8]]]).expand(2000, 1, 2)
    assert float(NegativeBinomial().sample(narrow, torch.Generator().manual_seed(0)).bool().sum()) <= 2


# -- Exposure ------------------------------------------------------------------------------------------------------


def test_exposure_is_row_total_and_scales_means() -> None:
    family, params = Poisson(exposure=True), parameters(2, 3, 1)
    x = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]], dtype=torch.float64)
    rate = params.softmax(-1).numpy() * np.array([[6], [60]])
    np.testing.assert_allclose(family.log_prob(params, x), stats.poisson.logpmf(x, rate).sum(1), rtol=1e-9)
    torch.testing.assert_close(family.mean(params, exposure=torch.tensor([6.0, 60.0])), torch.as_tensor(rate))
    torch.testing.assert_close(family.mean(params).sum(-1), torch.full((2,), 1e4).double())


def test_default_exposure_is_median_training_total() -> None:
    table = mvae.Table(
        {"rna": torch.tensor([[1, 2], [5, 5], [100, 200], [-7, 0]]), "other": torch.zeros(4)},
        present={"rna": torch.tensor([True, True, True, False])},
    )
    family = NegativeBinomial(2, exposure=True)
    assert not family.fitted
    family.fit(table, "rna")
    assert family.fitted
    assert float(family.typical) == 10
    torch.testing.assert_close(family.mean(torch.zeros(1, 2)), 10 * torch.tensor([[106.5, 207.5]]) / 314)
    assert family.view(torch.tensor([[4.0, 6.0], [0.0, 0.0]])).expm1().flatten().tolist() == pytest.approx([4, 6, 0, 0])


@each_family
def test_row_of_zeros_is_finite_and_certain_with_exposure(family: Counts, per_value: int) -> None:
    found = family.log_prob(parameters(2, 5, per_value), torch.zeros(2, 5).double())
    assert found.isfinite().all()
    if family.exposure:
        assert found.abs().max() < 1e-9
    assert family.view(torch.zeros(2, 5)).eq(0).all()


def test_exposure_needs_two_features() -> None:
    for event in [(), (1,), (2, 3)]:
        with pytest.raises(DataError, match="total of two features or more"):
            Poisson(exposure=True).arrange(torch.zeros(4, *event), torch.Size([4]), torch.Size(event))
    with pytest.raises(QueryError, match="no exposure"):
        Poisson().mean(torch.zeros(4, 2), exposure=3.0)


# -- In a model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poisson", "negative_binomial", "zero_inflated_negative_binomial"])
def test_families_are_found_by_name(name: str) -> None:
    assert isinstance(named(name), LIKELIHOODS[name])


def test_encoder_sees_log_counts_and_raw_counts_are_scored() -> None:
    modality = mvae.Modality(nn.Linear(5, 8), nn.Linear(4, 5), NegativeBinomial(5, exposure=True))
    x = counts()
    check_modality(modality, x, 4)
    seen: list[Tensor] = []
    handle = modality.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    modality.encode(modality.prepare(x.long()))
    handle.remove()
    torch.testing.assert_close(seen[0], torch.log1p(x / x.sum(1, keepdim=True) * 1e4))
    z = torch.randn(6, 4)
    expected = modality.likelihood.log_prob(modality.decoder(z), x)
    torch.testing.assert_close(modality.log_prob(x, z), expected)


@pytest.mark.parametrize(
    "x", [torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, float("nan")]])]
)
def test_invalid_counts_are_refused_by_row(x: Tensor) -> None:
    model = mvae.MVAE({"visits": mvae.Modality(nn.Linear(2, 4), nn.Linear(2, 2), "poisson")}, 2)
    with pytest.raises(DataError, match=r"'visits', row 1: whole numbers ≥ 0"):
        model.check(mvae.Table({"visits": torch.cat([torch.ones(1, 2), x])}))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.float64])
def test_counts_of_any_dtype_are_equal(dtype: torch.dtype) -> None:
    family = Poisson()
    prepared = family.prepare(torch.tensor([[0, 3, 200]]).to(dtype), torch.float32)
    assert prepared.dtype == torch.float32
    assert prepared.tolist() == [[0, 3, 200]]


@pytest.mark.parametrize("arguments", [{"features": 0}, {"theta": 0.0}, {"theta": float("inf")}])
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(SettingsError):
        NegativeBinomial(**arguments)


def test_wrong_number_of_features_is_refused() -> None:
    with pytest.raises(DataError, match="has 4 features; rows have 5"):
        NegativeBinomial(4).arrange(torch.zeros(2, 5), torch.Size([2]), torch.Size([5]))


def test_count_model_learns_and_survives_saving(tmp_path) -> None:
    torch.manual_seed(0)
    groups = torch.randint(0, 2, (200,))
    rate = torch.tensor([[1.0, 50.0, 3.0, 0.0], [30.0, 2.0, 3.0, 0.0]])[groups]  # the last feature is constant
    x = torch.poisson(rate)

    def build() -> mvae.MVAE:
        rna = mvae.Modality(nn.Linear(4, 4), nn.Linear(2, 4), NegativeBinomial(4, exposure=True))
        group = mvae.Modality(nn.Embedding(2, 4), nn.Linear(2, 2), "categorical")
        return mvae.MVAE({"rna": rna, "group": group}, 2)

    model = build()
    mvae.fit(model, {"rna": x, "group": groups}, epochs=30, batch_size=20, learning_rate=2e-2, callbacks=[])
    means = model.predict({"group": torch.tensor([0, 1])}, of="rna")
    assert means[0, 1] > 5 * means[0, 0]
    assert means[1, 0] > 3 * means[1, 1]
    mvae.save(model, tmp_path / "m.mvae")
    again = mvae.load(tmp_path / "m.mvae", build())
    torch.testing.assert_close(again.predict({"group": torch.tensor([0, 1])}, of="rna"), means)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_fitting_base_rates_takes_little_memory(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "rna.npy", "w+", np.uint8, (200_000, 1_000))  # 1.6 GB in float64
    code = f"""
import numpy as np, mvae
def memory(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
table = mvae.Table({{"rna": np.load({str(tmp_path / "rna.npy")!r}, mmap_mode="r")}})
family, before = mvae.likelihoods.NegativeBinomial(1_000, exposure=True), memory()
family.fit(table, "rna")
assert family.fitted
print((memory() - before) // 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 400  # MB
