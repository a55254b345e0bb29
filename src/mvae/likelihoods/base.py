"""`Likelihood`: what a modality needs from a family p(x | z)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import DataError

__all__ = ["Likelihood", "sum_event"]


class Likelihood(nn.Module):
    """What `Modality` needs from a family; subclasses give ``elementwise`` or ``log_prob``, ``mean`` and ``sample``."""

    #: How many parameters the decoder gives per value: 1, or the length of a last axis; None: as many as it likes.
    parameters_per_value: int | None = 1

    #: Is p(x | z) a probability, which says how sure it is of x? (Then there is a ``mode``. Else it is a density.)
    discrete = False

    #: Are its values real numbers of any unit? (Then a modality standardises them.)
    real = False

    #: What encoders see of prepared values instead, where a modality has no view of its own; None: the values.
    view: Callable[..., Any] | None = None

    #: The column's value of full brightness, where it is one of pictures: p is of shares of it, in [0, 1].
    levels = 1.0

    def fit(self, table: Table, name: str) -> None:
        """Take from a column's present training values what is no parameter, before training; nothing by default."""

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """A stored column as the networks' numbers, in its own units: a count of 20 is 20, whatever dtype holds it.

        Of pictures the shares of full brightness, where that is not 1.
        """
        return x.to(dtype) if self.levels == 1 else x.to(dtype, copy=True).div_(self.levels)

    def stored(self, x: Tensor) -> Tensor:
        """Prepared values on the column's own scale: what `prepare` did, undone."""
        return x if self.levels == 1 else x * self.levels

    def invalid_values(
        self, x: Shaped[Tensor, "rows *event"], params: Tensor
    ) -> tuple[Shaped[Tensor, "rows *event"], str]:
        """Which prepared values this family cannot produce, and what would be possible (for the error)."""
        return ~x.isfinite(), "finite numbers"

    def arrange(self, params: Tensor, lead: torch.Size, event: torch.Size) -> Tensor:
        """The decoder's flat batch ``N …`` as ``lead… event…``, so an MLP may serve a picture; a last axis stays last.

        Raises:
            DataError: the decoder gives another number of values, or of parameters per value, than the data needs.
        """
        last, per_value = torch.Size(), self.parameters_per_value
        if per_value != 1:
            last = params.shape[1:][-1:]
            if not last or per_value not in (None, *last):
                raise DataError(
                    f"the decoder gives rows of shape {tuple(params.shape[1:])}; {type(self).__name__} needs a last "
                    f"axis of {per_value or 'its'} parameters per value"
                )
        have, need = params.shape[1:].numel() // max(1, last.numel()), math.prod(event)
        if have != need:
            each = f", with {last[0]} parameters each" if last else ""
            raise DataError(
                f"the decoder gives {have} values per row{each} (shape {tuple(params.shape[1:])}), "
                f"but the data has {need} (shape {tuple(event)})"
            )
        return params.reshape(*lead, *event, *last)

    def log_prob(self, params: Tensor, x: Tensor) -> Float[Tensor, "*lead rows"]:
        """log p(x | params) in nats, summed over the event."""
        return sum_event(self.elementwise(params, x), x)

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log p of each element of the event."""
        raise TypeError(f"{type(self).__name__} defines neither log_prob nor elementwise")

    def mean(self, params: Tensor) -> Tensor:
        """E[x | params]."""
        raise TypeError(f"{type(self).__name__} has no mean")

    def mode(self, params: Tensor) -> Tensor:
        """The most probable x."""
        raise TypeError(f"{type(self).__name__} has no mode")

    def mode_with_log_prob(self, params: Tensor) -> tuple[Tensor, Float[Tensor, "*lead rows"]]:
        """The most probable x, and its log p."""
        x = self.mode(params)
        return x, self.log_prob(params, x)

    def accuracy(self, params: Tensor, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "rows"] | None:
        """The share of each row's values that the mode predicts right; None where there is no accuracy.

        There is none of continuous values, nor of pixels.

        >>> mvae.likelihoods.Categorical().accuracy(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), torch.tensor([1, 0]))
        tensor([1., 0.])
        """
        if not self.discrete:
            return None
        right = (self.mode(self.arrange(params, x.shape[:1], x.shape[1:])) == x).float()
        return right.flatten(1).mean(-1) if right.dim() > 1 else right

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """The mean of a distribution that is sure of x, of the same family as that of ``params``."""
        raise TypeError(f"{type(self).__name__} is sure of nothing: it is continuous")

    def logits(self, mean: Tensor) -> Tensor:
        """Parameters whose mean this is."""
        raise TypeError(f"{type(self).__name__} has no logits")

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x | params)."""
        raise TypeError(f"{type(self).__name__} cannot be sampled")


def sum_event(values: Tensor, x: Tensor) -> Tensor:
    """Sum over the event axes, which are all but the first of x."""
    return values.flatten(values.dim() - x.dim() + 1).sum(-1) if x.dim() > 1 else values
