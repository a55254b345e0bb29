"""Comparison of several runs: how their settings differ, how they learned, and how good they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvae.errors import DataError, MvaeError, SettingsError
from mvae.evaluation.likelihood import LogLikelihood
from mvae.report.charts import lines
from mvae.report.history import cut_note, metric_points
from mvae.report.likelihoods import trust
from mvae.report.page import Grid, Page, Section, write_page
from mvae.runs.config import flattened
from mvae.runs.evaluation import evaluate, part_of
from mvae.runs.report import SCORING, Scoring
from mvae.runs.run import open_run, read_run
from mvae.training.checkpoint import best_weights, read_metrics

__all__ = ["Compared", "compare", "comparison_page", "differing"]

Progress = Callable[[float], object]


@dataclass(frozen=True)
class Compared:
    """One of the compared runs."""

    name: str
    settings: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    best_epoch: int | None
    likelihoods: Mapping[str, LogLikelihood]
    instruments: Mapping[str, float]
    problem: str = ""
    names: Sequence[str] = ()

    @property
    def objective(self) -> float | None:
        """The validation objective of the best epoch."""
        chosen = [row for row in self.epochs if row["epoch"] == self.best_epoch] or list(self.epochs[-1:])
        return chosen[0].get("validation/objective") if chosen else None


def compare(
    run_dirs: Sequence[str | Path],
    *,
    scoring: Scoring = SCORING,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Compared]:
    """Measure several runs on their first test rows; where a run's data is gone, its learning curves remain.

    Raises:
        RunError: one of them is not a run, or has no checkpoint.
    """
    found = []
    for number, run_dir in enumerate(map(Path, run_dirs)):
        config, _ = read_run(run_dir)
        best_epoch, problem = best_weights(run_dir)[1].best_epoch, ""
        likelihoods, instruments, names = {}, {}, ()
        try:
            run = open_run(run_dir, data_dir=data_dir, device=device)
            result = evaluate(
                run,
                rows=scoring.rows,
                samples=scoring.samples,
                seed=scoring.seed,
                progress=part_of(progress, number, len(run_dirs)),
            )
            likelihoods, instruments, names = result.likelihoods, result.instruments, run.model.names
        except (DataError, SettingsError) as error:
            problem = f"its data is gone ({error})"
        except MvaeError as error:
            problem = str(error)
        settings = flattened(config.to_dict())
        found.append(
            Compared(
                str(run_dir), settings, read_metrics(run_dir), best_epoch, likelihoods, instruments, problem, names
            )
        )
    return found


def differing(runs: Sequence[Compared]) -> Grid:
    """The settings in which runs differ, one per row."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    rows = [
        [key, *(_plain(run.settings.get(key)) for run in runs)]
        for key in keys
        if len({repr(run.settings.get(key)) for run in runs}) > 1 and not key.startswith(("variants", "models"))
    ]
    return Grid(["setting", *(run.name for run in runs)], rows)


def numbers(runs: Sequence[Compared]) -> Grid:
    """What was measured, one measurement per row; a dash where a run has no value."""
    rows: list[list[Any]] = [
        ["x1, x2 …", *(", ".join(run.names) or None for run in runs)],
        ["best epoch", *(run.best_epoch for run in runs)],
        ["validation objective (lower is better)", *(run.objective for run in runs)],
    ]
    for name in dict.fromkeys(name for run in runs for name in run.likelihoods):
        values = [run.likelihoods.get(name) for run in runs]
        rows.append([name, *(None if v is None else f"{v.mean:.2f} ± {v.standard_error:.2f}" for v in values)])
        rows.append([f"{name}: trust", *(None if v is None else trust(v).split(":")[0] for v in values)])
    kept = ("accuracy ", "coupling", "active units")
    for name in dict.fromkeys(name for run in runs for name in run.instruments if name.startswith(kept)):
        rows.append([name, *(run.instruments.get(name) for run in runs)])
    return Grid(["", *(run.name for run in runs)], rows)


def comparison_page(runs: Sequence[Compared], path: Path) -> None:
    """Write the comparison as one HTML file.

    Raises:
        MissingDependencyError: the extra ``report`` is not installed. RunError: the file cannot be written.
    """
    problems = [f"{run.name}: {run.problem}." for run in runs if run.problem]
    different = differing(runs)
    note = "Likelihoods can be compared where the test rows, the modalities and their units are the same."
    course = Section("Learning curves")
    for title, metric in (
        ("Validation objective (lower is better)", "validation/objective"),
        ("Coupling", "validation/coupling"),
    ):
        curves = {run.name: metric_points(run.epochs, metric) for run in runs}
        if any(curves.values()):
            note_of_cut = cut_note([run.epochs for run in runs], [metric])
            course.shown.append(lines(title, curves, "epoch", "nats", note_of_cut))
    page = Page(f"Comparison of {len(runs)} runs", f"They differ in {len(different.rows)} settings. {note}")
    page.sections = [
        Section("Measured", problems, [numbers(runs)]),
        course,
        Section("Settings that differ", [] if different.rows else ["None."], [different] if different.rows else []),
    ]
    write_page(page, path)


def _plain(value: Any) -> str | None:
    return None if value is None else str(value)
