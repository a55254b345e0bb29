"""Rows of tokens that end with a stop token; everything after the first stop is padding."""

from jaxtyping import Int
from torch import Tensor

__all__ = ["count_symbols", "lengths_to_stop"]


def count_symbols(x: Int[Tensor, "*rows length"], stop: int) -> Int[Tensor, "*rows"]:
    """The number of symbols that each string has before its first stop.

    >>> count_symbols(torch.tensor([[7, 1, 10, 10], [10, 3, 10, 3]]), stop=10)
    tensor([2, 0])
    """
    return ((x == stop).cumsum(-1) == 0).sum(-1)


def lengths_to_stop(tokens: Int[Tensor, "N length"], stop: int) -> Int[Tensor, "N"]:
    """The number of tokens up to and including the first stop token; all tokens if there is none.

    >>> lengths_to_stop(torch.tensor([[5, 4, 0, 0], [0, 0, 0, 0], [5, 4, 3, 2]]), stop=0)
    tensor([3, 1, 4])
    """
    return (count_symbols(tokens, stop) + 1).clamp(max=tokens.shape[1])
