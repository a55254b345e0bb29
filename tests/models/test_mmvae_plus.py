"""MMVAE+: shared and private latents, the K-sample bound and its gradient, and the posterior of any subset."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.modality.sentences import SentenceModality
from mvae.modality.strings import StringModality
from mvae.models.mmvae_plus import MMVAEPlus
from mvae.networks import build
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder
from tests.models.common import (
    KINDS,
    Normal,
    WeightedGradients,
    assert_same,
    assert_same_gradients,
    complete,
    gradients,
    incomplete,
    mixture,
    noise_for,
    normal,
    observed,
    parts,
    standard,
)
from tests.oracle import cell, naive_expert, naive_log_prob

SHARED, PRIVATE = 2, 3


def model(kinds: list[str] = KINDS, seed: int = 0, samples: int = 3, dreg: bool = False) -> MMVAEPlus:
    built = MMVAEPlus(parts(kinds, SHARED + PRIVATE, seed), SHARED + PRIVATE, PRIVATE, samples, dreg)
    with torch.no_grad():
        built.log_std.copy_(0.3 * torch.randn(len(kinds) * PRIVATE))
    return built


def own(built: MMVAEPlus, name: str) -> slice:
    """The position of a modality's private latents."""
    first = SHARED + built.names.index(name) * PRIVATE
    return slice(first, first + PRIVATE)


def known_latents(built: MMVAEPlus, name: str, z: Tensor) -> Tensor:
    return torch.cat([z[..., :SHARED], z[..., own(built, name)]], -1)


def split_expert(built: MMVAEPlus, table: Table, name: str, row: int) -> tuple[Normal, Normal]:
    """q(u | x_m) and q(w_m | x_m), from the user's networks."""
    mean, variance = naive_expert(built.modalities[name], cell(table, name, row))
    return (mean[:SHARED], variance[:SHARED]), (mean[SHARED:], variance[SHARED:])


def fixed(q: Normal) -> Normal:
    return q[0].detach(), q[1].detach()


def log_w(built: MMVAEPlus, table: Table, row: int, m: str, z: Tensor, beta: float, detach: bool) -> Tensor:
    """log of Π p(x_i | u, w_i)^λ_i · (p(u) p(w_m) / q(u | X) q(w_m | x_m))^β."""
    names = observed(table, row, built.names)
    experts = {name: split_expert(built, table, name, row) for name in names}
    if detach:
        experts = {name: (fixed(u), fixed(w)) for name, (u, w) in experts.items()}
    u, w = z[:SHARED], z[own(built, m)]
    divergence = mixture([q for q, _ in experts.values()]).log_prob(u) - normal(standard(SHARED)).log_prob(u)
    divergence = divergence + normal(experts[m][1]).log_prob(w) - normal(standard(PRIVATE)).log_prob(w)
    scored = []
    for name in names:
        modality = built.modalities[name]
        log_p = naive_log_prob(modality, cell(table, name, row), known_latents(built, name, z))
        scored.append(modality.weight * log_p)
    return torch.stack(scored).sum() - beta * divergence


def drawn(built: MMVAEPlus, table: Table, row: int, m: str, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One sample z (u and w_m from modality m, the other private latents from r) and the mask of m's part."""
    (mu, vu), (mw, vw) = split_expert(built, table, m, row)
    z = torch.cat([noise[:SHARED], built.log_std.exp() * noise[SHARED:]])
    own_part = torch.zeros(len(z), dtype=torch.bool)
    own_part[:SHARED] = True
    own_part[own(built, m)] = True
    mean, std = torch.zeros_like(z), torch.ones_like(z)
    mean = torch.cat([mu, mean[SHARED:]]).index_put((torch.arange(len(z))[own(built, m)],), mw)
    std = torch.cat([vu.sqrt(), std[SHARED:]]).index_put((torch.arange(len(z))[own(built, m)],), vw.sqrt())
    return torch.where(own_part, mean + std * noise, z), own_part


def naive(built: MMVAEPlus, table: Table, noise: Tensor, beta: float) -> Tensor:
    total = torch.zeros(()).double()
    for row in range(len(table)):
        names = observed(table, row, built.names)
        for m in names:
            first = built.names.index(m) * built.samples
            z = [drawn(built, table, row, m, noise[first + k, row])[0] for k in range(built.samples)]
            logs = torch.stack([log_w(built, table, row, m, z_k, beta, detach=False) for z_k in z])
            total = total + (logs.logsumexp(0) - math.log(built.samples)) / len(names)
    return -total / len(table)


def naive_dreg(built: MMVAEPlus, table: Table, noise: Tensor, beta: float) -> dict[str, Tensor]:
    """Decoders and r: Σ w̃ ∂log w; encoders: Σ w̃² ∂log w/∂z · ∂z/∂φ with the densities' parameters held fixed."""
    sums = WeightedGradients(built)
    for row in range(len(table)):
        names = observed(table, row, built.names)
        for m in names:
            first, times = built.names.index(m) * built.samples, -1 / len(names) / len(table)
            draws = [drawn(built, table, row, m, noise[first + k, row]) for k in range(built.samples)]
            leaves = [z.detach().requires_grad_() for z, _ in draws]
            logs = [log_w(built, table, row, m, leaf, beta, detach=True) for leaf in leaves]
            share = torch.stack(logs).detach().softmax(0)
            for (z, from_m), leaf, log, s in zip(draws, leaves, logs, share, strict=True):
                (slope,) = torch.autograd.grad(log, leaf, retain_graph=True)
                sums.add(log, times * s)
                sums.add(z, times * torch.where(from_m, s**2, s) * slope)
    return sums.found


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize(("seed", "samples"), [(0, 1), (1, 2), (2, 4)])
def test_objective_and_gradients_match_paper(make, seed: int, samples: int) -> None:
    kinds = KINDS[: 2 + seed % 2]
    built, table, beta = model(kinds, seed, samples), make(4, kinds), 1 - 0.3 * seed
    noise = noise_for(built, built.terms(table.presence(built.names)), 4)
    expected = naive(built, table, noise, beta)
    assert_same(built, built(table, beta=beta, noise=noise).loss, expected)
    built.dreg = True
    loss = built(table, beta=beta, noise=noise).loss
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(built, loss), naive_dreg(built, table, noise, beta))


def test_decoders_use_shared_and_own_latents_only() -> None:
    built = model()
    assert built.latent_dim == SHARED + 3 * PRIVATE
    z = torch.randn(4, built.latent_dim).double()
    other = z.clone()
    other[:, own(built, "label")] += 1
    for name in KINDS:
        same = torch.equal(built.modalities[name].decode(z), built.modalities[name].decode(other))
        assert same == (name != "label")


def test_posterior_mixes_shared_latents_only() -> None:
    built, table = model(), incomplete(6)
    for given in (None, ["image", "signal"], ["image"]):
        q = built.posterior(table, given=given)
        z = torch.randn(7, 6, built.latent_dim).double()
        for row in range(6):
            names = [name for name in observed(table, row, KINDS) if given is None or name in given]
            experts = {name: split_expert(built, table, name, row) for name in names}
            expected = mixture([u for u, _ in experts.values()] or [standard(SHARED)]).log_prob(z[:, row, :SHARED])
            for name in KINDS:
                w = experts[name][1] if name in experts else standard(PRIVATE)
                expected = expected + normal(w).log_prob(z[:, row, own(built, name)])
            torch.testing.assert_close(q.log_prob(z)[:, row], expected)


def test_too_many_private_latents_are_refused() -> None:
    with pytest.raises(SettingsError, match="private must be between 0 and the 5 latents"):
        MMVAEPlus(parts(KINDS, 5), 5, private=5)
    with pytest.raises(SettingsError, match="latent_dim ≥ 2"):
        MMVAEPlus(parts(KINDS, 1), 1)


def test_modality_keeps_its_class_and_original_is_unchanged() -> None:
    encoder = build("gru", inputs=(3,), outputs=8, role="encoder")
    decoder = build("gru", inputs=4, outputs=(3,), role="decoder")
    word = StringModality(encoder, decoder, 3, 5)
    built = MMVAEPlus({"word": word, "signal": parts(["signal"], 4)["signal"].float()}, 4, samples=2)
    table = Table({"word": torch.randint(0, 3, (6, 5)), "signal": torch.randn(6, 4)})
    assert isinstance(built.modalities["word"], StringModality)
    assert type(word) is StringModality
    assert built.state_dict().keys() >= {f"_modalities.word.{name}" for name in word.state_dict()}
    assert built(table).loss.isfinite()
    assert built.generate(table, n=2)["word"].shape == (2, 6, 5)
    assert word.generate(torch.zeros(6, 4)).shape == (6, 5)


def test_beam_search_for_sentences_uses_shared_and_own_latents_only() -> None:
    text = SentenceModality(LSTMEncoder(10, 2 * (SHARED + PRIVATE)), LSTMDecoder(10, SHARED + PRIVATE), length=4)
    built = MMVAEPlus(parts(["signal"], SHARED + PRIVATE) | {"text": text}, SHARED + PRIVATE, PRIVATE).eval()
    placed, z = built.modalities["text"], torch.randn(3, built.latent_dim)
    assert isinstance(placed, SentenceModality)
    found, expected = placed.beam(z, 2), text.beam(known_latents(built, "text", z), 2)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda built: pickle.loads(pickle.dumps(built))])
def test_copy_is_independent(copied: Callable[[MMVAEPlus], MMVAEPlus]) -> None:
    """A worker process gets such a copy."""
    built, table = model().eval(), incomplete(6)
    again = copied(built)
    assert again is not built
    found, expected = (m.log_likelihood(table, of=KINDS, samples=4).values for m in (again, built))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert any(parameter.any() for parameter in built.parameters())
