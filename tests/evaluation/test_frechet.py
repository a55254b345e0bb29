"""The Fréchet distance against SciPy's matrix square root, and between generated and real examples."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation.frechet import Moments, frechet_distance, frechet_to_data
from mvae.likelihoods import Gaussian
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import mlp
from tests.unchecked import unchecked


def moments(x: Tensor, parts: int = 3) -> Moments:
    found = Moments()
    for part in x.tensor_split(parts):
        found.add(part)
    return found


def test_moments_of_parts_are_those_of_the_whole() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 100
    found = moments(x)
    torch.testing.assert_close(found.mean, x.double().mean(0))
    torch.testing.assert_close(found.covariance, torch.from_numpy(np.cov(x.double().numpy().T)))


@pytest.mark.parametrize("rows", [60, 4])  # with fewer rows than features covariances are singular
def test_the_distance_is_the_published_formula(rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.randn(rows, 6, generator=generator) * scale + scale for scale in (1.0, 2.0))
    a, b = one.double().numpy(), other.double().numpy()
    jitter = 1e-12 * np.eye(6)  # SciPy cannot take the root of a singular matrix
    root = np.real(np.asarray(scipy.linalg.sqrtm((np.cov(a.T) + jitter) @ (np.cov(b.T) + jitter))))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(moments(one), moments(one)) == pytest.approx(0, abs=1e-6)


def test_generated_and_real_examples_are_of_the_same_rows() -> None:
    torch.manual_seed(0)
    parts = {name: Modality(mlp(3, 4), mlp(2, 3), Gaussian(), standardise=False) for name in "xy"}
    model, x, has = MVAE(parts, 2).eval(), torch.randn(300, 3), torch.arange(300) % 3 > 0
    table = Table({"x": x, "y": x.flip(0)}, {"x": has})
    found = frechet_to_data(model, lambda e: 2 * e, table, "y", ["x"], seed=1)
    generator = torch.Generator().manual_seed(1)
    rows = has.nonzero().flatten()  # 200 rows in one batch
    drawn = model.generate({"x": x[rows]}, ["y"], mean=True, generator=generator)["y"][0]
    expected = frechet_distance(moments(2 * drawn), moments(2 * x.flip(0)[rows]))
    assert found == pytest.approx(expected)
    assert frechet_to_data(model, lambda e: e, table, "y") > 0


def test_unusable_features_are_refused() -> None:
    with pytest.raises(DataError, match=r"features have shape \(5,\): a matrix"), unchecked():
        Moments().add(torch.zeros(5))
    with pytest.raises(DataError, match="not all finite"):
        Moments().add(torch.tensor([[1.0, math.nan]]))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(QueryError, match="two rows each"):
        frechet_distance(moments(torch.zeros(1, 2), 1), moments(torch.zeros(5, 2)))
