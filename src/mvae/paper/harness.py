"""Make any item: train, measure and record what is missing, job by job, and read what is recorded."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvae.paper.cell import JMVAE_ALPHAS, Cell
from mvae.paper.item import Item, Job, Options, Paths
from mvae.paper.paired import Measured, differences, keep_values, kept_values, values_file
from mvae.paper.record import evaluation_rows, record_rows
from mvae.paper.results import Row
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.evaluation import evaluate
from mvae.runs.registry import models
from mvae.runs.run import Run, device_named, open_run, read_run, train
from mvae.runs.sweep import sweep
from mvae.training.callbacks import Callback
from mvae.training.checkpoint import SETTINGS, epochs_trained
from mvae.training.step import can_be_recorded


def reproduce(item: Item, options: Options | None = None, paths: Paths | None = None) -> list[dict[str, Any]]:
    """Return an item's recorded rows, after making those that are missing; each job is recorded as it ends.

    Nothing is made twice: recorded numbers are read, finished runs are opened, and stopped runs are resumed.
    ``options.jobs`` jobs run at once; only these are lost if the process is killed.

    Raises:
        SettingsError: an option outside its range. MissingDependencyError: an optional library is absent. DataError:
            data is absent or damaged.
    """
    options, paths = item.completed(options or Options()), paths or Paths()
    if item.require is not None:
        item.require()
    if item.make is not None:
        return [dict(row) for row in item.make(item.name, options, paths)]
    if item.quiet and paths.callbacks is None:
        paths = replace(paths, callbacks=())
    budget, cells = options.budget, item.cells or (lambda *_: ())
    wanted = list(cells(options, item.budgets[budget]))
    groups: dict[str, list[Cell]] = {}
    for cell in wanted:
        if item.missing_picture(cell, budget, paths.results) or not item.recorded(cell, budget, paths.results):
            groups.setdefault(item.job(cell), []).append(cell)
    jobs = {name: Job(item, tuple(cells), budget, paths) for name, cells in groups.items()}
    for rows in swept(_done, jobs, options.jobs, paths):
        record_rows(rows, paths.results)
    if item.compare is not None:
        record_rows(item.compare(item, wanted, budget, paths), paths.results)
    rows = [row for cell in wanted for row in item.recorded(cell, budget, paths.results)]
    return rows if item.keep is None else [row for row in rows if item.keep(row)]


def _done(job: Job) -> list[Row]:
    """Draw the picture of a job's run if it is missing, and measure the job if it is not recorded."""
    item = job.item
    if (path := item.missing_picture(job.cell, job.budget, job.paths.results)) and item.picture:
        item.picture(finished_run(job.cell, job.paths), path)
    if item.measure is None or all(item.recorded(cell, job.budget, job.paths.results) for cell in job.cells):
        return []
    return item.measure(job)


def evaluated(job: Job, joint: bool = False) -> list[Row]:
    """The rows of `mvae.runs.evaluation.evaluate` for a job's first cell; ``joint``: the proposal is q(z | x1, x2)."""
    run, spend = finished_run(job.cell, job.paths), job.spend
    names, rows = run.data.test.names, spend.rows(job.cell.dataset)
    proposal = names if joint else names[:1]
    found = evaluate(run, rows=rows, samples=spend.samples, proposal=proposal, seed=job.cell.seed)
    keep_values(values_file(run.directory, joint, job.budget), found)
    return evaluation_rows(run, found, job.origin())


def rows_as(item: str, job: Job, tables: Sequence[str] = ("table2",)) -> list[Row]:
    """The numbers of Table 2 (or others) as rows of another item, for which nothing is published."""
    return [replace(row, item=item, paper=None) for row in evaluated(job) if row.item in tables]


def compared(item: Item, cells: Sequence[Cell], budget: str, paths: Paths, joint: bool = False) -> list[Row]:
    """Differences from the MVAE, paired by row (`mvae.paper.paired`), of an item whose jobs are `evaluated`."""
    measured = []
    for cell in cells:
        values = kept_values(values_file(directory_of(cell, paths), joint, budget))
        measured.append(Measured(cell, item.recorded(cell, budget, paths.results), values))
    return list(differences(measured))


def directory_of(cell: Cell, paths: Paths) -> Path:
    """The directory of a cell's run, whether it exists yet or not."""
    spread = {"spread": cell["spread"], "rounds": cell["spread_rounds"]} if cell["spread"] else {}
    digest = digest_of(cell.config, spread)
    return paths.runs / "-".join([cell.dataset, cell.model, cell.recipe, f"s{cell.seed}", digest])


def digest_of(config: Config, more: Mapping[str, Any] | None = None) -> str:
    """A hash of what a declaration trains, and of ``more`` settings."""
    declared = config.resolved().model_dump(exclude={"summary", "evaluation"}, exclude_defaults=True) | dict(more or {})
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:8]


def finished_run(cell: Cell, paths: Paths) -> Run:
    """The finished run of a cell, see `completed`; before it, the one over whose latents labels spread."""
    directory, config = directory_of(cell, paths), cell.config
    if cell["spread"] and (directory / SETTINGS).exists():
        config = read_run(directory)[0]  # with the place of the run from which labels spread
    elif cell["spread"]:
        first = finished_run(cell.first, paths).directory
        names = config.resolved().model.options["pseudo_labels"]
        config = config.change({"data": {"spread": dict.fromkeys(names, str(first))}})
    return completed(config, directory, paths, paths.callbacks)


def completed(config: Config, directory: Path, paths: Paths, callbacks: Sequence[Callback] | None) -> Run:
    """The finished run of a declaration: opened if it is complete, resumed if it was stopped, else trained."""
    where = {"data_dir": paths.data_dir, "device": paths.device}
    begun = (directory / SETTINGS).exists()
    if not begun or (epochs_trained(directory) or 0) < config.training.epochs * len(build(config).stages):
        train(config, directory, resume=begun, callbacks=callbacks, **where)
    return open_run(directory, **where)


def swept(work: Callable[[Job], list[Row]], jobs: Mapping[str, Job], workers: int, paths: Paths) -> Iterator[list[Row]]:
    """The rows of each job as it ends, ``workers`` at a time.

    On a GPU, threads train the runs whose steps can be recorded; processes train the others, kernel by kernel.
    """
    device = device_named(paths.device)
    threads: dict[str, Job] = {}
    if device.type == "cuda" and workers > 1 and paths.engine is None:
        threads = {name: job for name, job in jobs.items() if _recorded_step(job.cell)}
    others = {name: job for name, job in jobs.items() if name not in threads}
    for part, threads_on in ((threads, device), (others, None)):
        for _, rows in sweep(work, part, workers, paths.engine, threads_on):
            yield rows


def _recorded_step(cell: Cell) -> bool:
    """Whether a step of this run is replayed on a GPU (`mvae.training.step`); never if the model is not a network."""
    if cell.model not in (*models(), *JMVAE_ALPHAS):
        return False
    model = build(cell.config)
    hides = cell["kept"] is not None or (cell["pairs"] not in (None, 1) and not model.needs_complete)
    return can_be_recorded(model, not hides)
