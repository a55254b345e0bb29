"""JMVAE: a joint encoder for complete rows, and unimodal encoders trained towards it."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.data.table import Table
from mvae.errors import QueryError, SettingsError
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.jmvae import JMVAE
from mvae.training.fit import fit
from tests.models.common import (
    KINDS,
    Normal,
    assert_naive,
    assert_posterior,
    assert_same,
    bound,
    complete,
    divergence,
    exact_elbo,
    expected_objective,
    expert,
    gradients,
    incomplete,
    noise_for,
    observed,
    parts,
    posterior_row,
)
from tests.oracle import LinearGaussian, cell


class Joint(nn.Module):
    """One linear layer on all columns, concatenated."""

    def __init__(self, kinds: list[str]):
        super().__init__()
        self.layer = nn.Linear(sum({"image": 6, "label": 3, "signal": 4}[kind] for kind in kinds), 4).double()
        self.seen: list[int] = []

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        self.seen.append(len(next(iter(x.values()))))
        flat = [F.one_hot(v, 3).to(self.layer.weight) if n == "label" else v.flatten(1) for n, v in x.items()]
        return self.layer(torch.cat(flat, 1))


def model(kinds: list[str] = KINDS, seed: int = 0, alpha: float = 0.3) -> JMVAE:
    return JMVAE(parts(kinds, seed=seed), 2, Joint(kinds), alpha)


def joint(built: JMVAE, table: Table, row: int) -> Normal:
    mean, log_var = built.joint_encoder({name: cell(table, name, row) for name in built.names})[0].chunk(2)
    return mean, log_var.exp()


def naive(built: JMVAE, table: Table, noise: Tensor, beta: float) -> Tensor:
    """ELBO under q(z | all) minus α Σ_i KL(q(z | all) ‖ q(z | x_i)), for complete rows; the mean is over all rows."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        if observed(table, row, built.names) == list(built.names):
            q = joint(built, table, row)
            total = total + bound(built, table, row, q, built.names, noise[0, row], beta)
            for name in built.names:
                total = total - built.alpha * divergence(q, expert(built, table, name, row))
    return -total / len(table)


@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(3))
def test_objective_is_joint_elbo_minus_weighted_kls(make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(kinds, seed, alpha=0.4 * seed), make(6, kinds), 0.3 * seed
        assert_naive(built, table, naive, beta)


def test_incomplete_rows_contribute_nothing() -> None:
    built, table = model(), complete(5)
    gaps = Table(table.columns, {"label": torch.tensor([True, False, True, False, True])})
    terms = built.terms(gaps.presence(built.names))
    noise = noise_for(built, terms, 5)
    whole = built(table.take([0, 2, 4]), noise=noise[:, [0, 2, 4]]).loss * 3 / 5
    assert_same(built, built(gaps, terms, noise=noise).loss, whole)
    none_complete = Table(table.columns, {"label": torch.zeros(5, dtype=torch.bool)})
    loss = built(none_complete).loss
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients(built, loss).values())


def test_joint_encoder_runs_once_on_complete_rows_only() -> None:
    built, table = model(), incomplete(7)
    whole = sum(len(observed(table, row, KINDS)) == 3 for row in range(7))
    encoder = built.joint_encoder
    assert isinstance(encoder, Joint)
    built(table)
    assert encoder.seen == [whole]
    built.posterior(table, given=["image"])
    assert encoder.seen == [whole]


def test_linear_gaussian_objective_is_log_p_minus_penalty() -> None:
    exact = LinearGaussian(2, [3, 4], seed=0)
    table = exact.data(4, seed=1)
    mean, variance = exact.posterior(table, exact.names)

    class Exact(nn.Module):
        def forward(self, x: Mapping[str, Tensor]) -> Tensor:
            row = (torch.as_tensor(table.columns["x1"]) == x["x1"][0]).all(1).nonzero()[0, 0]
            return torch.cat([mean[row], variance[row].log()]).expand(len(x["x1"]), -1)

    built = JMVAE(exact.model.modalities, 2, Exact(), alpha=0.7)
    for row in range(4):
        q = posterior_row(exact, table, row)
        penalty = sum(divergence(q, expert(built, table, name, row)) for name in exact.names)
        expected = exact_elbo(exact, table, row, q) - 0.7 * penalty
        torch.testing.assert_close(expected_objective(built, table, row), expected, rtol=1e-9, atol=1e-9)


# -- Posteriors ------------------------------------------------------------------------------------------------------


def test_posterior_comes_from_joint_or_unimodal_encoder() -> None:
    built, table = model(), complete(3)
    assert_posterior(built.posterior(table), [joint(built, table, row) for row in range(3)])
    for name in KINDS:
        assert_posterior(built.posterior(table, given=[name]), [expert(built, table, name, row) for row in range(3)])


def test_each_row_uses_encoder_of_its_observed_modalities() -> None:
    built, table = model(), complete(3)
    gaps = Table(
        table.columns,
        {"image": torch.tensor([True, True, False]), "label": torch.tensor([True, False, False]),
         "signal": torch.tensor([True, False, True])},
    )  # fmt: skip
    expected = [joint(built, table, 0), expert(built, table, "image", 1), expert(built, table, "signal", 2)]
    assert_posterior(built.posterior(gaps), expected)


def test_other_subsets_are_refused() -> None:
    built, table = model(), complete(3)
    message = "encoders for each single modality and for all of them, not for other subsets"
    for query in (
        lambda: built.posterior(table, given=["image", "label"]),
        lambda: built.posterior({"image": 255 * torch.rand(2, 6), "label": [0, 1]}),
        lambda: built.generate({"image": 255 * torch.rand(2, 6), "label": [0, 1]}, of=["signal"]),
        lambda: log_likelihood(built, table, of=["image"], given=["label", "signal"], samples=10),
    ):
        with pytest.raises(QueryError, match=message):
            query()


def test_two_modality_queries_are_answered() -> None:
    built, table = model(KINDS[:2]).float(), complete(3, KINDS[:2])
    assert built.plan_query(["image"], ["label"]) == (("image", "label"), ["label"])
    joint_, label = (log_likelihood(built, table, of=of, samples=50) for of in (["image", "label"], ["label"]))
    conditional = log_likelihood(built, table, of=["image"], given=["label"], samples=50)
    assert torch.stack([joint_.values, label.values, conditional.values]).isfinite().all()
    assert built.generate({"label": [0, 1]}, of=["image"], n=4)["image"].shape == (4, 2, 6)


# -- The rest --------------------------------------------------------------------------------------------------------


def test_batches_without_complete_rows_change_nothing() -> None:
    built, table = model(), complete(4)
    none_complete = Table(table.columns, {"label": torch.zeros(4, dtype=torch.bool)})
    built.untrained = ()  # an earlier training had complete rows; without one, fit refuses these rows
    before = {name: value.clone() for name, value in built.named_parameters()}
    history = fit(built, none_complete, epochs=1, batch_size=2, callbacks=[])
    assert history.epochs[0]["train/loss"] == 0
    assert all(torch.equal(value, before[name]) for name, value in built.named_parameters())


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="alpha must be a finite number ≥ 0, not -1"):
        model(alpha=-1.0)
    with pytest.raises(SettingsError, match="at least two modalities"):
        model(["image"])


def test_has_posterior_depends_on_subset() -> None:
    built, table = model(), incomplete(9)
    assert built.has_posterior(table, ["image"])
    assert built.has_posterior(complete(3), KINDS)
    assert not built.has_posterior(complete(3), ["label", "signal"])
