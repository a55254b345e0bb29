"""Weighted samples against the closed form of a linear-Gaussian posterior that q does not know."""

import torch

from mvae.evaluation.proposal import truncated, weighted_samples
from mvae.gaussian import Gaussian
from tests.evaluation.test_impute import SD, W, model, table


def test_weighted_moments_are_those_of_the_posterior() -> None:
    """The proposal is the prior, three times as wide as the posterior; sampling in stages keeps many samples."""
    data, x, observed = table()
    net, samples = model(), 400
    rows = observed.all(1).nonzero().flatten()
    batch = data[rows]
    precision = torch.eye(2).double() + W.T @ torch.diag(SD.square().reciprocal()) @ W
    expected = (x[rows] / SD.square()) @ W @ precision.inverse()
    q = Gaussian.standard(2, dtype=torch.float64)
    q = Gaussian.from_mean_log_var(torch.zeros(len(rows), 2).double() + q.mean, torch.zeros(len(rows), 2).double())
    noise = torch.randn(samples, len(rows), 2, generator=torch.Generator().manual_seed(0)).double()
    z, weight = weighted_samples(net, batch, net.prepare(batch), q, noise)
    mean = torch.einsum("sr,srd->rd", weight, z)
    spread = torch.einsum("sr,srd,sre->rde", weight, z - mean, z - mean)
    assert (mean - expected).abs().mean() < 0.03
    torch.testing.assert_close(spread.mean(0), precision.inverse(), atol=0.02, rtol=0)
    torch.testing.assert_close(weight.sum(0), torch.ones(len(rows)).double())
    few, plain = weighted_samples(net, batch, net.prepare(batch), q, noise[:39])
    assert torch.equal(few, noise[:39])  # too few for stages: from q alone
    assert weight.square().sum(0).reciprocal().median() / samples > 2 * plain.square().sum(0).reciprocal().median() / 39


def test_decoded_collects_the_parameters_of_all_samples() -> None:
    batch, net = table()[0][:5], model()
    noise = torch.randn(80, 5, 2, generator=torch.Generator().manual_seed(0)).double()
    q = Gaussian.from_mean_log_var(torch.zeros(5, 2).double(), torch.zeros(5, 2).double())
    parts: dict[str, list[torch.Tensor]] = {}
    z, _ = weighted_samples(net, batch, net.prepare(batch), q, noise, decoded=parts)
    expected = z @ W.T  # the decoder
    torch.testing.assert_close(torch.cat(parts["x"]), expected)


def test_samples_weigh_equally_if_none_explains_a_row() -> None:
    log_w = torch.tensor([[0.0, -torch.inf, torch.nan], [-torch.inf, -torch.inf, -torch.inf]])
    weight = truncated(log_w)
    assert torch.equal(weight[:, 1:], torch.full((2, 2), 0.5).double())
    assert weight[1, 0] == 0
