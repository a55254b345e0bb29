"""Families of counts: Poisson, and the negative binomial with and without zero inflation.

The decoder gives log rates, and all computations stay in log space, so that counts from 0 to 1e6 and inverse
dispersions from 1e-6 to 1e6 are scored without overflow. Raw counts are scored; encoders see log1p of normalised
counts (`Counts.view`).

**Exposure.** With ``exposure=True`` a row's total scales its means, as the number of molecules counted in a cell
does: the decoder's output is the share of the total that each feature has, and log p is conditional on the total.
`log_prob` computes the total from x, so that it need not be passed, and a missing modality has no total. Methods
without x (`mean`, `sample`, `variance`, `quantile`) take the exposure as an argument; by default it is the median total
of the training rows. Means are proportional to it: a row's denoised counts are ``mean · total / typical``.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.likelihoods.base import Likelihood

__all__ = ["Counts", "NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]

Exposure = Tensor | float | None  # one for each row, or one for all; None: the typical one
PER = 1e4  # the reference exposure before training, to which encoders' counts are normalised
NOTHING = 1e-30  # stands for a total of zero
VALUES = 2**22  # values processed together
SERIES = 16.0  # from here on, three terms of Stirling's series are exact to all digits


class Counts(Likelihood):
    """The common base of count families: the rate, the exposure, and the encoder's input.

    log μ = log base + the decoder's output, where base is the mean of each feature's training counts (1 before `fit`),
    so that training starts there. With ``exposure``, μ = total · softmax(log base + output) over the features.

    Args:
        exposure: condition on the row's total, which then scales the mean. Only for events of one axis with at least
            two features. A row with a total of zero is then certain: its log p is 0.
    """

    #: Buffers whose shape comes from the data (`mvae.files.check_weights`).
    shaped_by_data = ("log_base",)

    @checked_arguments()
    def __init__(self, exposure: bool = False):
        super().__init__()
        self.exposure = exposure
        self.log_base = nn.Buffer(torch.zeros(()))
        self.typical = nn.Buffer(torch.zeros(()))  # 0: not fitted

    @property
    def fitted(self) -> bool:
        """Has `fit` seen training counts?"""
        return bool(self.typical > 0)

    def fit(self, table: Table, name: str) -> None:
        """Set the base rates and the median total from a column's observed counts, unless they are already set.

        A feature that is 0 in all rows gets the rate of half a count over all rows together.
        """
        rows = table.has(name).nonzero().flatten()
        if self.fitted or not len(rows):
            return
        event = table.columns[name].shape[1:]
        total, totals = torch.zeros(event, dtype=torch.float64), torch.empty(len(rows), dtype=torch.float64)
        # A list of totals would lie between the large parts in memory, whose space could then not be used again.
        for part in torch.arange(len(rows)).split(max(1, VALUES // max(1, math.prod(event)))):
            x = table.select_rows(name, rows[part]).to("cpu", torch.float64)
            total += x.sum(0)
            totals[part] = x.flatten(1).sum(1) if x.dim() > 1 else x
        log_base = ((total + 0.5) / len(rows)).log()
        self.log_base = log_base.to(self.log_base.device, self.log_base.dtype)
        self.typical = totals.median().clamp(min=1).to(self.typical.device, self.typical.dtype)

    def view(self, x: Float[Tensor, "rows *event"]) -> Float[Tensor, "rows *event"]:
        """The encoder's input: log1p of counts; with an exposure, of counts scaled to the typical total.

        >>> NegativeBinomial(2, exposure=True).view(torch.tensor([[1.0, 3.0]])).expm1().round()
        tensor([[2500., 7500.]])
        """
        return torch.log1p(x * (self._reference / x.sum(-1, keepdim=True).clamp(min=1)) if self.exposure else x)

    def invalid_values(self, x: Shaped[Tensor, "rows *event"], params: Tensor) -> tuple[Tensor, str]:
        """Anything but 0, 1, 2 …"""
        return ~((x >= 0) & (x == x.round()) & x.isfinite()), "whole numbers ≥ 0 (raw counts, not normalised ones)"

    def arrange(self, params: Tensor, lead: torch.Size, event: torch.Size) -> Tensor:
        """Reshape as in `Likelihood.arrange`.

        Raises:
            DataError: the wrong number of values or parameters, or an exposure for rows of a shape that has none.
        """
        if self.exposure and (len(event) != 1 or event[0] < 2):
            raise DataError(f"an exposure is the total of two features or more, not of rows of shape {tuple(event)}")
        return super().arrange(params, lead, event)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Give the base rates the shape that they were saved with."""
        if isinstance(saved := state_dict.get(prefix + "log_base"), Tensor):
            self.log_base = self.log_base.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def _reference(self) -> Tensor:
        return torch.where(self.typical > 0, self.typical, PER)

    def _log_mean(self, rate: Tensor, exposure: Exposure) -> Tensor:
        """Compute log μ from the decoder's rates."""
        rate = rate + self.log_base
        if not self.exposure:
            if exposure is not None:
                raise QueryError(f"this {type(self).__name__} has no exposure: build it with exposure=True")
            return rate
        total = self._reference if exposure is None else torch.as_tensor(exposure, device=rate.device)
        log_total = total.to(rate.dtype).clamp(min=NOTHING).log()
        return rate.log_softmax(-1) + (log_total[..., None] if log_total.dim() else log_total)

    def _log_mean_of(self, rate: Tensor, x: Tensor) -> Tensor:
        return self._log_mean(rate, x.sum(-1) if self.exposure else None)


class Poisson(Counts):
    """Poisson counts: the variance is the mean. The decoder gives one value per count.

    >>> Poisson().log_prob(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))  # twice the rate 1: −2
    tensor([-2.])
    """

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """x log μ − μ − log x!."""
        return _poisson(self._log_mean_of(params, x), x)

    def mean(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """μ at this exposure, one for each row or one for all (default: the typical one)."""
        return self._log_mean(params, exposure).exp()

    def variance(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """μ, as the mean."""
        return self.mean(params, exposure)

    def quantile(self, params: Tensor, q: float, exposure: Exposure = None) -> Tensor:
        """The smallest count whose cumulative probability is at least q."""
        return _quantile("poisson", params, q, self._log_mean(params, exposure).exp())

    def sample(self, params: Tensor, generator: torch.Generator | None = None, exposure: Exposure = None) -> Tensor:
        """Draw counts from the exact distribution."""
        rate = self._log_mean(params.double(), exposure).exp()
        return torch.poisson(rate, generator=generator).to(params.dtype)


class NegativeBinomial(Counts):
    """Overdispersed counts: variance μ + μ²/θ, with the inverse dispersion θ.

    Args:
        features: the number of features (the length of the event's last axis), each with its own learned θ starting
            from ``theta``; 1 learns one θ for all. None: the decoder gives log θ as the second of two parameters per
            value, so that it may depend on z, and through the decoder's context on a batch.
        exposure: see `Counts`.
        theta: the initial θ; without ``features``, the θ that a decoder output of 0 stands for.

    Raises:
        SettingsError: features < 1, or a theta that is not positive and finite.

    >>> NegativeBinomial(features=1).log_prob(torch.zeros(1, 1), torch.tensor([[2.0]]))  # μ = θ = 1: 1/8
    tensor([-2.0794], grad_fn=<SumBackward1>)
    """

    _extra = 0  # parameters per value besides the rate and log θ

    @checked_arguments()
    def __init__(self, features: int | None = None, exposure: bool = False, theta: float = 1.0):
        super().__init__(exposure)
        if features is not None and features < 1:
            raise SettingsError(f"the features of {type(self).__name__} must be at least 1, not {features}")
        if not 0 < theta < math.inf:
            raise SettingsError(f"the theta of {type(self).__name__} must be positive and finite, not {theta}")
        self.start = math.log(theta)
        self.log_theta = None if features is None else nn.Parameter(torch.full((features,), self.start))
        self.parameters_per_value = 1 + self._extra + (features is None)

    def arrange(self, params: Tensor, lead: torch.Size, event: torch.Size) -> Tensor:
        """Reshape as in `Counts.arrange`.

        Raises:
            DataError: as there, or another number of features than θ has.
        """
        last = event[-1] if event else 1
        if self.log_theta is not None and len(self.log_theta) not in (1, last):
            raise DataError(f"{type(self).__name__} has {len(self.log_theta)} features; rows have {last}")
        return super().arrange(params, lead, event)

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The rate, log θ, and the logit of zero inflation if the family has it."""
        if self.parameters_per_value == 1:
            assert self.log_theta is not None
            return params, self.log_theta, None
        rate, *rest = params.unbind(-1)
        log_theta = rest.pop(0) + self.start if self.log_theta is None else self.log_theta
        return rate, log_theta, rest[0] if rest else None

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log Γ(x+θ)/(Γ(θ) x!) + θ log θ/(θ+μ) + x log μ/(θ+μ)."""
        rate, log_theta, _ = self._parts(params)
        return _negative_binomial(self._log_mean_of(rate, x), log_theta, x)

    def mean(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """μ at this exposure, one for each row or one for all (default: the typical one)."""
        return self._log_mean(self._parts(params)[0], exposure).exp()

    def variance(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """μ + μ²/θ."""
        rate, log_theta, _ = self._parts(params)
        log_mean = self._log_mean(rate, exposure)
        return log_mean.exp() + (2 * log_mean - log_theta).exp()

    def quantile(self, params: Tensor, q: Tensor | float, exposure: Exposure = None) -> Tensor:
        """The smallest count whose cumulative probability is at least q."""
        rate, log_theta, _ = self._parts(params.double())
        log_mean = self._log_mean(rate, exposure)
        return _quantile("nbinom", params, q, log_theta.exp(), (log_theta - log_mean).sigmoid())

    def sample(self, params: Tensor, generator: torch.Generator | None = None, exposure: Exposure = None) -> Tensor:
        """Draw counts from the exact distribution: Poisson with a gamma-distributed rate."""
        rate, log_theta, _ = self._parts(params.double())
        log_mean = self._log_mean(rate, exposure)
        theta = log_theta.double().exp().expand_as(log_mean).contiguous()
        gamma = torch._standard_gamma(theta, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        return torch.poisson(gamma * (log_mean - log_theta).exp(), generator=generator).to(params.dtype)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """A negative binomial with additional zeros of probability π; the decoder's last parameter per value is logit π.

    >>> ZeroInflatedNegativeBinomial(features=1).log_prob(torch.zeros(1, 1, 2), torch.tensor([[0.0]])).exp()  # ½ + ½·½
    tensor([0.7500], grad_fn=<ExpBackward0>)
    """

    _extra = 1

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log(π [x = 0] + (1 − π) NB(x))."""
        rate, log_theta, zero = self._parts(params)
        assert zero is not None
        inside = F.logsigmoid(-zero) + _negative_binomial(self._log_mean_of(rate, x), log_theta, x)
        return torch.where(x == 0, torch.logaddexp(F.logsigmoid(zero), inside), inside)

    def _share(self, params: Tensor) -> Tensor:
        zero = self._parts(params)[2]
        assert zero is not None
        return zero.sigmoid()

    def mean(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """(1 − π) μ."""
        return (1 - self._share(params)) * super().mean(params, exposure)

    def variance(self, params: Tensor, exposure: Exposure = None) -> Tensor:
        """(1 − π) (σ² + π μ²), with μ and σ² of the negative binomial."""
        share = self._share(params)
        return (1 - share) * (super().variance(params, exposure) + share * super().mean(params, exposure).square())

    def quantile(self, params: Tensor, q: Tensor | float, exposure: Exposure = None) -> Tensor:
        """The smallest count whose cumulative probability is at least q."""
        share = self._share(params.double())
        return super().quantile(params, ((q - share) / (1 - share)).clamp(min=0), exposure).clamp(min=0)

    def sample(self, params: Tensor, generator: torch.Generator | None = None, exposure: Exposure = None) -> Tensor:
        """Draw counts from the exact distribution."""
        drawn = super().sample(params, generator, exposure)
        return drawn * (1 - torch.bernoulli(self._share(params), generator=generator))


def _poisson(log_mean: Tensor, x: Tensor) -> Tensor:
    """log p(x) at mean x, plus its difference at mean μ: x (t − eᵗ + 1), t = log μ/x. No large numbers cancel."""
    some = x.clamp(min=1)
    t = log_mean - some.log()
    best = -0.5 * (some.log() + math.log(2 * math.pi)) - _stirling(some)
    return torch.where(x == 0, -log_mean.exp(), some * (t - t.expm1()) + best)


def _negative_binomial(log_mean: Tensor, log_theta: Tensor, x: Tensor) -> Tensor:
    """log p(x) at mean x, plus its difference at mean μ: −x log x(θ+μ)/(μ(θ+x)) − θ log (θ+μ)/(θ+x).

    Only logarithms are subtracted, so that even in float32 counts of 1e6 are scored to a tenth of a nat.
    """
    theta = log_theta.to(log_mean.dtype).exp()
    some, ratio = x.clamp(min=1), log_mean - log_theta
    rise = F.softplus(ratio, threshold=40)
    of_x = F.softplus(-ratio, threshold=40) - (theta / some).log1p()
    of_theta = rise - (some / theta).log1p()
    best = 0.5 * (log_theta - (some + theta).log() - some.log() - math.log(2 * math.pi))
    best = best + _stirling(some + theta) - _stirling(theta) - _stirling(some)  # depends on x and θ only: computed once
    return torch.where(x == 0, -theta * rise, best - some * of_x - theta * of_theta)


def _stirling(y: Tensor) -> Tensor:
    """log Γ(y) − [(y − ½) log y − y + ½ log 2π] for y > 0, by its series where that is exact to all digits."""
    inverse, few = 1 / y.clamp(min=SERIES), y.clamp(max=SERIES)
    square = inverse * inverse
    exact = torch.lgamma(few) - (few - 0.5) * few.log() + few - 0.5 * math.log(2 * math.pi)
    return torch.where(y < SERIES, exact, inverse * (1 / 12 - square * (1 / 360 - square / 1260)))


def _quantile(family: str, params: Tensor, *arguments: Tensor | float) -> Tensor:
    """The quantile function of SciPy's family, in float64."""
    from scipy import stats

    arrays = [a.detach().cpu().double().numpy() if isinstance(a, Tensor) else a for a in arguments]
    return torch.as_tensor(np.asarray(getattr(stats, family).ppf(*arrays))).to(params.device, params.dtype)
