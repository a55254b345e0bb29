"""Families p(x | z) of one modality: what its decoder's output means (Sec. 2, App. A).

A likelihood owns every fact about its kind of data: how a stored column becomes numbers, which values are
possible, log p, the mean and samples. Shapes: ``x`` is ``rows event…``; the decoder's output ``params`` is
``… rows event…``, with a last axis of parameters where a value has several, and log p is ``… rows``, in nats.

**One of your own** is a subclass of `Likelihood` with ``elementwise(params, x)`` (log p of each value; or
``log_prob``, already summed over the event), ``mean(params)`` and ``sample(params, generator)``. A line in
`LIKELIHOODS` gives it a name for declarations, and `mvae.testing.check_likelihood` tries it. Here a Gaussian with a
scale per value, by a decoder with a last axis of two:

>>> class GaussianWithScale(mvae.likelihoods.Likelihood):
...     parameters_per_value = 2  # mean and log-scale
...     def elementwise(self, params, x):
...         return torch.distributions.Normal(params[..., 0], params[..., 1].exp()).log_prob(x)
...     def mean(self, params):
...         return params[..., 0]
...     def sample(self, params, generator=None):
...         noise = torch.empty(params.shape[:-1], device=params.device).normal_(generator=generator)
...         return params[..., 0] + params[..., 1].exp() * noise
>>> decoder = nn.Sequential(nn.Linear(4, 3 * 2), nn.Unflatten(1, (3, 2)))
>>> sensors = mvae.Modality(nn.Linear(3, 2 * 4), decoder, GaussianWithScale())
>>> sensors.log_prob(torch.zeros(5, 3), torch.zeros(7, 5, 4)).shape, sensors.generate(torch.zeros(5, 4)).shape
(torch.Size([7, 5]), torch.Size([5, 3]))
"""

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.errors import DataError, SettingsError
from mvae.specs import from_spec

__all__ = ["LIKELIHOODS", "Bernoulli", "Categorical", "Gaussian", "Laplace", "Likelihood", "named"]


class Likelihood(nn.Module):
    """What `Modality` needs from a family; subclasses give ``elementwise`` or ``log_prob``, ``mean`` and ``sample``."""

    #: How many parameters the decoder gives per value: 1, or the length of a last axis; None: as many as it likes.
    parameters_per_value: int | None = 1

    #: Is p(x | z) a probability, which says how sure it is of x? (Then there is a ``mode``. Else it is a density.)
    discrete = False

    #: Are its values real numbers of any unit? (Then a modality standardises them.)
    real = False

    #: The column's value of full brightness, where it is one of pictures: what is drawn is divided by it.
    levels = 1.0

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """A stored column as the networks' numbers, in its own units: a count of 20 is 20, whatever dtype holds it."""
        return x.to(dtype)

    def stored(self, x: Tensor) -> Tensor:
        """Prepared values on the column's own scale: what `prepare` did, undone."""
        return x

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
        return _sum_event(self.elementwise(params, x), x)

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

        >>> Categorical().accuracy(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), torch.tensor([1, 0]))
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


def _sum_event(values: Tensor, x: Tensor) -> Tensor:
    """Sum over the event axes, which are all but the first of x."""
    return values.flatten(values.dim() - x.dim() + 1).sum(-1) if x.dim() > 1 else values


class _CrossEntropy(torch.autograd.Function):
    """log(1 + e^l) − x·l of every element, whose gradient in the logits is simply σ(l) − x.

    Images are the largest tensors of a step; differentiated one operation at a time they would be read and written
    twice as often.
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
        levels: the column's value that means 1, of whatever dtype: 255 for pictures of bytes, 1 for bytes of 0 and 1.
            What a modality generates is on the same scale.

    Raises:
        SettingsError: levels that are not positive and finite.

    >>> Bernoulli().log_prob(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]]))  # 3 · log ½
    tensor([-2.0794])
    """

    discrete = True

    def __init__(self, levels: int | float = 1):
        super().__init__()
        if not 0 < levels < math.inf:
            raise SettingsError(f"the levels of a Bernoulli must be positive and finite, not {levels}")
        self.levels = float(levels)

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """Levels as shares of full brightness, in [0, 1]."""
        return x.to(dtype) if self.levels == 1 else x.to(dtype, copy=True).div_(self.levels)

    def stored(self, x: Tensor) -> Tensor:
        """Shares of full brightness as levels."""
        return x if self.levels == 1 else x * self.levels

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Anything outside [0, 1]."""
        what = "values in [0, 1]" if self.levels == 1 else f"levels 0 to {self.levels:g}"
        if self.levels == 1 and bool((x > 1).any()):
            what += " (or, for pictures of bytes, Bernoulli(levels=255))"
        return ~((x >= 0) & (x <= 1)), what

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """x·l − log(1 + e^l), which is exact where the probability saturates."""
        return -self._cross_entropy(params, x)

    def log_prob(self, params: Tensor, x: Tensor) -> Float[Tensor, "*lead rows"]:
        """The same, summed over the event; the sign is turned after the sum, where there is less to turn."""
        return -_sum_event(self._cross_entropy(params, x), x)

    def _cross_entropy(self, params: Tensor, x: Tensor) -> Tensor:
        return cast("Tensor", _CrossEntropy.apply(params, x))

    def mean(self, params: Tensor) -> Tensor:
        """Probabilities."""
        return params.sigmoid()

    def mode(self, params: Tensor) -> Tensor:
        """Zeros and ones, each the more probable of the two."""
        return (params > 0).to(params.dtype)

    def accuracy(self, params: Tensor, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "rows"] | None:
        """Of attributes, ``rows`` or ``rows features``; more axes are pixels, which have none."""
        return None if x.dim() > 2 else super().accuracy(params, (x > 0.5).to(params.dtype))

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """Probabilities 0 and 1."""
        return x.to(params.dtype)

    def logits(self, mean: Tensor) -> Tensor:
        """log π − log(1 − π)."""
        return mean.logit()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros and ones."""
        return torch.bernoulli(params.sigmoid(), generator=generator)


class Categorical(Likelihood):
    """One class of K (or a class at each position of the event); the decoder gives K logits as its last axis.

    The paper calls it multinomial (App. A). Columns hold class numbers 0 … K−1, of any integer dtype.

    >>> Categorical().log_prob(torch.zeros(2, 10), torch.tensor([3, 7]))  # log 1/10
    tensor([-2.3026, -2.3026])
    """

    discrete = True
    parameters_per_value = None  # the classes

    def prepare(self, x: Shaped[Tensor, "rows *event"], dtype: torch.dtype) -> Shaped[Tensor, "rows *event"]:
        """Class numbers as int64.

        Raises:
            DataError: the column is floating point, so that no class would be rounded silently.
        """
        if x.is_floating_point():
            raise DataError(f"class numbers must be integers, not {x.dtype}: convert the column with .long()")
        return x.long()

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Anything but 0 … K−1, where K is what the decoder gives."""
        classes = params.shape[-1]
        return ~((x >= 0) & (x < classes)), f"class numbers 0 to {classes - 1}"

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log softmax at the class."""
        index = x.expand(params.shape[:-1]).unsqueeze(-1)
        return params.log_softmax(-1).gather(-1, index).squeeze(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Class probabilities (the mean of the one-hot vector), with a last axis of classes."""
        return params.softmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        """The most probable classes."""
        return params.argmax(-1)

    def certain(self, x: Tensor, params: Tensor) -> Tensor:
        """One-hot vectors."""
        return F.one_hot(x, params.shape[-1]).to(params.dtype)

    def logits(self, mean: Tensor) -> Tensor:
        """log π."""
        return mean.log()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Class numbers."""
        flat = params.softmax(-1).reshape(-1, params.shape[-1])
        return torch.multinomial(flat, 1, generator=generator).reshape(params.shape[:-1])


class _AtLeast(torch.autograd.Function):
    """max(x, least), whose gradient vanishes at the bound only where descent would go further down."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.least = least
        return x.clamp(min=least)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,), (grad,) = ctx.saved_tensors, grad_outputs
        return torch.where((x > ctx.least) | (grad < 0), grad, 0.0), None


class _Scaled(Likelihood):
    """A location from the decoder and one scale for all values, fixed or learned (as its logarithm).

    Args:
        scale: the scale, or where learning begins.
        learned: is it a parameter?
        least: a learned scale does not fall below it. Otherwise a constant column would be worth any number of nats.

    All three are in standard deviations of the data, unless the modality has ``standardise=False``.

    Raises:
        SettingsError: a scale that is not positive and finite, or a learned one that begins below ``least``.
    """

    real = True
    log_scale: Tensor

    def __init__(self, scale: float = 1.0, learned: bool = False, least: float = 1e-3):
        super().__init__()
        if not 0 < scale < math.inf:
            raise SettingsError(f"the scale of {type(self).__name__} must be positive and finite, not {scale}")
        if learned and not 0 < least <= scale:
            raise SettingsError(
                f"a learned scale of {type(self).__name__} begins at {scale}: least must be above 0 and no more than "
                f"that, not {least}"
            )
        self.least = math.log(least) if learned else -math.inf
        log_scale = torch.tensor(math.log(scale))
        if learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @property
    def log_s(self) -> Tensor:
        """The logarithm of the scale in use."""
        return cast("Tensor", _AtLeast.apply(self.log_scale, self.least)) if self.least > -math.inf else self.log_scale

    def mean(self, params: Tensor) -> Tensor:
        """The location."""
        return params


class Gaussian(_Scaled):
    """N(decoder's output, scale²), with one scale for the modality: given, or learned from that start.

    >>> Gaussian().log_prob(torch.zeros(1, 2), torch.zeros(1, 2))  # −log 2π
    tensor([-1.8379])
    """

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """−½((x − μ)/s)² − log s − ½ log 2π."""
        log_s = self.log_s
        standard = (x - params) * torch.exp(-log_s)
        return -0.5 * standard.square() - log_s - 0.5 * math.log(2 * math.pi)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """μ + s·ε."""
        noise = torch.randn(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        return params + self.log_s.exp() * noise


class Laplace(_Scaled):
    """Laplace(decoder's output, scale): absolute error, robust to outliers.

    >>> Laplace().log_prob(torch.zeros(1, 1), torch.ones(1, 1))  # −1 − log 2
    tensor([-1.6931])
    """

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """−|x − μ|/s − log 2s."""
        log_s = self.log_s
        return -(x - params).abs() * torch.exp(-log_s) - log_s - math.log(2)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """By the inverse of the distribution function."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype) - 0.5
        tail = (1 - 2 * u.abs()).clamp(min=torch.finfo(u.dtype).eps / 2)  # rand() may be 0, whose inverse is −∞
        return params - self.log_s.exp() * u.sign() * tail.log()


#: What `named` and a declaration may name.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian": Gaussian,
    "laplace": Laplace,
}


def named(spec: object) -> Likelihood:
    """A likelihood by name, by ``{name = NAME, …}`` with its arguments, or as it is.

    Raises:
        SettingsError: an unknown name or argument, or an object that is no `Likelihood`.

    >>> named("bernoulli"), named({"name": "gaussian", "scale": 0.5}).log_scale.exp()
    (Bernoulli(), tensor(0.5000))
    """
    return spec if isinstance(spec, Likelihood) else from_spec(spec, LIKELIHOODS, "likelihood")
