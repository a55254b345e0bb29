"""The measurements of one model of PolyMNIST."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.coherence import ImageClassifier
from mvae.evaluation.frechet import frechet_to_data
from mvae.evaluation.likelihood import log_likelihoods
from mvae.evaluation.representation import linear_accuracy_by_number
from mvae.evaluation.subsets import coherence_by_number, unconditional_coherence
from mvae.models.base import MultimodalVAE
from mvae.models.fitting import fit_prior
from mvae.runs.run import Run

LABEL = "label"
COMPONENTS = 20  # of the fitted prior, at most: two for each digit
FITTED, FLOW = ", fitted prior", ", flow prior"  # suffixes of metrics' names; N(0, I) has none
LARGEST = "largest class of unconditional coherence"


@dataclass(frozen=True)
class Spend:
    """How much is measured.

    Args:
        test_rows: test rows that are conditioned on; the same number is drawn from the prior.
        scored_rows: test rows whose likelihood is estimated.
        samples: importance samples per row.
        validation_rows: validation rows of the curve.
        fitted_rows: training rows that the priors are fitted to.
        linear_rows: training rows that the linear classifiers are fitted to.
        classifier_rows: training rows of the image classifiers.
        classifier_epochs: training epochs of these; None: the classifier's default.
        curve: the steps at which coherence is measured.
        flow_epochs: training epochs of the flow prior.
    """

    test_rows: int
    scored_rows: int
    samples: int
    validation_rows: int
    fitted_rows: int
    linear_rows: int
    classifier_rows: int
    classifier_epochs: int | None
    curve: tuple[int, ...]
    flow_epochs: int


@dataclass(frozen=True)
class Measure:
    """A measured number, its number of rows, and how it was measured."""

    metric: str
    value: float
    rows: int
    stderr: float | None = None
    how: Mapping[str, Any] = field(default_factory=dict)


def measures(run: Run, complete: Table, classifiers: dict[str, ImageClassifier], spend: Spend) -> Iterator[Measure]:
    """Coherence, linear accuracy and distances; unconditional coherence, log p and distances with each prior."""
    model, test = run.model, run.data.test.first(spend.test_rows)
    label, numbers = labels(test), answered(model)
    found = coherence_by_number(model, classifiers, test, label, numbers=numbers)
    for n, value in found.by_number.items():
        yield Measure(f"coherence given {n}", value, len(test))
    everything = [*numbers, len(model.names)]
    some = complete.first(spend.linear_rows)
    linear = linear_accuracy_by_number(model, (some, labels(some)), (test, label), numbers=everything)
    for n, value in linear.items():
        yield Measure(f"linear accuracy given {n}", value, len(test), how={"fitted_rows": len(some)})
    yield Measure("Fréchet distance given 1", _distance_given_one(model, classifiers, test), len(test), how=_FEATURES)
    yield from of_priors(run, classifiers, spend)


def of_priors(run: Run, classifiers: dict[str, ImageClassifier], spend: Spend) -> Iterator[Measure]:
    """The measures that depend on the prior: N(0, I), or a mixture of Gaussians or a flow fitted to the posteriors."""
    model, test = run.model, run.data.test.first(spend.test_rows)
    fitted = run.data.train.first(spend.fitted_rows)
    components = max(1, min(COMPONENTS, len(fitted) // (2 * model.latent_dim)))  # a full covariance each
    hows: dict[str, dict[str, Any]] = {
        "": {},
        FITTED: {"prior": "mixture", "components": components, "fitted_rows": len(fitted)},
        FLOW: {"prior": "flow", "prior_epochs": spend.flow_epochs, "fitted_rows": len(fitted)},
    }
    for suffix, how in hows.items():
        model.prior = None
        if how:
            model.prior = fit_prior(model, fitted, how["prior"], components=components, epochs=spend.flow_epochs)
        agreed = unconditional_coherence(model, classifiers, spend.test_rows)
        yield Measure(f"unconditional coherence{suffix}", agreed.share, spend.test_rows, how=how)
        if agreed.share:
            yield Measure(f"{LARGEST}{suffix}", agreed.largest, round(agreed.share * spend.test_rows), how=how)
        distances = [frechet_to_data(model, _features(classifiers[name]), test, name) for name in model.names]
        distance = sum(distances) / len(distances)
        yield Measure(f"Fréchet distance{suffix}", distance, len(test), how=how | _FEATURES)
        yield from _likelihoods(model, test.first(spend.scored_rows), spend.samples, suffix, how)
    model.prior = None


def _likelihoods(
    model: MultimodalVAE, table: Table, samples: int, suffix: str, how: Mapping[str, Any]
) -> Iterator[Measure]:
    """log p of all modalities; with N(0, I), also of the first given the others (a difference of two bounds)."""
    first, *others = model.names
    queries: dict[str, tuple[Sequence[str], Sequence[str]]] = {"log p(x)": (model.names, [])}
    if model.prior is None and len(others) in answered(model):
        queries[f"log p({first}|rest)"] = ([first], others)
    for metric, value in log_likelihoods(model, table, queries, samples=samples).items():
        quality = {"effective_samples": round(float(value.effective_samples.mean()), 1), "samples": samples}
        yield Measure(f"{metric}{suffix}", value.mean, len(table), value.standard_error, {**how, **quality})


_FEATURES = {"features": "the hidden layer of the modality's classifier"}


def _distance_given_one(model: MultimodalVAE, classifiers: Mapping[str, ImageClassifier], table: Table) -> float:
    """The mean distance over modalities, each generated from the one before it."""
    names, distances = model.names, []
    for given, of in zip(names, (*names[1:], names[0]), strict=True):
        distances.append(frechet_to_data(model, _features(classifiers[of]), table, of, [given]))
    return sum(distances) / len(distances)


def _features(classifier: ImageClassifier) -> Callable[[Tensor], Tensor]:
    """A function that returns the 128 values of the classifier's hidden layer."""
    return lambda images: classifier.head[:3](classifier.features(images))


def answered(model: MultimodalVAE) -> Sequence[int]:
    """The numbers of given modalities, fewer than all, for which the model has a posterior."""
    names, found = model.names, []
    x = {name: torch.zeros(1, 3, 28, 28) for name in names}
    for n in range(1, len(names)):
        try:
            model.posterior({name: x[name] for name in names[:n]})
        except QueryError:
            continue
        found.append(n)
    return found


def labels(table: Table) -> Tensor:
    """The digit of every row."""
    return table.select_rows(LABEL, torch.arange(len(table)))
