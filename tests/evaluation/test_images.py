"""Image metrics against naive formulas and closed forms, and the simple baselines against loops."""

import math

import numpy as np
import pytest
import torch

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.images import CHUNK, cross_entropy, f1, nearest_rows, psnr, ssim, training_mean


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_cross_entropy_is_the_sum_over_pixels_and_always_finite() -> None:
    found, truth = images(3, 2, 4, 5), images(3, 2, 4, 6)[..., 1:]
    for row, value in enumerate(cross_entropy(found, truth)):
        pairs = zip(found[row].flatten().tolist(), truth[row].flatten().tolist(), strict=True)
        kept = [(min(max(p, 0.5 / 255), 1 - 0.5 / 255), x) for p, x in pairs]
        naive = -sum(x * math.log(p) + (1 - x) * math.log(1 - p) for p, x in kept)
        assert float(value) == pytest.approx(naive, rel=1e-4)
    black = torch.zeros(1, 1, 1, 1)
    assert float(cross_entropy(black, 1 - black)) == pytest.approx(math.log(510), rel=1e-4)


def test_psnr_matches_the_closed_form_and_is_finite_for_equal_images() -> None:
    pytest.importorskip("skimage")
    truth = images(3, 3, 12, 12) / 2
    assert psnr(truth + 0.1, truth).tolist() == pytest.approx([20.0] * 3, abs=1e-3)
    found = images(3, 3, 12, 13)[..., 1:]
    squares = (found.double() - truth.double()).square().flatten(1).mean(1)
    naive = [-10 * math.log10(value) for value in squares.tolist()]
    assert psnr(found, truth).tolist() == pytest.approx(naive, rel=1e-5)
    assert psnr(truth, truth).tolist() == pytest.approx([10 * math.log10(12 * 255**2)] * 3, rel=1e-5)


def test_ssim_matches_the_closed_form_and_is_1_for_equal_images() -> None:
    """For constant images a and b: (2ab + C1) / (a² + b² + C1), C1 = 0.01² (Wang et al. 2004, eq. 13)."""
    pytest.importorskip("skimage")
    a, b = 0.3, 0.8
    planes = torch.full((2, 3, 16, 16), a), torch.full((2, 3, 16, 16), b)
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(*planes).tolist() == pytest.approx([expected] * 2, rel=1e-5)
    truth = images(2, 1, 16, 16)
    assert ssim(truth, truth).tolist() == pytest.approx([1, 1])
    noisy = truth + 0.3 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert (ssim(noisy, truth) < 0.8).all()
    with pytest.raises(QueryError, match="at least 11×11 pixels, not 8×16"):
        ssim(truth[:, :, :8], truth[:, :, :8])


def test_f1_counts_pixels_above_a_half() -> None:
    truth = torch.tensor([[1, 1, 1, 0, 0, 0.0]] * 4).reshape(4, 1, 2, 3)
    found = torch.tensor([[1, 1, 1, 0, 0, 0], [0.6, 0.6, 0.4, 0.6, 0, 0], [0] * 6, [0, 0, 0, 1, 1, 1]])
    values = f1(found.reshape(4, 1, 2, 3).float(), truth)
    assert values.tolist() == pytest.approx([1, 2 * 2 / (2 * 2 + 1 + 1), 0, 0])
    nothing = torch.zeros(1, 1, 2, 3)
    assert f1(nothing, nothing).tolist() == [1]


def table(rows: int) -> Table:
    random = np.random.RandomState(0)
    return Table(
        {name: random.randint(0, 256, (rows, 1, 3, 4)).astype(np.uint8) for name in ("gray", "mask")},
        present={"mask": random.rand(rows) < 0.5},
    )


def test_the_training_mean_is_over_the_observed_rows() -> None:
    rows = CHUNK + 30
    data = table(rows)
    levels = torch.as_tensor(data.columns["mask"]).double()[data.present[:, 1]] / 255
    torch.testing.assert_close(training_mean(data, "mask", 255), levels.mean(0).float())
    with pytest.raises(QueryError, match="no row has mask"):
        training_mean(data.take((~data.present[:, 1]).nonzero().flatten()), "mask")


def test_the_nearest_row_equals_that_of_a_naive_loop() -> None:
    data = table(CHUNK + 40)
    queries = torch.randint(0, 256, (7, 1, 3, 4), generator=torch.Generator().manual_seed(1)) / 255
    known = torch.as_tensor(data.columns["gray"]) / 255
    found = nearest_rows(queries, data, "gray", "mask", 255)
    for query, row in zip(queries, found.tolist(), strict=True):
        distances = [float((query - x).double().square().sum()) for x in known]
        distances = [d if here else math.inf for d, here in zip(distances, data.present[:, 1].tolist(), strict=True)]
        assert row == int(np.argmin(distances))
    own = int(data.present[:, 1].nonzero()[-1])
    assert nearest_rows(known[[own]], data, "gray", "mask", 255).tolist() == [own]
