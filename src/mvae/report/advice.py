"""What is wrong with a trained model, and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

from mvae.evaluation.coupling_warnings import coupling_warning
from mvae.evaluation.likelihood import LogLikelihood
from mvae.report.likelihoods import RELIABLE

__all__ = ["advice", "course_advice"]

IMPROVING = 0.002  # a run has not converged if its objective falls by more than this share in its last fifth


def advice(
    measured: Mapping[str, float],
    names: Sequence[str],
    likelihoods: Mapping[str, LogLikelihood],
    cross_from: Sequence[str] | None,
) -> list[str]:
    """Advice on dead experts, uncoupled modalities and unreliable estimates.

    Args:
        measured: the result of `mvae.evaluation.validation.validate`.
        names: the modalities.
        likelihoods: likelihoods by name.
        cross_from: as for `coupling_warning`.
    """
    found = []
    if (warning := coupling_warning(measured, names, cross_from)) is not None:
        found.append(f"{warning[0].upper()}{warning[1:]}.")
    for name, value in likelihoods.items():
        if float((value.pareto_k > RELIABLE).double().mean()) > 0.5:
            found.append(
                f"{name} is estimated badly (k̂ above {RELIABLE} in most rows): try more --samples or another "
                "--proposal with mvae evaluate, or train longer."
            )
    return found


def course_advice(rows: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[str]:
    """Advice on training that was too short or overfits, from the validation objective of each epoch.

    >>> falling = [{"epoch": i, "beta": 1.0, "validation/objective": 100.0 - i} for i in range(1, 51)]
    >>> course_advice(falling, 50)
    ['The validation objective was still falling at the end: train longer (training.epochs).']
    """
    curve = [
        (row["epoch"], row["validation/objective"])
        for row in rows
        if row.get("validation/objective") is not None and row.get("beta", 1.0) >= 1
    ]
    if len(curve) < 5:
        return []
    tail = curve[-max(2, len(curve) // 5) :]
    if tail[0][1] - tail[-1][1] > IMPROVING * abs(tail[-1][1]) and tail[-1][1] == min(value for _, value in curve):
        return ["The validation objective was still falling at the end: train longer (training.epochs)."]
    if best_epoch is not None and best_epoch < 0.6 * curve[-1][0]:
        return [
            f"The best epoch was {best_epoch} of {curve[-1][0]:.0f}; afterwards the model overfits. Its best weights "
            "are kept. Fewer epochs save time; smaller networks or augmentation may give a better model."
        ]
    return []
