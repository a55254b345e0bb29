"""The posterior of a linear-Gaussian model given any subset of its values: where an encoder of columns can start."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["linear_posterior"]


def linear_posterior(
    x: Float[Tensor, "rows fields"], slope: Float[Tensor, "latent fields"], precision: Float[Tensor, "fields"]
) -> tuple[Float[Tensor, "rows latent"], Float[Tensor, "rows latent"]]:
    """The mean of p(z | observed x), and its mean-field precisions, for x = slopeᵀz + noise and z ~ N(0, I).

    The posterior's precision is Λ = I + Σ precision · slope slopeᵀ over the observed fields (Bishop 2006, Eq. 2.117).
    Its diagonal is that of the independent Gaussians closest to it (Eq. 10.13).

    Args:
        x: distances from their mean given z = 0; NaN where a value is missing.
        slope: change of each field's mean per unit of each latent.
        precision: inverse variance of each field's noise; 0: the field says nothing.

    >>> x = torch.tensor([[2.0, 1.0], [2.0, float("nan")], [float("nan"), float("nan")]])
    >>> linear_posterior(x, torch.tensor([[1.0, 1.0]]), torch.tensor([1.0, 1.0]))
    (tensor([[1.],
            [1.],
            [0.]]), tensor([[3.],
            [2.],
            [1.]]))
    """
    weight = torch.where(x.isnan(), 0.0, precision)
    shift = (weight * x.nan_to_num(0.0)) @ slope.T
    products = (slope[:, None] * slope).flatten(0, 1)
    unit = torch.eye(len(slope), device=x.device, dtype=x.dtype)
    total = unit + (weight @ products.T).unflatten(1, unit.shape)
    return _solution(total, shift), total.diagonal(dim1=1, dim2=2)


def _solution(matrix: Float[Tensor, "rows n n"], right: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """The solution of positive definite systems; in an exported graph by elimination, as ONNX has no solver."""
    if not torch.compiler.is_exporting():
        return torch.linalg.solve_ex(matrix, right[..., None])[0][..., 0]
    left = torch.cat([matrix, right[..., None]], 2)
    for i in range(matrix.shape[1]):
        row = left[:, i, None] / left[:, i, None, i, None]
        left = torch.cat(
            [left[:, :i] - left[:, :i, i, None] * row, row, left[:, i + 1 :] - left[:, i + 1 :, i, None] * row], 1
        )
    return left[..., -1]
