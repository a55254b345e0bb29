"""MMVAE: a mixture of experts, the K-sample bound, and its doubly reparameterised gradient."""

import math

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.mmvae import MMVAE
from tests.models.common import (
    KINDS,
    Normal,
    WeightedGradients,
    assert_mixtures,
    assert_naive,
    assert_posterior,
    assert_same_gradients,
    complete,
    expert,
    gradients,
    incomplete,
    log_joint,
    noise_for,
    normal,
    observed,
    parts,
    standard,
)
from tests.oracle import LinearGaussian


def model(kinds: list[str] = KINDS, seed: int = 0, samples: int = 3, dreg: bool = False) -> MMVAE:
    return MMVAE(parts(kinds, seed=seed), 2, samples, dreg)


def log_w(built: MMVAE, table: Table, row: int, z: Tensor, experts: list[Normal], beta: float) -> Tensor:
    """log of w = Π p(x_i | z)^λ_i · (p(z) / q(z | X))^β with q the mixture of the row's experts."""
    mixture = torch.stack([normal(q).log_prob(z).exp() for q in experts]).mean()
    own = observed(table, row, built.names)
    return log_joint(built, table, row, own, z) + beta * (normal(standard()).log_prob(z) - mixture.log())


def naive(built: MMVAE, table: Table, noise: Tensor, beta: float) -> Tensor:
    """Minus the mean over rows of 1/n Σ_m log 1/K Σ_k w_k, with z_1..K from the expert of m."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        experts = [expert(built, table, name, row) for name in own]
        for name, (mean, variance) in zip(own, experts, strict=True):
            first = built.names.index(name) * built.samples
            z = [mean + variance.sqrt() * noise[first + k, row] for k in range(built.samples)]
            w = torch.stack([log_w(built, table, row, z_k, experts, beta) for z_k in z]).exp()
            total = total + w.mean().log() / len(own)
    return -total / len(table)


def naive_dreg(built: MMVAE, table: Table, noise: Tensor, beta: float) -> dict[str, Tensor]:
    """Gradient of the loss: decoders Σ w̃ ∂log w, encoders Σ w̃² ∂log w/∂z · ∂z/∂φ with q's parameters held fixed."""
    sums = WeightedGradients(built)
    for row in range(len(table)):
        own = observed(table, row, built.names)
        experts = [expert(built, table, name, row) for name in own]
        fixed = [(mean.detach(), variance.detach()) for mean, variance in experts]
        for name, (mean, variance) in zip(own, experts, strict=True):
            first = built.names.index(name) * built.samples
            z = [mean + variance.sqrt() * noise[first + k, row] for k in range(built.samples)]
            leaves = [z_k.detach().requires_grad_() for z_k in z]
            logs = [log_w(built, table, row, leaf, fixed, beta) for leaf in leaves]
            share = torch.stack(logs).detach().softmax(0)
            for z_k, leaf, log_w_k, s in zip(z, leaves, logs, share, strict=True):
                (slope,) = torch.autograd.grad(log_w_k, leaf, retain_graph=True)
                sums.add(log_w_k, -s / len(own) / len(table))
                sums.add(z_k, -(s**2) * slope / len(own) / len(table))
    return sums.found


CASES = [(seed, samples) for seed, samples in enumerate((1, 2, 5))]


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize(("seed", "samples"), CASES)
def test_objective_is_stratified_k_sample_bound(make, seed: int, samples: int) -> None:
    built, table, beta = model(seed=seed, samples=samples), make(4), 1 - 0.3 * seed
    assert_naive(built, table, naive, beta)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize(("seed", "samples"), CASES)
def test_dreg_value_and_gradient_match_naive(make, seed: int, samples: int) -> None:
    kinds = KINDS[: 2 + seed % 2]
    built, table, beta = model(kinds, seed, samples, dreg=True), make(4, kinds), 1 - 0.3 * seed
    noise = noise_for(built, built.terms(table.presence(built.names)), 4)
    loss = built(table, beta=beta, noise=noise).loss
    torch.testing.assert_close(loss, naive(built, table, noise, beta), rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(built, loss), naive_dreg(built, table, noise, beta))


@pytest.mark.parametrize("factor", [0.0, 0.25, 1e-200])
def test_gradients_of_a_scaled_loss_are_scaled(factor: float) -> None:
    built, table = model(dreg=True), complete(4)
    noise = noise_for(built, built.terms(table.presence(built.names)), 4)
    whole = gradients(built, built(table, noise=noise).loss)
    scaled = gradients(built, factor * built(table, noise=noise).loss)
    back = factor or 1.0
    same = {name: factor / back * gradient for name, gradient in whole.items()}
    assert_same_gradients({name: gradient / back for name, gradient in scaled.items()}, same)


@pytest.mark.parametrize("dreg", [True, False])
def test_log_prob_has_encoder_gradients(dreg: bool) -> None:
    built, table = model(dreg=dreg), complete(4)
    noise = noise_for(built, built.terms(table.presence(built.names)), 4)
    found = gradients(built, built(table, noise=noise).log_prob.sum())
    assert all(found[name].any() for name in found if "encoder" in name)


def test_dreg_differs_from_iwae_only_in_encoder_gradients() -> None:
    built, table = model(), complete(4)
    noise = noise_for(built, built.terms(table.presence(built.names)), 4)
    iwae = gradients(built, built(table, noise=noise).loss)
    built.dreg = True
    for name, gradient in gradients(built, built(table, noise=noise).loss).items():
        assert torch.allclose(gradient, iwae[name]) == ("encoder" not in name), name


def test_extreme_weight_does_not_overflow() -> None:
    built, table = model(dreg=True).float(), complete(3)
    built.modalities["label"].weight = 1e5
    result = built(table)
    assert result.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(built, result.loss).values())


def test_all_strata_estimate_log_p_above_bound() -> None:
    """w divides by the mixture of all strata, so its mean over one stratum is not p(X)."""
    exact = LinearGaussian(2, [3, 4], seed=0)
    built, table = MMVAE(exact.model.modalities, 2, samples=2000), exact.data(5, seed=1)
    result = built(table, generator=torch.Generator().manual_seed(0))
    log_w = (result.log_prob.sum(0) - result.kl).detach()  # terms rows
    w = (log_w - log_w.max()).exp()
    truth, error = exact.log_prob(table, exact.names), w.std(0) / w.mean(0) / math.sqrt(len(w))
    assert ((w.mean(0).log() + log_w.max() - truth).abs() < 4 * error).all()
    assert -result.loss.detach() < truth.mean()


# -- Queries ---------------------------------------------------------------------------------------------------------


def test_posterior_given_several_is_mixture_of_experts() -> None:
    """Density, mean and variance follow the definition for each row's observed modalities."""
    built, table = model(), incomplete(6)
    for given in (None, ["image", "signal"]):
        expected = [
            [expert(built, table, n, row) for n in observed(table, row, KINDS) if given is None or n in given]
            for row in range(6)
        ]
        assert_mixtures(built.posterior(table, given=given), expected)


def test_posterior_samples_cover_all_strata() -> None:
    built, table = model().float(), complete(3)
    z = built.posterior(table).sample(3000, torch.Generator().manual_seed(0))
    q = built.posterior(table)
    assert ((z.mean(0) - q.mean).abs() < 4 * q.stddev / math.sqrt(3000)).all()
    assert built.generate(table, of=["image"], n=2)["image"].shape == (2, 3, 6)


def test_log_p_with_mixture_proposal_matches_closed_form() -> None:
    """The experts are inexact, so the weights are not constant; joint, marginal and conditional queries."""
    exact = LinearGaussian(2, [3, 4, 2], seed=0, perturb=0.3)
    built, table = MMVAE(exact.model.modalities, 2), exact.data(20, seed=1)
    for of, given in ((["x1", "x2", "x3"], []), (["x1", "x3"], []), (["x2"], ["x1", "x3"])):
        found = log_likelihood(built, table, of=of, given=given, samples=20_000)
        truth = exact.log_conditional(table, of, given)
        error = (1 / found.effective_samples - 1 / 20_000).clamp(min=0).sqrt()
        assert ((found.values - truth).abs() < 5 * (2 if given else 1) * error + 1e-3).all()
        assert (found.effective_samples < 19_000).all(), "with an exact proposal this tests nothing"


def test_posterior_given_one_is_its_expert() -> None:
    built, table = model(), incomplete(5)
    for name in KINDS:
        has = [name in observed(table, row, KINDS) for row in range(5)]
        expected = [expert(built, table, name, row) if has[row] else standard() for row in range(5)]
        assert_posterior(built.posterior(table, given=[name]), expected)


def test_likelihoods_use_selected_expert_proposal() -> None:
    built, table = model().float(), complete(3)
    assert built.plan_query(["image"], ["label"]) == (("image", "label"), ["label"])
    found = log_likelihood(built, table, of=["image", "signal"], given=["label"], proposal=["image"], samples=50)
    assert found.values.isfinite().all()
    assert built.generate({"label": [0, 1]}, n=4)["image"].shape == (4, 2, 6)


# -- The rest --------------------------------------------------------------------------------------------------------


def test_reported_kl_is_log_q_minus_log_p() -> None:
    built, table = model(["image", "signal"], samples=1), complete(2, ["image", "signal"])
    terms = built.terms(table.presence(built.names))
    noise = noise_for(built, terms, 2)
    result = built(table, terms, noise=noise)
    assert result.parts == ("loss", "reconstruction/image", "reconstruction/signal", "kl/image 1", "kl/signal 1")
    for row in range(2):
        experts = [expert(built, table, name, row) for name in built.names]
        for t, (mean, variance) in enumerate(experts):
            z = mean + variance.sqrt() * noise[t, row]
            log_q = torch.stack([normal(q).log_prob(z) for q in experts]).logsumexp(0) - math.log(2)
            torch.testing.assert_close(result.kl[t, row], log_q - normal(standard()).log_prob(z))


def test_fewer_than_one_sample_is_refused() -> None:
    with pytest.raises(SettingsError, match="samples must be at least 1, not 0"):
        model(samples=0)
