"""Checks for extensions of the library: does your likelihood, modality or model keep the contract that others rely on?

A **likelihood** (`mvae.likelihoods.Likelihood`) takes the decoder's output as ``rows event…``, with a last axis if a
value has several parameters. ``log_prob(params, x)`` is one finite number per row, also with leading axes of samples.
``mean`` and ``sample`` have the shape of the data (for classes, ``mean`` has their probabilities as a last axis). The
same generator gives the same sample, and the gradient reaches the parameters. If it is ``discrete``, probabilities sum
to 1, and ``mode`` is the most probable value.

A **modality** (`mvae.modality.base.Modality` with an encoder and a decoder, or a subclass with its own
``expert_parameters``, ``assess`` and ``generate``) treats rows independently, takes one row as well as many, scores any
number of samples of z, generates values that are valid inputs, and passes gradients from log p to z, decoder and
encoder.

A **model** (`mvae.models.base.MultimodalVAE` with its own ``combine`` and ``terms``) plans terms only for the
modalities that a row has, has a finite objective whose gradient reaches every network that a term uses, treats rows
independently in its posteriors, and reads nothing from missing cells.

Call the checks in a test: they raise AssertionError, or the library's own DataError, with an explanation.

*A new kind of modality* defines, besides its networks, how a column is encoded, scored and sampled. In this example,
angles have a von Mises distribution around the decoder's output, and are encoded by their sine and cosine:

>>> class Angle(mvae.Modality):
...     def encoder_input(self, x):
...         return torch.cat([x.sin(), x.cos()], -1)
...     def assess(self, x, z, context=None):
...         place = self.decode(z, context).reshape(*z.shape[:-1], *x.shape[1:])
...         return torch.distributions.VonMises(place, torch.tensor(4.0)).log_prob(x).sum(-1), None
...     def generate(self, z, context=None, *, mean=False, generator=None):
...         place = self.decode(z, context).reshape(*z.shape[:-1], -1)
...         noise = torch.randn(place.shape, generator=generator, device=z.device)
...         return place if mean else place + 0.5 * noise  # nearly: a Gaussian of that width
>>> wind = Angle(nn.Linear(2, 2 * 3), nn.Linear(3, 1), "gaussian", standardise=False)
>>> check_modality(wind, torch.rand(6, 1), latent_dim=3)

*Encoders and decoders* can be any `torch.nn.Module`. An encoder maps ``rows event…`` to mean and log-variance,
concatenated or as a tuple; a decoder maps ``rows latents`` to the likelihood's parameters:

>>> class Encoder(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.mean, self.log_variance = nn.Linear(5, 3), nn.Linear(5, 3)
...     def forward(self, x):
...         return self.mean(x), self.log_variance(x)
>>> check_modality(mvae.Modality(Encoder(), nn.Linear(3, 5), "gaussian"), torch.randn(6, 5), latent_dim=3)

*A model* defines how experts are combined and which terms are learned:

>>> from mvae.gaussian import product
>>> from mvae.models.terms import full
>>> class JointOnly(MultimodalVAE):
...     def combine(self, experts, given):
...         return product(experts, given)
...     def terms(self, present, generator=None):
...         return full(present, self.names)
>>> parts = {name: mvae.Modality(nn.Linear(2, 6), nn.Linear(3, 2), "gaussian") for name in ("left", "right")}
>>> check_model(JointOnly(parts, latent_dim=3), {"left": torch.randn(9, 2), "right": torch.randn(9, 2)})

`mvae.likelihoods` has an example of a likelihood.
"""

import copy
import itertools

import torch
from torch import Tensor

from mvae.data.columns import Values, as_column, as_tensor
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.likelihoods import Likelihood
from mvae.modality.base import Modality
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.models.terms import Terms

__all__ = ["check_likelihood", "check_modality", "check_model"]

DRAWS = 4_000  # samples whose average is compared with the mean
ERRORS = 6  # largest allowed difference, in standard errors
CANDIDATES = 1_000  # whole numbers from 0 on, among which the discrete values are
OUTCOMES = 4_096  # largest number of outcomes that are enumerated
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # tolerances for float32 errors in a sum


def check_likelihood(likelihood: Likelihood, params: Tensor, x: Values) -> None:
    """Raise AssertionError if the likelihood does not keep its contract for these parameters and data.

    Args:
        likelihood: the likelihood to check.
        params: a decoder's output, one row for each row of ``x``; floating point.
        x: valid data ``rows event…``, as stored.

    >>> check_likelihood(mvae.likelihoods.Gaussian(), torch.randn(5, 3), torch.randn(5, 3))
    """
    name = type(likelihood).__name__
    _require(isinstance(likelihood, Likelihood), f"{likelihood!r} is not a mvae.likelihoods.Likelihood")
    x = as_tensor(as_column("x", x)[0])
    rows, event = x.shape[:1], x.shape[1:]
    x = likelihood.prepare(x, params.dtype)
    _shape(f"{name}.prepare(x)", x, (*rows, *event))
    params = likelihood.arrange(params.detach(), rows, event)
    _valid(f"{name}.invalid_values(x)", likelihood.invalid_values(x, params), x)
    found = likelihood.log_prob(params, x)
    _shape(f"{name}.log_prob(params, x)", found, rows)
    _require(bool(found.isfinite().all()), f"{name}.log_prob is not finite: {found.tolist()}")
    several = likelihood.log_prob(params.expand(2, 3, *params.shape), x)
    _shape(f"{name}.log_prob with leading axes 2 and 3", several, (2, 3, *rows))
    _close(f"{name}.log_prob with leading axes", several, found.expand(2, 3, *rows))
    _close(f"{name}.log_prob of the first row alone", likelihood.log_prob(params[:1], x[:1]), found[:1])
    _check_draws(likelihood, params, x)
    _check_gradients(likelihood, params, x)
    if likelihood.discrete:
        mode, at_mode = likelihood.mode_with_log_prob(params)
        _shape(f"{name}.mode(params)", mode, x.shape)
        _require(bool((at_mode >= found - 1e-4).all()), f"{name}.mode(params) is less probable than x")
        _check_normalised(likelihood, params[:1], event)


def check_modality(modality: Modality, x: Values, latent_dim: int) -> None:
    """Raise AssertionError if the modality does not keep its contract for this data; the modality is not changed.

    Args:
        modality: the modality to check, without a condition.
        x: valid data of at least two rows, ``rows event…``, as stored.
        latent_dim: the number of latents.

    Raises:
        DataError: the networks do not fit the data at all.

    >>> check_modality(mvae.Modality(nn.Linear(3, 2 * 4), nn.Linear(4, 3), "bernoulli"), torch.rand(5, 3), 4)
    """
    _require(isinstance(modality, Modality), f"{modality!r} is not a mvae.Modality")
    x = as_tensor(as_column("x", x)[0])
    _require(len(x) >= 2, "at least two rows are needed to check that rows are independent")
    modality = copy.deepcopy(modality)
    bad, possible = modality.check(x, latent_dim)
    _require(not bad.any(), f"row {bad.long().argmax()}: {possible} are needed")
    x = modality.prepare(x)
    with torch.random.fork_rng(devices=[]), evaluating(modality):
        torch.default_generator.manual_seed(0)
        z = torch.randn(3, len(x), latent_dim, device=x.device)
        with torch.no_grad():
            _check_encoder(modality, x, latent_dim)
            params = _check_decoder(modality, x, z)
            _check_generation(modality, x, z)
        _check_flow(modality, x, z)
        if params is not None:
            check_likelihood(modality.likelihood, params, x)
        alone = modality.train().encode(x[:1])
        _require(bool(alone.mean.isfinite().all()), "in training, the encoder's output for one row is not finite")


def check_model(model: MultimodalVAE, data: Data) -> None:
    """Raise AssertionError if the model does not keep its contract for these rows; the model is not changed.

    Args:
        model: the model to check.
        data: at least two complete rows; rows with missing modalities are made from them.

    Raises:
        DataError: the modalities do not fit the data.

    >>> model = mvae.MVAE({"x": mvae.Modality(nn.Linear(3, 2 * 4), nn.Linear(4, 3), "gaussian")}, latent_dim=4)
    >>> check_model(model, {"x": torch.randn(5, 3)})
    """
    _require(isinstance(model, MultimodalVAE), f"{model!r} is not a mvae.models.base.MultimodalVAE")
    model = copy.deepcopy(model)
    whole = model.as_table(data)
    _require(len(whole) >= 2, "at least two rows are needed to check that rows are independent")
    tables = [whole]
    if not model.needs_complete and len(model.names) > 1:
        lacks = torch.arange(len(whole)) % (len(model.names) + 1)  # each row is missing one modality, or none
        tables.append(Table(dict(whole.columns), {name: lacks != i for i, name in enumerate(model.names)}))
    with evaluating(model):
        for stage in model.stages:
            model.stage = stage
            for table in tables:
                _check_objective(model, table)
        _check_posteriors(model, whole)


def _check_objective(model: MultimodalVAE, table: Table) -> None:
    present = table.presence(model.names)
    terms = model.terms(present, torch.Generator().manual_seed(0))
    _require(isinstance(terms, Terms), f"terms(present) gives a {type(terms).__name__}, not a mvae.models.terms.Terms")
    for what, mask in (("given", terms.given), ("of", terms.of)):
        _require(not (mask & ~present).any(), f"terms(present).{what} names a modality that a row does not have")
    noise = torch.randn(len(terms.names), len(table), model.latent_dim, dtype=model.dtype, device=model.device)
    loss = model.batch_objective(table, terms, noise=noise).loss
    _require(loss.dim() == 0 and bool(loss.isfinite()), f"the loss is {loss.tolist()}; a finite number is needed")
    own = {name: column for name, column in table.take(slice(None)).columns.items() if isinstance(column, Tensor)}
    here = {name: table.has(name).reshape(-1, *[1] * (column.dim() - 1)) for name, column in own.items()}
    other = {name: torch.where(here[name], column, column.roll(1, 0)) for name, column in own.items()}
    again = model.batch_objective(Table(other, {name: table.has(name) for name in own}), terms, noise=noise).loss
    _close("the loss, with other values in missing cells", again, loss)
    model.zero_grad()
    loss.backward()
    trained = {id(parameter) for parameter in model.stage_parameters(model.stage)}
    for i, (name, modality) in enumerate(model.modalities.items()):
        used = {"encoder": terms.given_anywhere[..., i].any(), "decoder": terms.scored[..., i].any()}
        for part, network in (("encoder", modality.encoder), ("decoder", modality.decoder)):
            own = [p for p in network.parameters() if p.requires_grad and id(p) in trained]
            grads = [p.grad for p in own if p.grad is not None]
            needs = bool(used[part]) and bool(own)
            _require(not needs or any(bool(g.any()) for g in grads), f"no gradient of the loss reaches {name}'s {part}")
            _require(all(bool(g.isfinite().all()) for g in grads), f"a gradient of {name}'s {part} is not finite")


def _check_posteriors(model: MultimodalVAE, table: Table) -> None:
    """Check the posteriors given each modality alone, and given all of them if the model supports that."""
    for given in [[name] for name in model.names] + [list(model.names)]:
        try:
            q, alone = model.posterior(table, given), model.posterior(table[:1], given)
        except QueryError:
            continue  # the model says that it has no posterior for these
        what = f"posterior(data, {given})"
        for part in ("mean", "variance"):
            value = getattr(q, part)
            _shape(f"the {part} of {what}", value, (len(table), model.latent_dim))
            _require(bool(value.isfinite().all()), f"the {part} of {what} is not finite")
            _close(f"the {part} of {what} of the first row alone", getattr(alone, part), value[:1])


def _check_encoder(modality: Modality, x: Tensor, latent_dim: int) -> None:
    expert = modality.encode(x)
    for what, value in (("mean", expert.mean), ("precision", expert.precision)):
        _shape(f"the {what} of encode(x)", value, (len(x), latent_dim))
        _require(bool(value.isfinite().all()), f"the {what} of encode(x) is not finite")
        _close(f"encode of the first row alone: {what}", getattr(modality.encode(x[:1]), what), value[:1])


def _check_decoder(modality: Modality, x: Tensor, z: Tensor) -> Tensor | None:
    found = modality.log_prob(x, z)
    _shape("log_prob(x, z)", found, z.shape[:2])
    _require(bool(found.isfinite().all()), "log_prob(x, z) is not finite")
    _close("log_prob of the first sample alone", modality.log_prob(x, z[0]), found[0])
    _close("log_prob of the first row alone", modality.log_prob(x[:1], z[:, :1]), found[:, :1])
    assessed, params = modality.assess(x, z[0])
    _close("assess(x, z)", assessed, found[0])
    for suffix, (right, count) in modality.correct(x, z[0]).items():
        _shape(f"correct(x, z)[{suffix!r}], right", right, (len(x),))
        _shape(f"correct(x, z)[{suffix!r}], count", count, (len(x),))
        _require(bool(((right >= 0) & (right <= count)).all()), f"correct(x, z)[{suffix!r}]: right is not 0 … count")
    return params


def _check_generation(modality: Modality, x: Tensor, z: Tensor) -> None:
    one, same = (modality.generate(z, generator=torch.Generator(z.device).manual_seed(0)) for _ in range(2))
    _require(one.shape[:2] == z.shape[:2], f"generate(z) has shape {tuple(one.shape)}; it must begin with 3, {len(x)}")
    _require(torch.equal(one, same), "generate(z) differs for the same generator: draw from the one that is given")
    flat = one.flatten(0, 1)
    if modality.fixed_shapes:
        size = x.shape[1:].numel()
        _require(flat[0].numel() == size, f"generate(z) gives {flat[0].numel()} values per row; the data has {size}")
        flat = flat.reshape(-1, *x.shape[1:])
    flat = modality.prepare(flat)
    _valid("generate(z)", modality.invalid_values(flat, z.shape[-1]), flat)
    _require(len(modality.generate(z, mean=True)) == len(z), "generate(z, mean=True) lost the leading axes")


def _check_flow(modality: Modality, x: Tensor, z: Tensor) -> None:
    z = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(modality.log_prob(x, z).sum(), z, allow_unused=True)
    _require(grad is not None and bool(grad.any()), "log_prob(x, z) does not depend on z: no gradient reaches it")
    modality.zero_grad()
    expert = modality.encode(x)
    modality.log_prob(x, expert.mean + expert.variance.sqrt() * z[0].detach()).sum().backward()
    for part, network in (("encoder", modality.encoder), ("decoder", modality.decoder)):
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        if any(p.requires_grad for p in network.parameters()):
            _require(any(bool(g.any()) for g in grads), f"no gradient of log_prob reaches the {part}'s parameters")
        _require(all(bool(g.isfinite().all()) for g in grads), f"a gradient of the {part}'s parameters is not finite")


@torch.no_grad()
def _check_draws(likelihood: Likelihood, params: Tensor, x: Tensor) -> None:
    name, classes = type(likelihood).__name__, params.shape[x.dim() :] if likelihood.discrete else torch.Size()
    mean = likelihood.mean(params)
    _shape(f"{name}.mean(params)", mean, (*x.shape, *classes))
    one, same = (likelihood.sample(params, torch.Generator(params.device).manual_seed(0)) for _ in range(2))
    _shape(f"{name}.sample(params, generator)", one, x.shape)
    _require(torch.equal(one, same), f"{name}.sample differs for the same generator: draw from the one that is given")
    _valid(f"{name}.sample(params, generator)", likelihood.invalid_values(one, params), one)
    scored = likelihood.log_prob(params, one)
    _require(bool(scored.isfinite().all()), f"{name}.log_prob of its own sample is not finite")
    if classes:
        return
    many = params.expand(DRAWS, *params.shape)
    draws = likelihood.sample(many, torch.Generator(params.device).manual_seed(1)).double()
    error = draws.std(0) / DRAWS**0.5 + 1e-6
    far = (draws.mean(0) - mean).abs() / error
    worst = float(far.max())
    _require(worst < ERRORS, f"{name}: the average of samples differs from mean ({worst:.0f} standard errors)")


def _check_gradients(likelihood: Likelihood, params: Tensor, x: Tensor) -> None:
    params = params.clone().requires_grad_()
    (grad,) = torch.autograd.grad(likelihood.log_prob(params, x).sum(), params, allow_unused=True)
    name = type(likelihood).__name__
    _require(grad is not None and bool(grad.any()), f"{name}: no gradient of log_prob reaches the parameters")
    _require(grad is not None and bool(grad.isfinite().all()), f"{name}: the gradient of log_prob is not finite")


def _check_normalised(likelihood: Likelihood, params: Tensor, event: torch.Size) -> None:
    """Check that one row's probabilities sum to 1: over all outcomes, or over each value's if these are too many."""
    name = type(likelihood).__name__
    numbers = likelihood.stored(torch.arange(CANDIDATES, device=params.device))
    every = likelihood.prepare(numbers.reshape(-1, *[1] * len(event)).expand(-1, *event).contiguous(), params.dtype)
    wrong, _ = likelihood.invalid_values(every, params)
    values = every[~wrong.reshape(CANDIDATES, -1).any(1)]
    if len(values) ** event.numel() <= OUTCOMES:
        single = values.reshape(len(values), -1)[:, 0].tolist()
        rows = torch.tensor(list(itertools.product(single, repeat=event.numel())), device=params.device)
        x = rows.reshape(-1, *event).to(values.dtype)
        total = likelihood.log_prob(params.expand(len(x), *params.shape[1:]), x).logsumexp(0)
    else:
        x = values
        total = likelihood.elementwise(params.expand(len(x), *params.shape[1:]), x).logsumexp(0)
    _close(f"{name}: the log of the sum of all probabilities", total, torch.zeros_like(total))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _shape(what: str, value: object, shape: tuple[int, ...]) -> None:
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    _require(found == tuple(shape), f"{what} has shape {found}; {tuple(shape)} is needed")


def _valid(what: str, found: tuple[Tensor, str], x: Tensor) -> None:
    wrong, possible = found
    fits = wrong.dtype == torch.bool and wrong.shape == x.shape
    _require(fits, f"{what}: invalid_values must be a mask of x's shape")
    _require(not wrong.any(), f"{what}: {possible} are needed, not {x[wrong][:1].tolist()}")


def _close(what: str, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        found, expected, rtol=RELATIVE, atol=ABSOLUTE, check_dtype=False, msg=lambda text: f"{what}: {text}"
    )
