"""Families of classes, of binary values, and of pixels (App. A)."""

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.likelihoods.base import Likelihood, sum_event
from mvae.likelihoods.classes import Classes, draw, log_softmax, softmax

__all__ = ["Bernoulli", "Categorical"]


class _CrossEntropy(torch.autograd.Function):
    """log(1 + e^l) − x·l of every element, with its gradient σ(l) − x in the logits.

    Images are the largest tensors of a step; if each operation were differentiated separately, they would be read and
    written twice as often.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return F.softplus(logits).addcmul_(x, logits, value=-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = ctx.saved_tensors
        (grad,) = grad_outputs
        of_x = -(grad * logits).sum_to_size(x.shape) if ctx.needs_input_grad[1] else None
        return (logits.sigmoid() - x).mul_(grad), of_x


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels or attributes; the decoder gives logits (App. A).

    Grey levels in [0, 1] are accepted as soft targets, as the paper does: log p is then Σ x log π + (1−x) log(1−π),
    a cross-entropy and *not* a normalised density over [0, 1]. Compare such numbers only with each other.

    Args:
        levels: the column's value that means 1, in any dtype: 255 for pictures of bytes, 1 for bytes of 0 and 1.
            Generated values are on the same scale.

    Raises:
        SettingsError: levels that are not positive and finite.

    >>> Bernoulli().log_prob(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]]))  # 3 · log ½
    tensor([-2.0794])
    """

    discrete = True

    @checked_arguments()
    def __init__(self, levels: float = 1):
        super().__init__()
        if not 0 < levels < math.inf:
            raise SettingsError(f"the levels of a Bernoulli must be positive and finite, not {levels}")
        self.levels = float(levels)

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Anything outside [0, 1]."""
        what = "values in [0, 1]" if self.levels == 1 else f"levels 0 to {self.levels:g}"
        if self.levels == 1 and bool((x > 1).any()):
            what += " (or, for pictures of bytes, Bernoulli(levels=255))"
        return ~((x >= 0) & (x <= 1)), what

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """x·l − log(1 + e^l), which is exact also where the probability saturates."""
        return -self._cross_entropy(params, x)

    def log_prob(self, params: Tensor, x: Tensor) -> Float[Tensor, "*lead rows"]:
        """The same, summed over the event; the sign is changed after the sum, where there are fewer numbers."""
        return -sum_event(self._cross_entropy(params, x), x)

    def _cross_entropy(self, params: Tensor, x: Tensor) -> Tensor:
        return cast("Tensor", _CrossEntropy.apply(params, x))

    def mean(self, params: Tensor) -> Tensor:
        """The probabilities of 1."""
        return params.sigmoid()

    def mode(self, params: Tensor) -> Tensor:
        """The more probable of 0 and 1, for each value."""
        return (params > 0).to(params.dtype)

    def accuracy(self, params: Tensor, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "rows"] | None:
        """The accuracy for attributes, ``rows`` or ``rows features``; None for more axes, which are pixels."""
        return None if x.dim() > 2 else super().accuracy(params, (x > 0.5).to(params.dtype))

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """The probabilities 0 and 1."""
        return x.to(params.dtype)

    def logits(self, mean: Tensor) -> Tensor:
        """log π − log(1 − π)."""
        return mean.logit()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(params.sigmoid(), generator=generator)


class Categorical(Classes):
    """One class of K (or a class at each position of the event); the decoder gives K logits as its last axis.

    The paper calls it multinomial (App. A). Columns hold class numbers 0 … K−1, of any integer dtype.

    >>> Categorical().log_prob(torch.zeros(2, 10), torch.tensor([3, 7]))  # log 1/10
    tensor([-2.3026, -2.3026])
    """

    parameters_per_value = None  # the classes

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Anything but 0 … K−1, where K is the number of logits."""
        classes = params.shape[-1]
        return ~((x >= 0) & (x < classes)), f"class numbers 0 to {classes - 1}"

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """The log softmax at the class."""
        index = x.expand(params.shape[:-1]).unsqueeze(-1)
        return log_softmax(params).gather(-1, index).squeeze(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Class probabilities (the mean of the one-hot vector), with a last axis of classes."""
        return softmax(params)

    def mode(self, params: Tensor) -> Tensor:
        """The most probable class of each value."""
        return params.argmax(-1)

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """One-hot vectors."""
        return F.one_hot(x, params.shape[-1]).to(params.dtype)

    def logits(self, mean: Tensor) -> Tensor:
        """log π."""
        return mean.log()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw class numbers."""
        return draw(softmax(params), generator)
