"""Ordered classes compared with SciPy's logistic distribution in float64, with shared and separate cuts."""

import pytest
import torch

from mvae.likelihoods import Ordinal

CLASSES, FIELDS, ROWS = 5, 3, 4


def likelihood(values: int | None) -> Ordinal:
    torch.manual_seed(0)
    own = Ordinal(CLASSES, values).double()
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return own


@pytest.mark.parametrize("values", [None, FIELDS])
@pytest.mark.parametrize("lead", [(), (2,), (3, 2)])
def test_log_prob_and_probabilities_match_scipy(values: int | None, lead: tuple[int, ...]) -> None:
    stats = pytest.importorskip("scipy.stats")
    own = likelihood(values)
    eta, x = torch.randn(*lead, ROWS, FIELDS).double(), torch.randint(0, CLASSES, (ROWS, FIELDS))
    cuts, scale = own.cuts.expand(FIELDS, -1).detach().numpy(), own.log_scale.exp().expand(FIELDS).detach().numpy()
    below = stats.logistic(eta.numpy()[..., None], scale[:, None]).cdf(cuts)
    each = torch.from_numpy(below).diff(dim=-1, prepend=torch.zeros(1).expand(*eta.shape, 1).double())
    each = torch.cat([each, 1 - torch.from_numpy(below)[..., -1:]], -1)
    torch.testing.assert_close(own.probabilities(eta), each)
    chosen = each.gather(-1, x.expand(eta.shape)[..., None]).squeeze(-1)
    torch.testing.assert_close(own.elementwise(eta, x), chosen.log())


def test_samples_follow_probabilities() -> None:
    own, eta = likelihood(None), torch.tensor([0.3, -2.0]).double()
    drawn = own.sample(eta.expand(200_000, -1), torch.Generator().manual_seed(0))
    shares = torch.stack([(drawn == k).double().mean(0) for k in range(CLASSES)], -1)
    torch.testing.assert_close(shares, own.probabilities(eta), atol=5e-3, rtol=0)


def test_scale_cuts_and_location_have_gradients() -> None:
    own, eta = likelihood(FIELDS), torch.randn(ROWS, FIELDS).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: own.elementwise(e, torch.tensor([[0, 2, CLASSES - 1]] * ROWS)), (eta,))
    own.elementwise(eta, torch.tensor([[0, 2, CLASSES - 1]] * ROWS)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in own.parameters())
