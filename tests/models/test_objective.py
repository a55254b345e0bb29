"""The objective compared with a plain loop over rows and terms, and its independence of missing values."""

from dataclasses import replace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.models.mvae import MVAE
from mvae.models.objective import Objective
from mvae.models.terms import Terms
from tests.every_kind import KINDS, MaskedTerms, assert_same, column, gradients, log_prob, masked, model_of, noise_for
from tests.models.common import refilled
from tests.oracle import any_plan, mvae_plan, naive_loss

# -- The oracle --------------------------------------------------------------------------------------------------


@given(
    kinds=st.permutations(KINDS).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: p[:n])),
    rows=st.integers(1, 4),
    latent=st.integers(1, 3),
    k=st.integers(0, 3),
    distinct=st.booleans(),
    complete=st.booleans(),
    own_weights=st.booleans(),
    crossed=st.sampled_from([None, 0.2, 0.55, 1.0]),
    beta=st.floats(0, 2),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40)
def test_objective_and_gradient_match_naive_eq5(
    kinds: list[str],
    rows: int,
    latent: int,
    k: int,
    distinct: bool,
    complete: bool,
    own_weights: bool,
    crossed: float | None,
    beta: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    lam = {kind: 50 * torch.rand((), dtype=torch.float64).item() for kind in kinds}
    model = model_of(kinds, latent, lam, k, distinct, kinds[:1] if crossed else (), crossed or 0.2)
    columns = {kind: column(kind, rows) for kind in kinds}
    batch = Table(columns) if complete else masked(columns)
    terms = model.terms(batch.presence(model.names))
    own = None
    if own_weights and not crossed:  # a plan may bring its own λ, as JMVAE's and TELBO's do
        own = 3 * torch.rand(len(terms.names), len(kinds)).double()
        terms = replace(terms, likelihood_weight=own)
    noise = noise_for(model, terms, rows)
    fast = model(batch, terms, beta=beta, noise=noise).loss
    assert_same(model, fast, naive_loss(model, batch, mvae_plan(model, batch, terms, own), noise, beta))


@pytest.mark.parametrize("complete", [True, False])
def test_terms_may_score_other_modalities_than_given(complete: bool) -> None:
    model, rows = model_of(["image", "label", "signal"]), 4
    columns = {kind: column(kind, rows) for kind in model.names}
    batch = Table(columns) if complete else masked(columns)
    present = batch.presence(model.names)
    shape = 3, len(present), 3
    given_, of = ((torch.rand(shape) < 0.5) & present for _ in range(2))
    terms = Terms(("a", "b", "c"), given_, of, torch.rand(shape[:2]))
    noise = noise_for(model, terms, rows)
    fast = model(batch, terms, beta=0.5, noise=noise).loss
    assert_same(model, fast, naive_loss(model, batch, any_plan(model, rows, terms), noise, 0.5))


def test_masks_by_row_match_one_shared_mask() -> None:
    model, rows = model_of(KINDS, k=2), 5
    batch = Table({kind: column(kind, rows) for kind in KINDS})
    dense = model.terms(batch.presence(model.names))
    assert dense.given.shape[1] == 1
    gathered = Terms(
        dense.names, dense.given.expand(-1, rows, -1), dense.of.expand(-1, rows, -1), dense.weight.expand(-1, rows)
    )
    noise = noise_for(model, dense, rows)
    assert_same(model, model(batch, dense, noise=noise).loss, model(batch, gathered, noise=noise).loss)


def test_masked_plan_matches_exact_rows() -> None:
    model, rows = model_of(KINDS, k=2, cross_from=["image"]), 7
    batch = masked({kind: column(kind, rows) for kind in KINDS})
    terms = model.terms(batch.presence(model.names))
    masks = MaskedTerms(terms.names, terms.given, terms.of, terms.weight, terms.likelihood_weight)
    noise = noise_for(model, terms, rows)
    encoders, _ = spied(model)
    exact = model.batch_objective(batch, terms, noise=noise)
    other = model.batch_objective(batch.filled(), masks, noise=noise)
    assert [len(spy.seen[1]) for spy in encoders.values()] == [rows] * len(KINDS)
    assert_same(model, exact.loss, other.loss)
    torch.testing.assert_close(exact.sums(), other.sums())
    assert torch.equal(exact.counts(), other.counts())


def test_single_modality_is_plain_vae() -> None:
    model = model_of(["signal"])
    x, noise = column("signal", 6), torch.randn(1, 6, 2).double()
    result = model(Table({"signal": x}), beta=0.3, noise=noise)
    assert result.terms.names == ("signal",)
    signal = model.modalities["signal"]
    mean, log_var = signal.encoder(x.double()).chunk(2, -1)
    variance = 1 / (1 + torch.exp(-log_var))  # the prior expert counts here too
    mean = variance * torch.exp(-log_var) * mean
    output = signal.decoder(mean + variance.sqrt() * noise[0])
    scale = cast("likelihoods.Gaussian", signal.likelihood).log_scale.exp()
    log_prob = torch.distributions.Normal(output, scale).log_prob(x.double()).sum(-1)
    kl = 0.5 * (variance + mean**2 - 1 - variance.log()).sum(-1)
    assert_same(model, result.loss, -(log_prob - 0.3 * kl).mean())


# -- Reported sums -----------------------------------------------------------------------------------------------


def test_reported_sums_add_up_to_loss() -> None:
    model, rows = model_of(["image", "label", "signal"], weights={"label": 50.0}, k=2), 5
    batch = masked({kind: column(kind, rows) for kind in model.names})
    terms = model.terms(batch.presence(model.names))
    noise = noise_for(model, terms, rows)
    result = model(batch, terms, beta=0.5, noise=noise)
    plan = [term for row in mvae_plan(model, batch, terms) for term in row]
    sums = dict(zip(result.parts, result.sums().tolist(), strict=True))
    counts = dict(zip(result.parts, result.counts().tolist(), strict=True))
    total = 0.0
    for name in model.names:
        assert counts[f"reconstruction/{name}"] == sum(name in term.of for term in plan)
        total += model.modalities[name].weight * sums[f"reconstruction/{name}"]
    for t, name in enumerate(terms.names):
        assert counts[f"kl/{name}"] == sum(term.t == t for term in plan)
        total += 0.5 * sums[f"kl/{name}"]
    assert total == pytest.approx(rows * result.loss.item(), rel=1e-9)
    assert sums["loss"] == pytest.approx(total, rel=1e-9)
    assert counts["loss"] == rows
    assert not result.sums().requires_grad  # no graph is kept alive by a metric


def test_row_counts_the_same_in_any_batch() -> None:
    """The loss is the mean over rows of each row's own sum: rare patterns do not weigh more."""
    model, rows = model_of(["image", "label", "signal"]), 6
    columns = {kind: column(kind, rows) for kind in model.names}
    has_label = torch.tensor([False] * 5 + [True])  # one row in six has the label
    batch = Table(columns, {"label": has_label})
    terms = model.terms(batch.presence(model.names))
    noise = noise_for(model, terms, rows)
    together = model(batch, terms, noise=noise).loss
    alone = []
    for row in range(rows):
        one = batch.take([row])
        own = model.terms(one.presence(model.names))
        alone.append(model(one, own, noise=noise[[terms.names.index(n) for n in own.names], row : row + 1]).loss)
    assert_same(model, together, torch.stack(alone).mean())


def test_lambda_weighs_modality_equally_in_every_term() -> None:
    columns = {kind: column(kind, 4) for kind in ["image", "label", "signal"]}
    batch = Table(columns)
    light = model_of(list(columns), k=3, distinct=False)
    heavy = model_of(list(columns), k=3, weights={"label": 50.0})
    heavy.load_state_dict(light.state_dict())
    terms = light.terms(batch.presence(light.names))
    noise = noise_for(light, terms, 4)
    for t, name in enumerate(terms.names):
        only = Terms((name,), terms.given[t : t + 1], terms.of[t : t + 1], terms.weight[t : t + 1])
        one, other = (model(batch, only, noise=noise[t : t + 1]) for model in (light, heavy))
        difference = -49 * log_prob(one, "label").sum() / 4
        torch.testing.assert_close(other.loss - one.loss, difference, rtol=1e-9, atol=1e-9)
        assert (difference != 0) == bool(terms.of[t, 0, 1])


# -- Missing values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fill",
    [
        {"image": 255, "label": 2, "signal": float("nan"), "robust": float("nan"), "tags": 4},
        {"image": 7, "label": -1, "signal": float("inf"), "robust": -float("inf"), "tags": -1},
        {"image": 1, "label": 10**12, "signal": 3e38, "robust": 1e300, "tags": 99},
    ],
)
def test_missing_cells_have_no_influence(fill: dict[str, float]) -> None:
    model, rows = model_of(KINDS, k=2), 12
    zeros = refilled(masked({kind: column(kind, rows) for kind in KINDS}), dict.fromkeys(KINDS, 0))
    terms = model.terms(zeros.presence(model.names))
    noise = noise_for(model, terms, rows)

    def outcome(batch: Table) -> tuple[Objective, dict[str, Tensor], Tensor]:
        result = model(batch, terms, noise=noise)
        return result, gradients(model, result.loss), model.posterior(batch).mean

    clean, clean_gradients, clean_mean = outcome(zeros)
    other, other_gradients, other_mean = outcome(refilled(zeros, fill))
    assert torch.equal(clean.loss, other.loss)
    assert torch.equal(clean.kl, other.kl)
    assert torch.equal(clean_mean, other_mean)
    assert torch.equal(clean.log_prob, other.log_prob)
    assert all(torch.equal(clean_gradients[name], other_gradients[name]) for name in clean_gradients)
    assert clean.loss.isfinite()


class Spy(nn.Module):
    """Records a network's inputs."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.network(x)


def spied(model: MVAE) -> tuple[dict[str, Spy], dict[str, Spy]]:
    encoders, decoders = {}, {}
    for name, part in model.modalities.items():
        part.encoder = encoders[name] = Spy(part.encoder)
        part.decoder = decoders[name] = Spy(part.decoder)
    return encoders, decoders


@pytest.mark.parametrize("complete", [True, False])
def test_networks_run_once_on_needed_rows_and_pairs(complete: bool) -> None:
    model, rows = model_of(KINDS, k=3), 10
    columns = {kind: column(kind, rows) for kind in KINDS}
    batch = Table(columns) if complete else masked(columns)
    terms = model.terms(batch.presence(model.names))
    plan = [term for row in mvae_plan(model, batch, terms) for term in row]
    encoders, decoders = spied(model)
    model.batch_objective(batch, terms)
    for i, name in enumerate(KINDS):
        rows_of_it = model.modalities[name].prepare(columns[name])[batch.present[:, i]]
        assert len(encoders[name].seen) == len(decoders[name].seen) == 1
        assert torch.equal(encoders[name].seen[0], rows_of_it)
        assert len(decoders[name].seen[0]) == sum(name in term.of for term in plan)


def test_row_with_one_modality_is_decoded_once() -> None:
    model = model_of(["image", "label"])
    batch = Table({kind: column(kind, 8) for kind in model.names}, {"label": torch.arange(8) == 0})
    _, decoders = spied(model)
    model.batch_objective(batch)
    assert len(decoders["image"].seen[0]) == 2 + 7  # full and single term of the pair, and one term of each other row
    assert len(decoders["label"].seen[0]) == 2


def test_batch_norm_sees_only_present_rows_and_scored_latents() -> None:
    latent, rows = 2, 12
    model = model_of(["image", "signal"], latent)
    part = model.modalities["signal"]
    part.encoder = nn.Sequential(nn.BatchNorm1d(4), part.encoder).double()
    part.decoder = nn.Sequential(nn.BatchNorm1d(latent), part.decoder).double()
    has = torch.arange(rows) % 3 == 0
    signal = column("signal", rows).double()
    signal[~has] = float("nan")
    batch = Table({"image": column("image", rows), "signal": signal}, {"signal": has})
    encoders, decoders = spied(model)
    model.batch_objective(batch).loss.backward()
    norm = cast("nn.BatchNorm1d", cast("nn.Sequential", encoders["signal"].network)[0])
    torch.testing.assert_close(norm.running_mean, 0.1 * signal[has].mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * signal[has].var(0))
    norm = cast("nn.BatchNorm1d", cast("nn.Sequential", decoders["signal"].network)[0])
    (z,) = decoders["signal"].seen
    assert len(z) == 2 * has.sum()  # full and single term of the rows that have it
    torch.testing.assert_close(norm.running_mean, 0.1 * z.mean(0))
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("column_exists", [True, False])
def test_modality_absent_from_batch_is_ignored(column_exists: bool) -> None:
    model, rows = model_of(["image", "label", "signal"], k=1), 5
    columns = {kind: column(kind, rows) for kind in ["image", "signal"]}
    if column_exists:
        absent = torch.zeros(rows, dtype=torch.bool)
        batch = Table(columns | {"label": torch.full((rows,), -1)}, {"label": absent})
    else:
        batch = Table(columns)
    smaller = model_of(["image", "signal"])
    own = {n: v for n, v in model.state_dict().items() if not n.startswith("_modalities.label.")}
    smaller.load_state_dict(own)
    terms = model.terms(batch.presence(model.names))
    assert terms.names == ("full", "image", "signal")
    noise = noise_for(model, terms, rows)
    encoders, decoders = spied(model)
    result = model.batch_objective(batch, terms, noise=noise)
    torch.testing.assert_close(result.loss, smaller(Table(columns), noise=noise).loss, rtol=1e-12, atol=0)
    assert encoders["label"].seen == decoders["label"].seen == []
    assert all(g.abs().sum() == 0 for n, g in gradients(model, result.loss).items() if ".label." in n)


def test_label_zero_is_an_observed_value() -> None:
    model = model_of(["image", "label"])
    labels = torch.zeros(4, dtype=torch.int64)
    result = model(Table({"image": column("image", 4), "label": labels}))
    assert (log_prob(result, "label")[result.terms.names.index("label")] < 0).all()
    given_zero = model.posterior({"label": [0]})
    assert given_zero.variance.max() < 1  # narrower than the prior
