"""Importance sampling against the closed forms of a linear-Gaussian model, with inexact proposals.

With the exact posterior as the proposal all weights are equal, which would test nothing. So most tests here use
encoders that are wrong on purpose.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation import importance as estimators
from mvae.evaluation.importance import Stream
from mvae.evaluation.likelihood import Denominator, LogLikelihood, log_likelihood, log_likelihoods
from mvae.evaluation.pareto import pareto_k
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from tests.oracle import LinearGaussian

ROWS = 12
QUERIES: dict[str, tuple[list[str], list[str]]] = {
    "log p(x1)": (["x1"], []),
    "log p(x1,x2)": (["x1", "x2"], []),
    "log p(x1|x2)": (["x1"], ["x2"]),
}


@pytest.fixture(autouse=True)
def _big_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(estimators.CHUNK, "cpu", 100_000)


@pytest.fixture(scope="module")
def exact() -> LinearGaussian:
    return LinearGaussian(2, [3, 4], seed=0)


@pytest.fixture(scope="module")
def wrong() -> LinearGaussian:
    return LinearGaussian(2, [3, 4], seed=0, perturb=0.4)


def assert_unbiased(estimates: Sequence[LogLikelihood], expected: Tensor) -> None:
    """Assert that the mean over rows is within 4 standard errors of the exact one, and each row within 6."""
    values = torch.stack([estimate.values for estimate in estimates])
    off, repeats = values - expected, len(values)
    of_mean = off.mean(1)
    assert of_mean.mean().abs() < 4 * of_mean.std() / math.sqrt(repeats)
    assert (off.mean(0).abs() < 6 * off.std(0) / math.sqrt(repeats)).all()  # Student's t: ten repeats, twelve rows
    assert off.std(0).min() > 1e-4, "the estimates do not vary: nothing was tested"
    assert off.std(0).max() < 0.5, "the estimates vary too much to test anything"


# -- Against closed forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposal", [["x1"], ["x2"], ["x1", "x2"]])
@pytest.mark.parametrize(
    ("query", "denominator"),
    [
        ("log p(x1)", "importance"),
        ("log p(x1,x2)", "importance"),
        ("log p(x1|x2)", "importance"),
        ("log p(x1|x2)", "prior"),
    ],
)
def test_estimates_are_unbiased(wrong: LinearGaussian, query: str, proposal: list[str], denominator: str) -> None:
    (of, given), table = QUERIES[query], wrong.data(ROWS, seed=1)
    estimates = [
        log_likelihood(
            wrong.model,
            table,
            of,
            given,
            proposal=proposal,
            samples=4000,
            denominator=Denominator(denominator),
            seed=seed,
        )
        for seed in range(10)
    ]
    assert_unbiased(estimates, wrong.log_conditional(table, of, given))


def test_the_exact_posterior_gives_equal_weights_and_the_exact_value(exact: LinearGaussian) -> None:
    table = exact.data(ROWS, seed=1)
    for of, given in QUERIES.values():
        result = log_likelihood(exact.model, table, of, given, samples=2)
        if not given:  # a denominator is estimated from a mixture with the prior, which is never exact
            torch.testing.assert_close(result.values, exact.log_conditional(table, of, given), rtol=0, atol=1e-6)
        assert result.log_weight_variance.max() < 1e-18
        torch.testing.assert_close(result.effective_samples, torch.full((ROWS,), 2.0).double())
    for model, data in ((exact.model, table), (copy.deepcopy(exact.model).float(), table)):
        result = log_likelihood(model, data, ["x1"], samples=1000)
        assert (result.effective_samples > 999.99).all()
        assert (result.pareto_k == -math.inf).all()
    assert log_likelihood(exact.model, table, ["x1"], samples=20).pareto_k.isnan().all()


def incomplete(table: Table, filling: float) -> Table:
    """The table without x1 in rows 0 to 3, x2 in rows 3 to 7 (row 3 has x3 only) and x3 in rows 6 and 10."""
    rows = torch.arange(len(table))
    has = {"x1": rows > 3, "x2": (rows < 3) | (rows > 7), "x3": (rows != 6) & (rows != 10)}
    columns = {}
    for name in table.names:
        columns[name] = torch.as_tensor(table.columns[name]).clone()
        columns[name][~has[name]] = filling
    return Table(columns, has)


@pytest.mark.parametrize(
    ("of", "given", "proposal", "denominator"),
    [
        (["x1"], [], ["x1"], "importance"),
        (["x1", "x2"], [], None, "importance"),
        (["x1"], ["x2"], None, "importance"),
        (["x1"], ["x2", "x3"], ["x1", "x2"], "prior"),
        (["x1", "x3"], ["x2"], ["x2"], "importance"),
    ],
)
def test_incomplete_rows_are_evaluated_on_their_observed_modalities(
    of: list[str], given: list[str], proposal: list[str] | None, denominator: str
) -> None:
    three = LinearGaussian(2, [3, 4, 2], seed=0, perturb=0.4)
    table = incomplete(three.data(ROWS, seed=1), math.nan)
    estimates = [
        log_likelihood(
            three.model, table, of, given, proposal, samples=4000, denominator=Denominator(denominator), seed=seed
        )
        for seed in range(10)
    ]
    mask = torch.stack([table.present[:, table.names.index(name)] for name in of]).any(0)
    assert torch.equal(estimates[0].rows, mask.nonzero().flatten())
    assert_unbiased(estimates, three.log_conditional(table, of, given)[mask])
    assert torch.equal(
        log_likelihood(three.model, incomplete(three.data(ROWS, 1), 9.0), of, given, proposal, samples=50).values,
        log_likelihood(three.model, table, of, given, proposal, samples=50).values,
    )


def test_joint_minus_conditional_is_the_marginal_for_any_proposal(
    wrong: LinearGaussian,
) -> None:
    """The check that `mvae evaluate` prints: −2.30 for ten labels."""
    table = wrong.data(ROWS, seed=1)
    alone = wrong.log_prob(table, ["x2"])
    for proposal in (["x1"], ["x1", "x2"]):
        found = log_likelihoods(wrong.model, table, QUERIES, proposal=proposal, samples=4000)
        gap = found["log p(x1,x2)"].values - found["log p(x1|x2)"].values
        torch.testing.assert_close(gap, alone, rtol=0, atol=0.15)


def test_one_pass_equals_separate_passes(wrong: LinearGaussian) -> None:
    table = wrong.data(ROWS, seed=1)
    together = log_likelihoods(wrong.model, table, QUERIES, proposal=["x1"], samples=30, seed=7)
    for name, (of, given) in QUERIES.items():
        alone = log_likelihood(wrong.model, table, of, given, proposal=["x1"], samples=30, seed=7)
        for field in ("rows", "values", "effective_samples", "pareto_k", "log_weight_variance"):
            torch.testing.assert_close(getattr(together[name], field), getattr(alone, field), rtol=0, atol=0)


def test_conditional_and_joint_have_the_same_log_weight_variance(wrong: LinearGaussian) -> None:
    found = log_likelihoods(wrong.model, wrong.data(ROWS, seed=1), QUERIES, proposal=["x1"], samples=200)
    joint, conditional = found["log p(x1,x2)"], found["log p(x1|x2)"]
    assert torch.equal(joint.log_weight_variance, conditional.log_weight_variance)
    assert joint.variance == conditional.variance > 0.01
    assert found["log p(x1)"].variance != joint.variance


@pytest.mark.parametrize("draws", [2, 3, 21])
def test_a_defensive_denominator_is_unbiased_for_any_number_of_draws(exact: LinearGaussian, draws: int) -> None:
    """E[p̂] = p, because the mixture weights are the shares of the draws actually made."""
    table = exact.data(1_600, seed=1)  # each row has its own noise
    found = log_likelihood(exact.model, table, ["x1"], ["x2"], samples=2, denominator=Denominator(samples=draws))
    ratios = torch.exp(exact.log_prob(table, ["x1", "x2"]) - found.values - exact.log_prob(table, ["x2"]))
    assert (ratios.mean() - 1).abs() < 4 * ratios.std() / 40


def test_repeated_names_are_refused_and_absent_columns_are_ignored(exact: LinearGaussian) -> None:
    table = exact.data(5, seed=1)
    with pytest.raises(QueryError, match="x1 is named twice"):
        log_likelihood(exact.model, table, ["x1", "x1"])
    with pytest.raises(QueryError, match="x2 is named twice"):
        log_likelihood(exact.model, table, ["x1"], ["x2", "x2"])
    alone = table.select(["x1"])  # nothing is given in any row: the conditional is the marginal
    found = log_likelihood(exact.model, alone, ["x1"], ["x2"], samples=4)
    torch.testing.assert_close(found.values, exact.log_prob(table, ["x1"]), rtol=0, atol=1e-6)


# -- Against a computation without streaming -----------------------------------------------------------------------


class Spy(nn.Module):
    """A decoder that records every z it receives, except the single z = 0 used to check data."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, z: Tensor) -> Tensor:
        if len(z) > 1 or z.any():
            self.seen.append(z)
        return self.inner(z)


def with_spies(perturb: float = 0.4) -> tuple[LinearGaussian, dict[str, Spy]]:
    watched = LinearGaussian(2, [3, 4], seed=0, perturb=perturb)
    spies = {}
    for name, modality in watched.model.modalities.items():
        spies[name] = modality.decoder = Spy(modality.decoder)
    return watched, spies


@pytest.mark.parametrize("chunk", [1, 7, 50, 100_000])
def test_streaming_equals_computing_all_weights_at_once(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference uses the recorded z, float64 and torch.distributions."""
    monkeypatch.setitem(estimators.CHUNK, "cpu", chunk)
    watched, spies = with_spies()
    samples, rows, table = 50, 4, watched.data(4, seed=1)
    found = log_likelihood(watched.model, table, ["x1", "x2"], proposal=["x1"], samples=samples)
    seen = torch.cat(spies["x1"].seen)
    z = seen.reshape(samples, rows, 2) if chunk > samples * rows else seen.reshape(rows, samples, 2).transpose(0, 1)
    q = watched.model.posterior(table, given=["x1"])
    log_weight = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_weight -= torch.distributions.Normal(q.mean, q.stddev).log_prob(z).sum(-1)
    for name in ("x1", "x2"):
        center = z @ watched.loading[name].T + watched.offset[name]
        p = torch.distributions.Normal(center, watched.scale[name].double())
        log_weight += p.log_prob(torch.as_tensor(table.columns[name])).sum(-1)
    assert_same_statistics(found, log_weight)


def assert_same_statistics(found: LogLikelihood, log_weight: Tensor) -> None:
    weight, samples = log_weight.exp(), len(log_weight)
    close = partial(torch.testing.assert_close, rtol=1e-7, atol=1e-9)
    close(found.values, weight.mean(0).log())
    close(found.effective_samples, weight.sum(0) ** 2 / (weight**2).sum(0))
    close(found.log_weight_variance, log_weight.var(0))
    tail = math.ceil(min(0.2 * samples, 3 * math.sqrt(samples)))
    close(found.pareto_k, pareto_k(log_weight.sort(0).values[-tail - 1 :]))


@pytest.mark.parametrize("chunk", [1, 2, 9, 100, 1000])
@pytest.mark.parametrize("offset", [0.0, -90_000.0])
def test_a_stream_does_not_depend_on_its_chunk_size(chunk: int, offset: float) -> None:
    """Also where exp(log w) underflows."""
    g = torch.Generator().manual_seed(0)
    log_weight = 5 * torch.randn(1000, 3, generator=g).double()
    stream = Stream(3, 1000, torch.device("cpu"))
    for start in range(0, 1000, chunk):
        stream.add(log_weight[start : start + chunk] + offset)
    value, *rest = stream.result()
    assert_same_statistics(LogLikelihood(torch.arange(3), value - offset, rest[0], rest[1], rest[2]), log_weight)


@pytest.mark.parametrize(("samples", "rows"), [(2, 100), (40, 12), (1000, 3)])
def test_no_more_samples_than_a_chunk_are_decoded_at_once(
    samples: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(estimators.CHUNK, "cpu", 64)
    watched, spies = with_spies()
    log_likelihoods(
        watched.model, watched.data(rows, seed=1), QUERIES, samples=samples, denominator=Denominator(samples=70)
    )
    sizes = [len(z) for spy in spies.values() for z in spy.seen]
    assert max(sizes) <= 64
    assert sum(len(z) for z in spies["x1"].seen) == samples * rows
    assert sum(len(z) for z in spies["x2"].seen) == (samples + 70) * rows


def test_fewer_large_events_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(estimators.CHUNK, "cpu", 64)
    monkeypatch.setattr(estimators, "EVENT", 2)
    watched, spies = LinearGaussian(2, [8, 2], seed=0), {}
    for name, modality in watched.model.modalities.items():
        spies[name] = modality.decoder = Spy(modality.decoder)
    log_likelihoods(watched.model, watched.data(5, seed=1), QUERIES, samples=40)
    assert max(len(z) for z in spies["x1"].seen) == 16  # its events are four times as large
    assert max(len(z) for z in spies["x2"].seen) == 40  # in the denominator, x2 alone: all samples of a row


def test_a_prior_denominator_draws_5000_samples_by_default() -> None:
    watched, spies = with_spies()
    table = watched.data(3, seed=1)
    log_likelihood(watched.model, table, ["x1"], ["x2"], samples=10, denominator=Denominator("prior"))
    assert sum(len(z) for z in spies["x2"].seen) == (10 + 5000) * 3


def test_a_denominator_survives_a_far_too_narrow_posterior() -> None:
    """Sampling from q(z | x2) alone would miss most of p(x2); the half of the draws from the prior finds it."""
    narrow = LinearGaussian(2, (2, 2), seed=3)
    encode = narrow.model.modalities["x2"].expert_parameters

    def overconfident(x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_var = encode(x, context)
        return mean, log_var - 6

    narrow.model.modalities["x2"].expert_parameters = overconfident  # pyright: ignore[reportAttributeAccessIssue]
    table = narrow.data(6, seed=4)
    joint = log_likelihood(narrow.model, table, ["x1", "x2"], proposal=["x1"], samples=20_000, seed=1)
    found = log_likelihood(
        narrow.model,
        table,
        ["x1"],
        ["x2"],
        proposal=["x1"],
        samples=20_000,
        denominator=Denominator(samples=20_000),
        seed=1,
    )
    error = (joint.values - found.values) - narrow.log_prob(table, ["x2"])
    assert error.abs().max() < 0.1


@pytest.mark.parametrize("chunk", [256, 7])
def test_equal_given_values_are_estimated_once(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "ENCODED", chunk)
    torch.manual_seed(0)
    label = Modality(LabelEncoder(3, 4, 5), mlp(2, 3, [5]), likelihoods.Categorical())
    model = MVAE(
        {"x": Modality(mlp(2, 4, [5]), mlp(2, 2, [5]), likelihoods.Gaussian()), "label": label}, 2, cross_from=()
    )
    label.decoder = spy = Spy(label.decoder)
    labels = torch.arange(30) % 3
    has = torch.arange(30) % 10 != 9  # three rows without a label, with invalid values in it
    labels[~has] = 77 + torch.arange(3)
    table = Table({"x": torch.randn(30, 2), "label": labels}, {"label": has})
    found = log_likelihoods(
        model, table, {"joint": (["x", "label"], []), "conditional": (["x"], ["label"])}, samples=20
    )
    # Thirty rows share four given values (one of them "nothing"), so each gets 30 // 4 times the draws.
    assert sum(len(z) for z in spy.seen) == 20 * 27 + 20 * 7 * 3
    gap = found["joint"].values - found["conditional"].values
    for value in range(3):
        mine = gap[labels == value]
        assert len(mine) > 5
        torch.testing.assert_close(mine, mine[:1].expand(len(mine)))
    assert gap[labels == 0][0] != gap[labels == 1][0]
    torch.testing.assert_close(gap[~has], torch.zeros(3).double(), rtol=0, atol=1e-5)  # log p(nothing) = 0


# -- Reported statistics -------------------------------------------------------------------------------------------


def test_mean_standard_error_and_variance_are_over_rows() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    result = LogLikelihood(torch.arange(3), values, values, values, torch.tensor([1.0, 2.0, 3.0]))
    assert result.mean == 3
    assert result.standard_error == pytest.approx(math.sqrt(7) / math.sqrt(3))
    assert result.variance == 2
    few = LogLikelihood(torch.arange(3), values, values, torch.full((3,), math.nan), values)
    assert "ESS 3.0, k̂ needs more than 20 samples)" in repr(few)
    assert "LogLikelihood(3.000 ± 1.528 nats, 3 rows, ESS 3.0, k̂ 3.00)" in repr(result)
    one = LogLikelihood(*(part[:1] for part in (torch.arange(3), values, values, values, values)))
    assert math.isnan(one.standard_error)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(wrong: LinearGaussian) -> None:
    table = wrong.data(ROWS, seed=1)
    one, same, other = (
        log_likelihood(wrong.model, table, ["x1"], ["x2"], samples=20, seed=seed).values for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_evaluation_mode_is_used_and_training_mode_restored(wrong: LinearGaussian) -> None:
    model, table = wrong.model, wrong.data(ROWS, seed=1)
    model.eval()
    expected = log_likelihood(model, table, ["x1"], samples=20)
    model.train()
    model.modalities["x1"].decoder = nn.Sequential(model.modalities["x1"].decoder, nn.Dropout(0.9))
    assert torch.equal(log_likelihood(model, table, ["x1"], samples=20).values, expected.values)
    assert all(module.training for module in model.modules())
    assert not expected.values.requires_grad
    model.modalities["x1"].decoder = model.modalities["x1"].decoder[0]  # pyright: ignore


def test_progress_increases_to_one(wrong: LinearGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reporting it does not change the estimates."""
    monkeypatch.setitem(estimators.CHUNK, "cpu", 40)
    table, reported = wrong.data(ROWS, seed=1), []
    found = log_likelihoods(wrong.model, table, QUERIES, proposal=["x1"], samples=30, progress=reported.append)
    assert reported == sorted(reported)
    assert len(reported) > len(QUERIES)
    assert reported[-1] == pytest.approx(1.0)
    without = log_likelihoods(wrong.model, table, QUERIES, proposal=["x1"], samples=30)
    assert all(torch.equal(found[name].values, without[name].values) for name in QUERIES)
