"""A heat map of how well each modality predicts each other one."""

from collections.abc import Mapping, Sequence

import numpy as np

from mvae.report.charts import heat_map
from mvae.report.page import Grid, Section

__all__ = ["pairs_section"]


def pairs_section(values: Mapping[str, float], names: Sequence[str]) -> Section:
    """Gains in nats (`mvae.evaluation.coupling`) of all measured pairs, and the other instruments.

    Args:
        values: the result of `mvae.evaluation.validation.validate`.
        names: the modalities.
    """
    section = Section("Do the modalities meet?")
    gains = np.full((len(names), len(names)), np.nan)
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            gains[i, j] = values.get(f"gain {source}->{target}", np.nan)
    measured = [i for i in range(len(names)) if np.isfinite(gains[i]).any()]
    if measured:
        note = (
            "A cell at or below 0 means that the row's modality says nothing about the column's. An empty cell was not "
            "measured: fewer than 50 held-out rows have both, or there are more than 8 modalities."
        )
        title = "Gain in nats: how much a row's modality improves the prediction of a column's modality"
        section.shown.append(heat_map(title, [names[i] for i in measured], names, gains[measured], "nats", note))
    else:
        section.text.append("Fewer than 50 held-out rows have two modalities: whether one predicts another is unknown.")
    if "coupling" in values:
        share = values.get("coupling/share", 0.0)
        section.text.append(
            f"Coupling C = {values['coupling']:.2f} nats, {share:.0%} of what these codes could share. Codes that "
            "share much do not guarantee that one modality is predicted well from another."
        )
    rows = [[name, value] for name, value in values.items() if name.startswith(("accuracy ", "active units"))]
    if rows:
        section.shown.append(Grid(["measure, on held-out rows", ""], rows))
    return section
