"""Student's t against SciPy."""

import math

import pytest
import torch
from scipy import stats

from mvae import likelihoods


@pytest.mark.parametrize("log_freedom", [-6.0, 2.0, 8.0])
def test_student_t_is_that_of_scipy_in_float32_for_any_degrees_of_freedom(log_freedom: float) -> None:
    family = likelihoods.StudentT(0.5)
    family.log_freedom.data.fill_(log_freedom)
    x = torch.linspace(-4, 4, 101)[:, None]
    law = 2 + math.exp(log_freedom), 0.3, 0.5
    exact = stats.t.logpdf(x.double().numpy(), *law)
    found = family.log_prob(torch.full_like(x, 0.3), x).double().detach()
    torch.testing.assert_close(found, torch.from_numpy(exact[:, 0]), rtol=1e-5, atol=1e-5)
    draws = family.sample(torch.full((20_000,), 0.3), torch.Generator().manual_seed(1)).detach().numpy()
    assert stats.kstest(draws, "t", args=law).pvalue > 1e-3
