"""Are the modalities coupled? How well they predict each other, and which experts are dead or saturated.

Modalities can be learned side by side without sharing latents: each keeps its code in latent directions of its own,
every ELBO looks healthy, and the label cannot be predicted from the image. Two instruments reveal this.

*Does A predict B?* The predictive density of B given A decodes samples of q(z | A): half of its weight is at the mean,
half is spread evenly over `SAMPLES` samples. It is scored by log p on the rows that have both, and compared with the
same density from the prior, where nothing is given, and with the best constant parameters of B's likelihood.
``gain A->B`` is its advantage in nats over the better of these two, with the standard error of the paired difference.
All three are proper densities of B, so that an exact model gains on average unless A and B are independent.

*Coupling* C = Σ_i KL(q(z|x_i) ‖ p(z)) − KL(q(z|X) ‖ p(z)), in nats, over complete rows. With codes in separate
directions, the KLs add up and C = 0; if one modality's code is contained in the others', C is that code's KL; for an
exact model, its mean is the mutual information. ``coupling/share`` divides C by its largest possible value,
Σ KL(single) − max KL(single). It is not a verdict: related modalities need not share all of their information.

An expert is *dead* if its posterior is the prior: ``dead/A`` is its KL in nats on all rows that have A, and is left out
if it is above `DEAD_KL`. It is *saturated* if its precision is at the bound e^20
(`mvae.gaussian`): it claims to know a latent to 10⁻⁴ standard deviations, which no data supports. ``saturated/A`` is
the saturated share of A's rows × latents; it is left out if it is zero.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.data.table import Table
from mvae.evaluation.means import Means
from mvae.gaussian import MAX_LOG_VARIANCE, Gaussian
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.terms import full, singles, term_name

__all__ = ["ACTIVE_VARIANCE", "DEAD_KL", "Instruments"]

ACTIVE_VARIANCE = 0.01  # a latent is active where the posterior mean varies more than this over rows (Burda et al.)
MANY = 8  # with more modalities, only the first one's predictions of the others are measured
BOUND_MARGIN = 0.01  # a log-precision this near to its bound counts as at it
DEAD_KL = 0.05  # nats; an expert with a smaller KL is dead
SAMPLES = 16  # samples of a predictive density, besides the mean
SCORED = 500  # rows at most on which the predictions of one modality from another are scored
LEAST = 50  # rows; fewer are too few for a mean and its standard error
VALUES = 2_500_000  # values of decoded events at once
FIT_STEPS = 50  # at most, of the search for the best constant

_Constant = tuple[Tensor, Float[Tensor, "rows"] | None]
"""Rows of a modality, and their log p under the best constant parameters."""


class Instruments:
    """Measurements besides the objective, over the batches of a pass; the model is in evaluation mode.

    Each instrument uses the rows with the modalities in question: those with A and B for how well A predicts B, those
    with A for A's active units, and complete rows for the coupling C.
    """

    def __init__(self, model: MultimodalVAE):
        self.model = model
        self.means, self.moments, self.kl, self.alone, self.saturated = (Means() for _ in range(5))
        self._full = term_name("full", model.names)
        self._generator = torch.Generator(model.device).manual_seed(1)
        # M² decodes would soon cost more than the training between two validations.
        sources = model.names if len(model.names) <= MANY else model.names[:1]
        self._pairs = [(a, b) for a in sources for b in model.names if a != b]
        answered = [(a, b) for a, b in self._pairs if model.can_answer([b], [a])]
        self._gains = {(a, b): _Gain(b, model, self._generator) for a, b in answered}

    def add(self, batch: Table, x: Mapping[str, Tensor]) -> None:
        """Add a batch and its prepared columns."""
        model, names = self.model, self.model.names
        present = batch.presence(names)
        q, rows = model.posteriors(x, singles(present, names)), len(batch)
        present = present.expand(rows, -1)
        complete, kl = present.all(1), q.kl_to_prior()
        for i, name in enumerate(names):
            self._add_moments(name, q.mean[i], present[:, i])
            if present[:, i].any():
                row = _rows(present[:, i], kl.device)
                self._add(self.alone, f"dead/{name}", kl[i][row])
                at_bound = q.precision[i][row].log() > MAX_LOG_VARIANCE - BOUND_MARGIN
                self._add(self.saturated, f"saturated/{name}", at_bound.double().mean(1))
            if complete.any():
                self._add(self.kl, name, kl[i][_rows(complete, kl.device)])
        if complete.any() and model.joint_posterior:
            row = _rows(complete, model.device)
            joint = model.posteriors({n: c[row] for n, c in x.items()}, full(torch.ones(1, len(names)).bool(), names))
            self._add(self.kl, self._full, joint.kl_to_prior()[0])
            self._add_moments(self._full, joint.mean[0], torch.ones(joint.mean.shape[1], dtype=torch.bool))
        context = model.context(x)
        for source, target in self._pairs:
            i = names.index(source)
            both = present[:, i] & present[:, names.index(target)]
            if both.any():
                row = _rows(both, model.device)
                here = None if context is None else context[row]
                self._add_pair((source, target), x[target][row], q[i][row], here)

    def _add_pair(self, pair: tuple[str, str], x: Tensor, q: Gaussian, context: Tensor | None) -> None:
        source, target = pair
        modality, rows = self.model.modalities[target], len(x)
        log_prob, params = modality.assess(x, q.mean, context)
        self.means.add(f"log p {source}->{target}", log_prob.sum(), rows)
        for suffix, (right, count) in modality.correct(x, q.mean, context, params).items():
            self.means.add(f"accuracy {source}->{target}{suffix}", right.sum(), count.sum())
        if pair in self._gains:
            self._gains[pair].add(x, q, context)

    def _add_moments(self, name: str, mean: Float[Tensor, "rows latent"], has: Bool[Tensor, "rows"]) -> None:
        mean = mean[_rows(has, mean.device)].double()
        self.moments.add(f"{name} mean", mean.sum(0), int(has.sum()))
        self.moments.add(f"{name} square", mean.square().sum(0), int(has.sum()))

    @staticmethod
    def _add(means: Means, name: str, values: Float[Tensor, "rows"]) -> None:
        means.add(name, values.sum(), len(values))

    def values(self) -> dict[str, float]:
        """Everything measured, by the names that `validate` documents."""
        names = self.model.names
        result = self.means.values()
        result |= {name: share for name, share in self.saturated.values().items() if share > 0}
        result |= {name: kl for name, kl in self.alone.values().items() if kl < DEAD_KL}
        constants: dict[str, _Constant] = {}
        for (source, target), gain in self._gains.items():
            result |= gain.values(f"{source}->{target}", constants)
        kl = self.kl.values() if len(names) > 1 else {}
        for name in (self._full, *names):
            if f"{name} mean" in self.moments:
                mean, square = self.moments[f"{name} mean"], self.moments[f"{name} square"]
                if name == self._full or not mean.isnan().any():
                    label = "active units" if name == self._full else f"active units/{name}"
                    result[label] = float(((square - mean.square()) > ACTIVE_VARIANCE).sum())
        if self._full in kl:
            alone = [kl[name] for name in names]
            c, most = sum(alone) - kl[self._full], sum(alone) - max(alone)
            result |= {"coupling": c, "coupling/share": min(max(c / most, 0.0), 1.0) if most > DEAD_KL else 0.0}
        return result | {f"kl complete/{name}": kl[name] for name in (self._full, *names) if name in kl}


class _Gain:
    """How well one modality's posterior predicts another modality, compared with predicting it from nothing."""

    def __init__(self, of: str, model: MultimodalVAE, generator: torch.Generator):
        self.of, self.modality, self.generator = of, model.modalities[of], generator
        self.parts: list[tuple[Tensor, Gaussian, Tensor | None]] = []
        self.rows = 0

    def add(self, x: Tensor, q: Gaussian, context: Tensor | None) -> None:
        """Add rows that have both; the first `SCORED` of them are used, in `values`, if they are enough."""
        some = slice(min(len(x), SCORED - self.rows))
        if some.stop > 0:
            self.parts.append((x[some], q[some], None if context is None else context[some]))
            self.rows += some.stop

    def _log_densities(
        self, x: Tensor, q: Gaussian, context: Tensor | None
    ) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """The log predictive density of each row, and the same from the prior."""
        at_once = max(1, VALUES // ((1 + SAMPLES) * max(1, math.prod(x.shape[1:]))))
        given, nothing = [], []
        for rows in torch.arange(len(x), device=x.device).split(at_once):
            here = None if context is None else context[rows]
            prior = Gaussian.standard(len(rows), q.mean.shape[-1], device=x.device, dtype=q.mean.dtype)
            given.append(self._log_density(x[rows], q[rows], here))
            nothing.append(self._log_density(x[rows], prior, here))
        return torch.cat(given), torch.cat(nothing)

    def _log_density(self, x: Tensor, q: Gaussian, context: Tensor | None) -> Float[Tensor, "rows"]:
        shape = SAMPLES, *q.mean.shape
        noise = torch.randn(shape, generator=self.generator, device=q.mean.device, dtype=q.mean.dtype)
        log_p = self.modality.log_prob(x, torch.cat([q.mean[None], q.rsample(noise)]), context).double()
        spread = log_p[1:].logsumexp(0) - math.log(SAMPLES)
        return torch.logaddexp(log_p[0], spread) - math.log(2)

    def values(self, pair: str, constants: dict[str, _Constant]) -> dict[str, float]:
        """Mean log p of the predictive density, its gain in nats, and the gain's standard error.

        ``constants`` is kept for the next pair: most pairs with the same target have the same rows.
        """
        if self.rows < LEAST:
            return {}
        densities = [self._log_densities(*part) for part in self.parts]
        given, base = (torch.cat(own) for own in zip(*densities, strict=True))
        rows = torch.cat([part[0] for part in self.parts])
        if self.of not in constants or not _equal(constants[self.of][0], rows):
            x, q, context = self.parts[0]
            start = self.modality.assess(x[:1], torch.zeros_like(q.mean[:1]), None if context is None else context[:1])
            constants[self.of] = rows, _constant_log_prob(self.modality, rows, start[1])
        constant = constants[self.of][1]
        if constant is not None and constant.mean() > base.mean():
            base = constant
        gain = given - base
        numbers = torch.stack([given.mean(), gain.mean(), gain.std() / math.sqrt(self.rows)]).tolist()
        return dict(zip((f"log predictive {pair}", f"gain {pair}", f"gain {pair} s.e."), numbers, strict=True))


def _constant_log_prob(modality: Modality, x: Tensor, params: Tensor | None) -> Float[Tensor, "rows"] | None:
    """log p under the constant parameters that fit these rows best; None if the likelihood has no parameters.

    A fit to the rows themselves is too good by 1/rows nats per parameter (Akaike 1974), which are subtracted.
    ``params`` are any parameters of one row, from which the search starts.
    """
    if params is None:
        return None
    best = params.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([best], max_iter=FIT_STEPS, line_search_fn="strong_wolfe")

    def log_prob() -> Tensor:
        return modality.score(best.expand(len(x), *best.shape[1:]), x)

    def loss() -> Tensor:
        value = -log_prob().mean()
        (best.grad,) = torch.autograd.grad(value, best)  # not backward(), which would leave gradients in the model
        return value

    with torch.enable_grad():
        search.step(loss)  # pyright: ignore[reportArgumentType]
    found = log_prob().detach().double() - best.numel() / len(x)
    return found if found.isfinite().all() else None


def _equal(a: Tensor, b: Tensor) -> bool:
    """Are all values equal, and missing ones in the same places?"""
    return a.shape == b.shape and bool(a.isclose(b, rtol=0, atol=0, equal_nan=True).all())


def _rows(has: Bool[Tensor, "rows"], device: torch.device) -> Tensor | slice:
    """The rows of a mask, for indexing; all of them without a copy."""
    return slice(None) if has.all() else has.nonzero().flatten().to(device)
