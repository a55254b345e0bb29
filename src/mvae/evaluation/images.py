"""How close predicted images are to the true ones, row by row, with the training mean and the nearest neighbour as
baselines. Images are ``rows channels height width``, levels in [0, 1]."""

from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError, require_extra
from mvae.evaluation.rows import rows_with

__all__ = ["cross_entropy", "f1", "levels", "nearest_rows", "psnr", "require_skimage", "ssim", "training_mean"]

Images = Float[Tensor, "rows channels height width"]

HALF_A_LEVEL = 0.5 / 255
CHUNK = 512  # training rows in memory at once


def require_skimage() -> ModuleType:
    """Import scikit-image's metrics.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require_extra("skimage.metrics", "vision", "PSNR and SSIM")


def cross_entropy(found: Images, truth: Images) -> Float[Tensor, "rows"]:
    """−Σ x log π + (1−x) log(1−π): nats per row, under Bernoulli pixels with the predicted levels.

    Predictions are kept half an 8-bit level away from 0 and 1, so that a neighbour's pure black and white also have a
    finite cost.

    >>> cross_entropy(torch.full((1, 1, 1, 2), 0.5), torch.ones(1, 1, 1, 2))  # 2 log 2
    tensor([1.3863])
    """
    level = found.clamp(HALF_A_LEVEL, 1 - HALF_A_LEVEL)
    return -(truth * level.log() + (1 - truth) * (-level).log1p()).flatten(1).sum(1)


def psnr(found: Images, truth: Images) -> Float[Tensor, "rows"]:
    """Peak signal-to-noise ratio in dB: −10 log10 of the mean squared error.

    Capped at 58.9, the value of rounding to 8 bits, as it is infinite for equal images.

    Raises:
        MissingDependencyError: without scikit-image.
    """
    metrics = require_skimage()
    errors = torch.tensor([metrics.mean_squared_error(*pair) for pair in _pairs(found, truth)])
    return -10 * errors.clamp(min=(1 / 255) ** 2 / 12).log10().float()


def ssim(found: Images, truth: Images) -> Float[Tensor, "rows"]:
    """Structural similarity (Wang et al. 2004: Gaussian windows of σ = 1.5), 1 for equal images.

    Raises:
        MissingDependencyError: without scikit-image. QueryError: images smaller than the window, 11×11.
    """
    if min(truth.shape[2:]) < 11:
        raise QueryError(f"SSIM needs images of at least 11×11 pixels, not {truth.shape[2]}×{truth.shape[3]}")
    metrics = require_skimage()
    how = {"channel_axis": 0, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    return torch.tensor([float(metrics.structural_similarity(*pair, **how)) for pair in _pairs(found, truth)])


def f1(found: Images, truth: Images) -> Float[Tensor, "rows"]:
    """2TP / (2TP + FP + FN) of the pixels above ½; 1 if neither has any.

    >>> f1(torch.tensor([[[[0.9, 0.9, 0.1]]]]), torch.tensor([[[[1.0, 0.0, 0.0]]]]))
    tensor([0.6667])
    """
    said, is_so = ((x > 0.5).flatten(1) for x in (found, truth))
    both, either = (said & is_so).sum(1), said.sum(1) + is_so.sum(1)
    return torch.where(either > 0, 2 * both / either, 1.0)


def training_mean(table: Table, name: str, brightest: int | float = 1) -> Float[Tensor, "channels height width"]:
    """The mean image of a column over the rows that have it, read a chunk at a time; ``brightest``: as in `levels`.

    Raises:
        QueryError: no row has it.
    """
    rows = rows_with(table, [name], whole=True)
    total = torch.zeros(table.columns[name].shape[1:], dtype=torch.float64)
    for part in rows.split(CHUNK):
        total += levels(table.select_rows(name, part), brightest).double().sum(0)
    return (total / len(rows)).float()


@torch.no_grad()
def nearest_rows(
    queries: Images, table: Table, name: str, also: str, brightest: int | float = 1
) -> Int[Tensor, "rows"]:
    """For each query, the table's row with the nearest ``name`` in pixel space, among those that have ``also``, too.

    ``brightest`` is the table's, as in `levels`.

    Raises:
        QueryError: no row has both.
    """
    rows, flat = rows_with(table, [name, also], whole=True), queries.flatten(1)
    best, at = torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.long)
    for part in rows.split(CHUNK):
        x = levels(table.select_rows(name, part), brightest).flatten(1)
        distance = x.square().sum(1) - 2 * flat @ x.T  # without the query's own square, which is the same for all
        nearest, index = distance.min(1)
        at = torch.where(nearest < best, part[index], at)
        best = torch.minimum(best, nearest)
    return at


def levels(x: Tensor, brightest: int | float = 1) -> Tensor:
    """Images as levels in [0, 1].

    Args:
        x: stored or generated images.
        brightest: the value of full brightness, `mvae.likelihoods.Likelihood.levels` of their modality.

    >>> levels(torch.tensor([0, 51, 255], dtype=torch.uint8), brightest=255)
    tensor([0.0000, 0.2000, 1.0000])
    """
    return x.float() if brightest == 1 else x.float() / brightest


def _pairs(found: Images, truth: Images):
    return zip(truth.double().cpu().numpy(), found.double().cpu().numpy(), strict=True)
