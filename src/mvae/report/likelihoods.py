"""Log-likelihoods with their standard errors and diagnostics, and a sentence on whether to trust them."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mvae.evaluation.likelihood import LogLikelihood
from mvae.report.page import Grid, Section

__all__ = ["RELIABLE", "by_modality", "likelihood_section", "trust"]

RELIABLE = 0.7  # k̂ above which an importance-sampling estimate is unreliable (Vehtari et al. 2024)
FEW = 10  # with fewer effective samples, care is needed


def trust(value: LogLikelihood) -> str:
    """A verdict on an estimate, by the tail index k̂ and the effective samples of its rows."""
    k = value.pareto_k[~value.pareto_k.isnan()]
    if not len(k):
        return "Too few importance samples to tell: draw more than 20."
    bad, ess = float((k > RELIABLE).double().mean()), float(value.effective_samples.median())
    if bad > 0.5:
        return (
            f"Do not trust: {bad:.0%} of rows have k̂ above {RELIABLE}, so it is biased (low, unless it is a "
            "conditional). Take more samples or another proposal."
        )
    if bad > 0.05 or ess < FEW:
        return (
            f"With care: {bad:.0%} of rows have k̂ above {RELIABLE}, and the median row has {ess:.0f} effective samples."
        )
    return (
        f"Trustworthy: {1 - bad:.0%} of rows have k̂ below {RELIABLE}, and the median row {ess:.0f} effective samples."
    )


def by_modality(likelihoods: Mapping[str, LogLikelihood], names: Sequence[str]) -> dict[str, LogLikelihood]:
    """Estimates by name, with the modalities' names in place of x1 and x2; x1 is the first of ``names``.

    >>> value = LogLikelihood(torch.arange(1), *[torch.zeros(1)] * 4)
    >>> list(by_modality({"log p(x1|x2)": value}, ["image", "label"]))
    ['log p(image | label)']
    """
    first, *others = names
    meaning = {
        "log p(x1)": f"log p({first})",
        "log p(x1,x2)": f"log p({', '.join(names)})",
        "log p(x1|x2)": f"log p({first} | {', '.join(others)})",
    }
    return {meaning.get(name, name): value for name, value in likelihoods.items()}


def likelihood_section(
    likelihoods: Mapping[str, LogLikelihood], names: Sequence[str], samples: int, rows: int, source: str
) -> Section:
    """The section with the table of estimates; x1 is the first of the modalities ``names``."""
    grid = Grid(
        ["nats per example", "mean", "± s.e.", "ESS", "k̂", "May it be trusted?"],
        [
            [name, v.mean, v.standard_error, _median(v.effective_samples), _median(v.pareto_k), trust(v)]
            for name, v in by_modality(likelihoods, names).items()
        ],
    )
    text = [
        f"By importance sampling: {rows} test rows, {samples} samples of {source}. ESS "
        "(effective samples) and k̂ are medians over rows. Higher log p is better; compare only on the same rows and "
        "units."
    ]
    return Section("Log-likelihoods", text, [grid])


def _median(values: Tensor) -> float:
    return float(values.nanmedian())
