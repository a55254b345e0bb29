"""`Likelihood`: the interface between a modality and a family p(x | z)."""

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
    """The base class of likelihoods; subclasses define ``elementwise`` or ``log_prob``, ``mean`` and ``sample``."""

    #: Number of parameters that the decoder gives per value: 1, or the length of a last axis; None: any length.
    parameters_per_value: int | None = 1

    #: Is p(x | z) a probability (rather than a density)? Then there is a ``mode``.
    discrete = False

    #: Are the values real numbers in any unit? Then a modality standardises them.
    real = False

    #: The encoder's input as a function of prepared values, unless the modality defines its own; None: the values.
    view: Callable[..., Any] | None = None

    #: The value of full brightness in a column of pictures; values are divided by it, so that p is over [0, 1].
    levels = 1.0

    def fit(self, table: Table, name: str) -> None:
        """Set constants that are not trained from a column's observed training values; by default nothing."""

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """Convert a stored column to numbers for the networks, in its own units: a count of 20 is 20 in every dtype.

        Pictures are divided by `levels`.
        """
        return x.to(dtype) if self.levels == 1 else x.to(dtype, copy=True).div_(self.levels)

    def stored(self, x: Tensor) -> Tensor:
        """Convert prepared values back to the column's own scale: the inverse of `prepare`."""
        return x if self.levels == 1 else x * self.levels

    def invalid_values(
        self, x: Shaped[Tensor, "rows *event"], params: Tensor
    ) -> tuple[Shaped[Tensor, "rows *event"], str]:
        """A mask of the prepared values that this family cannot produce, and what is valid instead (for errors)."""
        return ~x.isfinite(), "finite numbers"

    def arrange(self, params: Tensor, lead: torch.Size, event: torch.Size) -> Tensor:
        """Reshape the decoder's flat batch ``N …`` to ``lead… event…``, so that an MLP can also decode pictures.

        A last axis of parameters stays last.

        Raises:
            DataError: the decoder gives another number of values, or of parameters per value, than the data needs, or
                the same axes in another order (pictures with channels last).
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
        axes, wanted = ([n for n in shape if n > 1] for shape in (params.shape[1 : params.dim() - len(last)], event))
        if axes != wanted and sorted(axes) == sorted(wanted):
            raise DataError(
                f"the decoder gives rows of shape {tuple(params.shape[1:])}, and the data has the same axes in another "
                f"order (shape {tuple(event)}): permute the data's"
            )
        return params.reshape(*lead, *event, *last)

    def log_prob(self, params: Tensor, x: Tensor) -> Float[Tensor, "*lead rows"]:
        """Compute log p(x | params) in nats, summed over the event."""
        return sum_event(self.elementwise(params, x), x)

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """Compute log p of each element of the event."""
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
        """The fraction of each row's values that the mode predicts correctly.

        It is None where accuracy is not defined: for continuous values and for pixels.

        >>> mvae.likelihoods.Categorical().accuracy(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), torch.tensor([1, 0]))
        tensor([1., 0.])
        """
        if not self.discrete:
            return None
        right = (self.mode(self.arrange(params, x.shape[:1], x.shape[1:])) == x).float()
        return right.flatten(1).mean(-1) if right.dim() > 1 else right

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """The mean of the distribution that has all its probability at x, with the dtype and classes of ``params``."""
        raise TypeError(f"{type(self).__name__} has no certain values: it is continuous")

    def logits(self, mean: Tensor) -> Tensor:
        """The parameters that have this mean."""
        raise TypeError(f"{type(self).__name__} has no logits")

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw x ~ p(x | params)."""
        raise TypeError(f"{type(self).__name__} cannot be sampled")


def sum_event(values: Tensor, x: Tensor) -> Tensor:
    """Sum over the event axes, which are all axes of x but the first."""
    return values.flatten(values.dim() - x.dim() + 1).sum(-1) if x.dim() > 1 else values
