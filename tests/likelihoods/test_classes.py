"""Class probabilities and samples compared with PyTorch's."""

import pytest
import torch

from mvae.errors import QueryError
from mvae.likelihoods.classes import FEW, draw, log_softmax, softmax


@pytest.mark.parametrize("classes", [1, 2, FEW - 1, FEW, 40])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3, 4)])
def test_softmax_and_gradient_match_pytorch(classes: int, lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64)
    weight = torch.arange(classes, dtype=torch.float64)
    for own, theirs in ((softmax, torch.softmax), (log_softmax, torch.log_softmax)):
        a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found, expected = own(a), theirs(b, -1)
        torch.testing.assert_close(found, expected)
        for value, at in ((found, a), (expected, b)):
            (value * weight).sum().backward()
            assert at.grad is not None
        torch.testing.assert_close(a.grad, b.grad)


def test_softmax_of_large_logits_is_finite() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-torch.inf, 0.0, 0.0]])
    assert softmax(logits).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    assert log_softmax(logits)[0].tolist() == [0.0, -1e4, -2e4]


def test_softmax_is_contiguous_and_draw_refuses_nan() -> None:
    assert softmax(torch.randn(5, 3)).is_contiguous()
    with pytest.raises(QueryError, match="classes cannot be drawn"):
        draw(torch.tensor([[0.5, 0.5], [torch.nan, 1.0]]))


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_draw_follows_probabilities(classes: int) -> None:
    p = torch.rand(classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64)
    p[1] = 0.0
    n = 40_000
    drawn = draw((3 * p).expand(n // 4, 4, classes), torch.Generator().manual_seed(0))  # need not be normalised
    assert drawn.shape == (n // 4, 4)
    counts = torch.bincount(drawn.flatten(), minlength=classes).double()
    expected = n * p / p.sum()
    assert counts[1] == 0
    chi_square = ((counts - expected).square() / expected.clamp(min=1e-9))[expected > 0].sum()
    assert chi_square < classes + 5 * (2 * classes) ** 0.5  # five standard deviations of χ²
