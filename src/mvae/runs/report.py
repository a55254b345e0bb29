"""The report of a run: everything about it on one page, as far as its data is available."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.data.tables.column import TableColumn
from mvae.errors import DataError, MvaeError, SettingsError
from mvae.evaluation.coupling_warnings import pairs_never_seen
from mvae.evaluation.validation import validate
from mvae.modality.columns import ColumnsModality
from mvae.models.base import MultimodalVAE
from mvae.report.advice import advice, course_advice
from mvae.report.calibration import calibration_section
from mvae.report.history import history_section
from mvae.report.latents import latents_section
from mvae.report.likelihoods import by_modality, likelihood_section
from mvae.report.modalities import modality_section
from mvae.report.page import Grid, Page, Section, require_pages, write_page
from mvae.report.pairs import pairs_section
from mvae.report.views import View, view_of
from mvae.runs.answers import draws_given
from mvae.runs.config import Config, flattened
from mvae.runs.evaluation import Evaluation, evaluate, tested
from mvae.runs.held_out import held_out
from mvae.runs.run import Run, open_run, opened_model, read_run
from mvae.training.checkpoint import read_metrics

__all__ = ["SCORING", "Scoring", "report", "views"]

Progress = Callable[[float], object]
MEASURED = 2000  # the most rows for the instruments


@dataclass(frozen=True)
class Scoring:
    """The effort spent on a report's numbers: test rows and importance samples, and the seed of all draws."""

    rows: int = 200
    samples: int = 500
    seed: int = 0


SCORING = Scoring()


def report(
    run_dir: str | Path,
    path: str | Path | None = None,
    *,
    scoring: Scoring = SCORING,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of a run: one HTML file that opens without a network.

    Args:
        run_dir: directory of the run.
        path: the file to write; default ``report.html`` in the run's directory.
        scoring: rows and samples for the likelihoods.
        data_dir: directory of named datasets.
        device: device that the model runs on.
        progress: called with the share of the scoring that is done.

    Returns:
        The written file. If the run's data is gone, the page says so, and shows what the run directory itself holds.

    Raises:
        RunError: not a run, or one without a checkpoint. MissingDependencyError: the extra ``report`` is not installed.
    """
    run_dir = Path(run_dir)
    config, stored = read_run(run_dir)
    require_pages()
    path = run_dir / "report.html" if path is None else Path(path)
    model = opened_model(run_dir)
    gone = None
    try:
        run = open_run(run_dir, data_dir=data_dir, device=device)
    except (DataError, SettingsError) as error:
        run, gone = None, str(error)
    name = run_dir.resolve().name
    page = Page(f"Report of {name}", "")
    rows = read_metrics(run_dir)
    shown = views(config, model if run is None else run.model, stored, None if run is None else run.data)
    if run is None:
        found, measured = course_advice(rows, None), None
        page.summary = f"The data of this run is gone ({gone}). Below is what the run directory itself holds."
        parts = [
            history_section(rows),
            *(modality_section(model, None, view, draws_given, scoring.seed) for view in shown),
        ]
    else:
        evaluation = _evaluated(run, scoring, progress)
        test = tested(run)
        measured = validate(run.model, test.first(MEASURED))
        parts = [history_section(rows), *_answers(run, test, evaluation, measured, shown, scoring.seed)]
        found = _advice(run, evaluation, measured, rows) + [fault for part in parts for fault in part.faults]
        page.summary = _summary(run, found)
    page.sections = [_next_steps(found, measured), _trained_on(config, stored, run), *parts]
    write_page(page, path)
    return path


def views(config: Config, model: MultimodalVAE, stored: Mapping[str, Any], data: Dataset | None) -> list[View]:
    """How each modality of a model is shown: its shape and names, from the declaration, run.json and the data."""
    schema, layout = stored.get("schema") or {}, stored.get("layout") or {}
    columns = [TableColumn.from_dict(column) for column in layout.get("columns", ())]
    written = {column.name: (column.style, column.form) for column in columns}
    found = []
    for name in model.names:
        own, modality = config.modalities[name], model.modalities[name]
        codec = None if data is None else data.codecs.get(name)
        if data is not None and name in data.test.columns:
            shape = tuple(data.test.columns[name].shape[1:])
        else:
            shape = () if own.kind == "categorical" else tuple(own.shape or ())
        classes = (schema.get(name) or {}).get("classes") or ()
        if isinstance(modality, ColumnsModality):
            classes = {column.name: column.classes for column in columns}
        write = None if codec is None else codec.format
        found.append(view_of(name, modality, shape, columns=own.columns, classes=classes, write=write, written=written))
    return found


def _evaluated(run: Run, scoring: Scoring, progress: Progress | None) -> Evaluation | str:
    """The likelihoods, or the reason why the model has none."""
    try:
        return evaluate(run, rows=scoring.rows, samples=scoring.samples, seed=scoring.seed, progress=progress)
    except MvaeError as error:
        return str(error)


def _advice(
    run: Run, evaluation: Evaluation | str, measured: Mapping[str, float], rows: list[dict[str, Any]]
) -> list[str]:
    likelihoods = {} if isinstance(evaluation, str) else by_modality(evaluation.likelihoods, run.data.test.names)
    found = advice(measured, run.model.names, likelihoods, run.model.cross_from)
    if (never := pairs_never_seen(run.data.train, run.model.names)) is not None:
        found.append(f"{never[0].upper()}{never[1:]}.")
    return found + course_advice(rows, run.progress.get("best_epoch"))


def _summary(run: Run, found: list[str]) -> str:
    model, train = run.model, run.data.train
    names = ", ".join(model.names[:6]) + (f" and {len(model.names) - 6} more" if len(model.names) > 6 else "")
    verdict = (
        "Nothing is known to be wrong" if not found else f"{len(found)} thing{'s' if len(found) > 1 else ''} to look at"
    )
    return f"{type(model).__name__} of {names}; {len(train):,} training rows, {model.latent_dim} latents. {verdict}."


def _next_steps(found: list[str], measured: Mapping[str, float] | None) -> Section:
    """What was found, or what was checked without finding anything.

    Args:
        found: the advice.
        measured: what `validate` measured on held-out rows; None if the data is gone.
    """
    if measured is None:
        none = "No sign that training was too short. Everything else can be checked only with the data."
    elif any(name.startswith("gain ") for name in measured):
        none = "No dead expert, no uncoupled modality, no sign that training was too short."
    else:
        none = (
            "No dead expert, no sign that training was too short. Whether modalities are coupled was not checked: "
            "there is only one, or too few held-out rows have two."
        )
    return Section("What to do next", found or [none])


def _trained_on(config: Config, stored: Mapping[str, Any], run: Run | None) -> Section:
    section = Section("Training data and settings")
    if run is not None:
        train = run.data.train
        header = ["modality", "column", f"observed of {len(train):,} training rows", "missing"]
        section.shown.append(Grid(header, _present(train, run.model)))
        section.text.append(
            f"{run.data.name}: {len(train):,} rows for training, {len(run.data.validation):,} for validation, "
            f"{len(run.data.test):,} for testing."
        )
    settings = [[name, str(value)] for name, value in flattened(config.to_dict()).items() if value not in ("", [], {})]
    about = [
        [name, str(stored[name])]
        for name in ("command", "commit", "mvae", "torch", "python", "device")
        if name in stored
    ]
    section.shown.append(Grid(["setting", "value"], about + settings, folded="All settings"))
    return section


def _present(train: Table, model: MultimodalVAE) -> list[list[object]]:
    """For each modality and its columns, the number of training rows that have it and the share of missing cells."""
    found: list[list[object]] = []
    for name in train.names:
        has, mask = train.has(name), train.observed.get(name)
        cells = has if mask is None else mask
        found.append([name, "", int(has.sum()), f"{1 - float(cells.double().mean()):.1%}"])
        if name in model.modalities and isinstance(modality := model.modalities[name], ColumnsModality):
            each = cells.reshape(len(train), -1).expand(-1, len(modality.names))
            counts = zip(modality.names, each.sum(0).tolist(), strict=True)
            found += [["", field, count, f"{1 - count / len(train):.1%}"] for field, count in counts]
    return found


def _filled(run: Run, seed: int) -> list[Section]:
    """A section on hidden cells of a table's held-out rows, filled in; nothing where no cell can be hidden."""
    if run.data.layout is None:
        return []
    header = ["column", "kind", "cells", "error", "error of mean or mode", "inside 90 % intervals", "log p, nats"]
    rows = [
        [one.column, one.kind, one.cells, one.error, one.baseline, one.coverage, one.log_p]
        for one in held_out(run, rows=MEASURED, seed=seed)
    ]
    if not rows:
        return []
    text = (
        "A fifth of the known cells of test rows was hidden and filled in. The error of numbers is a root mean square "
        "in standard deviations, that of classes the error rate. Next to it is the error of predicting the training "
        "rows' mean or mode."
    )
    return [Section("Filled-in cells", [text], [Grid(header, rows)])]


def _answers(
    run: Run, test: Table, evaluation: Evaluation | str, measured: Mapping[str, float], shown: list[View], seed: int
) -> list[Section]:
    """The sections that need the data, of which ``test`` are the rows to evaluate on (`tested`)."""
    model = run.model
    if isinstance(evaluation, str):
        scored = Section("Log-likelihoods", [f"This model has none: {evaluation}."])
    else:
        source = evaluation.source.replace("log p(x1)", f"log p({test.names[0]})")
        how = evaluation.samples, evaluation.rows, source
        scored = likelihood_section(evaluation.likelihoods, test.names, *how)
    return [
        scored,
        *_filled(run, seed),
        *([pairs_section(measured, model.names)] if len(model.names) > 1 else []),
        *(modality_section(model, test, view, draws_given, seed) for view in shown),
        latents_section(model, test, shown),
        calibration_section(model, test, shown, draws_given, seed),
    ]
