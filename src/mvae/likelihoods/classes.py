"""Class numbers as values, and probabilities and samples of classes, which are along the last axis."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mvae.errors import DataError, QueryError
from mvae.likelihoods.base import Likelihood

__all__ = ["Classes", "draw", "log_softmax", "softmax"]

FEW = 16  # with fewer classes, PyTorch's softmax on a CPU is ten times as fast along the first axis as along the last


class Classes(Likelihood):
    """The common base of families whose values are class numbers."""

    discrete = True

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """Class numbers as int64.

        Raises:
            DataError: the column is floating point; its class numbers are not rounded silently.
        """
        if x.is_floating_point():
            raise DataError(f"class numbers must be integers, not {x.dtype}: convert the column with .long()")
        return x.long()


def softmax(logits: Float[Tensor, "*lead classes"]) -> Float[Tensor, "*lead classes"]:
    """The probabilities, contiguous in memory.

    >>> softmax(torch.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])
    """
    few = logits.dim() > 1 and logits.shape[-1] < FEW
    return logits.movedim(-1, 0).softmax(0).movedim(0, -1).contiguous() if few else logits.softmax(-1)


def log_softmax(logits: Float[Tensor, "*lead classes"]) -> Float[Tensor, "*lead classes"]:
    """The logarithms of probabilities.

    >>> log_softmax(torch.tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """
    few = logits.dim() > 1 and logits.shape[-1] < FEW
    return logits.movedim(-1, 0).log_softmax(0).movedim(0, -1) if few else logits.log_softmax(-1)


def draw(p: Float[Tensor, "*lead classes"], generator: torch.Generator | None = None) -> Int[Tensor, "*lead"]:
    """Draw one class number from each distribution, by inverting its distribution function.

    `torch.multinomial` takes two to ten times as long on a CPU.

    Args:
        p: probabilities, or numbers proportional to them.
        generator: random number generator.

    Raises:
        QueryError: probabilities that are NaN, infinite or all 0, as from a decoder whose weights are not finite.

    >>> draw(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.2]]))
    tensor([1, 2])
    """
    reached = p.cumsum(-1, dtype=torch.float64)
    if not bool((reached[..., -1:].isfinite() & (reached[..., -1:] > 0)).all()):
        raise QueryError("classes cannot be drawn: the decoder's probabilities are NaN, infinite or all 0")
    u = torch.rand(*p.shape[:-1], 1, dtype=torch.float64, device=p.device, generator=generator)
    return (reached[..., :-1] <= u * reached[..., -1:]).sum(-1)
