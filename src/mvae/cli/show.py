"""An evaluation as a table in a terminal."""

from rich.console import Console
from rich.table import Table

from mvae.runs.run import Evaluation, Run

__all__ = ["show_evaluation"]


def show_evaluation(run: Run, evaluation: Evaluation) -> None:
    """The table of likelihoods and the instruments."""
    from mvae.paper.settings import written_weights  # runs draw on reports

    table = Table(
        title=f"{evaluation.rows} test rows, {evaluation.samples} samples of q(z | {', '.join(evaluation.proposal)})",
        title_justify="left",
    )
    for heading in ("nats a row", "mean", "± s.e.", "var log w", "ESS", "k̂"):
        table.add_column(heading, justify="left" if heading == "nats a row" else "right")
    for name, value in evaluation.likelihoods.items():
        numbers = (value.mean, value.standard_error, value.variance)
        ess, k = float(value.effective_samples.mean()), float(value.pareto_k.mean())
        table.add_row(name, *(f"{number:.3f}" for number in numbers), f"{ess:.0f}", f"{k:.2f}")
    console = Console(highlight=False)
    console.print(table)
    first, *others = run.model.names
    console.print(f"x1 = {first}" + (f", x2 = {' and '.join(others)}" if others else ""))
    console.print(f"λ: {written_weights(run.model)}")
    if (gap := evaluation.label_gap()) is not None:
        hint = "  (log 1/10 = −2.30 for ten equal labels)" if others == ["label"] else ""
        console.print(f"check: log p(x1,x2) − log p(x1|x2) = {gap:.2f}{hint}")
    for name, value in evaluation.instruments.items():
        if name.startswith(("accuracy", "coupling", "active units")):
            console.print(f"{name:28} {value:.3f}")
