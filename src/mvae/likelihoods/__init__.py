"""Likelihood families p(x | z) of a modality, which define the meaning of its decoder's output (Sec. 2, App. A).

A likelihood holds everything that is specific to its kind of data: how a stored column becomes numbers, which values
are possible, log p, the mean and samples. Shapes: ``x`` is ``rows event…``; the decoder's output ``params`` is
``… rows event…``, with a last axis of parameters if a value has several, and log p is ``… rows``, in nats.

**Your own likelihood** is a subclass of `Likelihood` with ``elementwise(params, x)`` (log p of each value; or
``log_prob``, already summed over the event), ``mean(params)`` and ``sample(params, generator)``. A line in
`LIKELIHOODS` gives it a name for declarations, and `mvae.testing.check_likelihood` checks it. This example is a
Gaussian with a scale per value; its decoder has a last axis of two parameters:

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

from collections.abc import Mapping

from mvae.errors import SettingsError
from mvae.likelihoods.base import Likelihood
from mvae.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from mvae.likelihoods.discrete import Bernoulli, Categorical
from mvae.likelihoods.ordinal import Ordinal
from mvae.likelihoods.real import Gaussian, Laplace, StudentT
from mvae.specs import from_spec

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "named",
]

#: The names that `named` and declarations accept.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "negative_binomial": NegativeBinomial,
    "ordinal": Ordinal,
    "poisson": Poisson,
    "student": StudentT,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial,
}


def named(spec: object) -> Likelihood:
    """Build a likelihood from a name, or from ``{name = NAME, …}`` with arguments; return an instance unchanged.

    Raises:
        SettingsError: an unknown name or argument, or an object that is not a `Likelihood`.

    >>> named("bernoulli"), named({"name": "gaussian", "scale": 0.5}).log_scale.exp()
    (Bernoulli(), tensor(0.5000))
    """
    if isinstance(spec, Likelihood):
        return spec
    if not isinstance(spec, str | Mapping):
        raise SettingsError(f"{spec!r} names no likelihood: give an instance of mvae.likelihoods.Likelihood, or a name")
    return from_spec(spec, LIKELIHOODS, "likelihood")
