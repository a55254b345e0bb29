"""`mvae reproduce tables`: filling in tables with holes, compared with common methods.

Every table uses the same defaults (`mvae.runs.defaults`), chosen on cells hidden from among the observed ones; the
cells that a set's mask hides are scored once. Errors on HI-VAE's sets are HI-VAE's (numbers: RMSE divided by the
column's range; classes: error rate; ordered classes: mean displacement divided by their number; averaged over columns).
On the other sets, they are the RMSE of standardised values. Targets of rows with holes and outliers are predicted, too
(`mvae.studies.table_tasks`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from mvae.data.fields import CLASSED, Field
from mvae.data.table import Table
from mvae.evaluation.impute import Imputed, impute
from mvae.evaluation.likelihood import log_likelihood
from mvae.models.base import MultimodalVAE
from mvae.paper.item import Budget, Item, Options, Paths
from mvae.paper.results import RowDict
from mvae.runs.answers import answers, rows_at_once
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.defaults import defaults_for
from mvae.runs.intervals import fit_holding_back
from mvae.runs.neighbours import FEWEST, corrections
from mvae.studies.study import Study
from mvae.studies.table_baselines import BASELINES
from mvae.studies.table_sets import HIVAE, SETS, Holes, fields_of_numbers, holes_of, whole
from mvae.studies.table_tasks import (
    FOREST,
    HGB,
    auroc_of_forest,
    planted,
    rare_class,
    target_error,
    target_of_boosting,
    with_target,
)

NAME, OURS = "tables", "mvae"
Matrix = Float[np.ndarray, "rows fields"]
INTERVAL = 0.9
BINS = 10  # of the expected calibration error
NEIGHBOURS = ", neighbours"  # added to the name of a metric
COPIES, NO_COPIES = 0.01, "error of rows without a copy"  # measured if more than this share of the rows are copies


@dataclass(frozen=True)
class Spend:
    """What is measured at a budget.

    Args:
        patterns: table → what is hidden or predicted.
        rows: the number of rows, from the first; None: all.
        epochs: the most epochs; None: the defaults'.
        samples: samples of z per row.
        models: ours and the baselines.
    """

    patterns: Mapping[str, tuple[str, ...]]
    rows: int | None
    epochs: int | None
    samples: int
    models: tuple[str, ...]


ALL = (OURS, *BASELINES, HGB, FOREST)
WIDE = {
    "digits": (OURS, "mean", "kNN", "iterated ridge", HGB),
    "mfeat": (OURS, "mean", "kNN", HGB),
}  # others take hours
VIEWS = ("views 10 %", "views 30 %", "views 50 %")
TARGET, PLANTED, NATURAL = "target of ", "outliers planted", "outliers natural"
ASKED = (f"{TARGET}views 30 %",)
PATTERNS = {
    **dict.fromkeys(HIVAE, ("cells 10 %", "cells 30 %", "cells 50 %")),
    "breast-cancer": ("cells 30 %", *VIEWS, "both 30 %", *ASKED, PLANTED, NATURAL),
    "wine-classes": ("cells 30 %", *VIEWS, "both 30 %", *ASKED, PLANTED, NATURAL),
    "diabetes": ("cells 30 %", *VIEWS, "both 30 %", *ASKED, PLANTED),
    "digits": (*VIEWS, *ASKED),
    "mfeat": (*VIEWS, *ASKED),
}
SMOKE = {"diabetes": ("cells 30 %", "views 30 %", *ASKED, PLANTED)}
SPENDS = {
    "smoke": Spend(SMOKE, 120, 2, 20, (OURS, "mean", "kNN", "iterated ridge", HGB, FOREST)),
    "laptop": Spend(PATTERNS, None, None, 400, tuple(name for name in ALL if name != "miceforest")),
}


def error(holes: Holes, found: Float[np.ndarray, "rows fields"]) -> float:
    """The error over the hidden cells, as the module's docstring defines it."""
    hidden = holes.hidden
    if holes.name not in HIVAE:
        spread = np.nanstd(holes.truth, 0)
        spread[spread == 0] = 1  # a constant column
        return float(np.sqrt((((found - holes.truth) / spread)[hidden] ** 2).mean()))
    each = []
    for i, field in enumerate(holes.fields):
        here = hidden[:, i]
        if not here.any():
            continue
        truth, own = holes.truth[here, i], found[here, i]
        if field.kind == "ordinal":
            each.append(np.abs(truth - own).mean() / (field.classes or 1))
        elif field.kind in ("categorical", "binary"):
            each.append((truth != own).mean())
        else:
            each.append(np.sqrt(((truth - own) ** 2).mean()) / np.ptp(holes.truth[~np.isnan(holes.truth[:, i]), i]))
    return float(np.mean(each))


def coverage(holes: Holes, low: Matrix, high: Matrix) -> float:
    """The share of the hidden numbers that lie between these bounds; NaN if none is hidden."""
    numbers = np.array([field.kind not in (*CLASSED, "binary") for field in holes.fields])
    inside = (holes.truth >= low) & (holes.truth <= high)
    asked = holes.hidden & numbers
    return float(inside[asked].mean()) if asked.any() else float("nan")


def expected_calibration_error(holes: Holes, found: Imputed) -> float:
    """The expected calibration error of hidden classes: the top class's probability against its accuracy, in bins."""
    sure, right = [], []
    for i, field in enumerate(holes.fields):
        if field.kind in CLASSED and holes.hidden[:, i].any():
            here = holes.hidden[:, i]
            p = found.probabilities["t"][field.name].numpy()[here]
            sure.append(p.max(1))
            right.append(p.argmax(1) == holes.truth[here, i])
    if not sure:
        return float("nan")
    p, hit = np.concatenate(sure), np.concatenate(right)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return float(sum(abs(p[place == k].sum() - hit[place == k].sum()) for k in range(BINS)) / len(p))


def learned(table: Table, fields: Sequence[Field], seed: int, spend: Spend) -> tuple[MultimodalVAE, dict[str, object]]:
    """Train a model of a table ``t`` with the library's defaults; return it, and those settings."""
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    held_out = max(1, len(table) // 10)
    train, validation = table[order[held_out:]], table[order[:held_out]]
    own = [{k: v for k, v in vars(field).items() if v is not None} for field in fields]
    declared = {"seed": seed, "data": {"source": "table"}, "modalities": {"t": {"kind": "columns", "fields": own}}}
    config = Config.from_dict(declared).change(defaults_for(train))
    if spend.epochs is not None:
        config = config.change({"training": {"epochs": spend.epochs}})
    model = build(config)
    history = fit_holding_back(model, train, config.training, seed=seed, validation=validation, callbacks=[])
    settings = {"latents": config.model.latents, "epochs": len(history.epochs), "best_epoch": history.best_epoch}
    return model, {"model": config.model.name, **settings}


def fitted(holes: Holes, seed: int, spend: Spend) -> tuple[MultimodalVAE, Table, dict[str, object]]:
    """Train a model of the table with the library's defaults; return it, its training table, and those settings.

    In rows with nothing observed, the first column is set to its mean (counts: the median; classes: the mode).
    """
    observed: Bool[np.ndarray, "rows fields"] = holes.observed.copy()
    values = np.where(observed, holes.truth, 0.0)
    for row in np.flatnonzero(~observed.any(1)):
        values[row, 0] = _usual(holes.truth[observed[:, 0], 0], holes.fields[0])
        observed[row, 0] = True
    table = Table({"t": torch.from_numpy(values)}, {"t": torch.from_numpy(observed)})
    model, settings = learned(table, holes.fields, seed, spend)
    return model, table, settings


def filled(model: MultimodalVAE, table: Table, seed: int, spend: Spend) -> Imputed:
    """The table filled in by a model of it."""
    return impute(model, table, draws=2, interval=INTERVAL, samples=spend.samples, seed=seed)


def filled_beside_neighbours(
    model: MultimodalVAE, table: Table, seed: int, spend: Spend
) -> tuple[Matrix, Matrix, Matrix]:
    """The same with numbers corrected by similar rows (`mvae.runs.neighbours`), and the intervals' bounds."""
    values, present = {"t": np.asarray(table["t"])}, {"t": table.observed["t"].numpy()}
    parts: list[list[np.ndarray]] = [[], [], []]
    for rows, correction in corrections(model, values, present, ["t"], rows_at_once(model, table.columns), seed):
        plain = answers(model, {"t": values["t"][rows]}, {"t": present["t"][rows]}, ["t"], spend.samples, seed)
        found = correction.applied(model, plain)["t"]
        for part, own in zip(parts, (found.point, *found.between(INTERVAL)), strict=True):
            part.append(own)
    point, low, high = (np.concatenate(part) for part in parts)
    return point, low, high


def _usual(values: Float[np.ndarray, " rows"], field: Field) -> float:
    """The mode of classes, the lower median of counts, the mean of other numbers."""
    if field.kind in CLASSED:
        return float(np.bincount(values.astype(int)).argmax())
    return float(np.quantile(values, 0.5, method="lower") if field.kind == "count" else values.mean())


def of_cells(holes: Holes, model: str, seed: int, spend: Spend) -> tuple[dict[str, float], dict[str, object]]:
    """How well one model fills in one table, by metric, and its settings."""
    values: dict[str, float] = {}
    settings: dict[str, object] = {}
    if model == OURS:
        trained, table, settings = fitted(holes, seed, spend)
        found = filled(trained, table, seed, spend)
        own = np.asarray(found.table["t"])
        values = {
            "coverage": coverage(holes, found.low["t"].numpy(), found.high["t"].numpy()),
            "ECE": expected_calibration_error(holes, found),
        }
        if len(table) >= FEWEST:  # smaller tables are not corrected
            beside, *ends = filled_beside_neighbours(trained, table, seed, spend)
            values |= {name + NEIGHBOURS: value for name, value in errors(holes, beside).items()}
            values["coverage" + NEIGHBOURS] = coverage(holes, *ends)
    else:
        own = BASELINES[model](np.where(holes.observed, holes.truth, np.nan), holes.fields, seed)
    return {**errors(holes, own), **values}, settings


def errors(holes: Holes, found: Matrix) -> dict[str, float]:
    """The error and, if many rows equal another one, the error over the other rows."""
    values = {"error": error(holes, found)}
    if (copies := copied(holes.truth)).mean() > COPIES:
        values[NO_COPIES] = error(replace(holes, observed=holes.observed | copies[:, None]), found)
    return values


def copied(truth: Float[np.ndarray, "rows fields"]) -> Bool[np.ndarray, "rows"]:
    """Which rows equal another one: their missing values may be memorised."""
    comparable = np.where(np.isnan(truth), np.inf, truth)
    _, group, number = np.unique(comparable, axis=0, return_inverse=True, return_counts=True)
    return number[group.reshape(-1)] > 1


def of_target(holes: Holes, model: str, seed: int, spend: Spend) -> tuple[dict[str, float], dict[str, object]]:
    """How well a table's last column, the target, is predicted, and the model's settings."""
    if model != OURS:
        return target_error(holes, target_of_boosting(holes, seed)), {}
    trained, table, settings = fitted(holes, seed, spend)
    own = np.asarray(filled(trained, table, seed, spend).table["t"])
    return target_error(holes, own[:, -1]), settings


def of_outliers(
    name: str, pattern: str, model: str, seed: int, spend: Spend, data_dir: Path | None
) -> tuple[dict[str, float], dict[str, object], int]:
    """How well a model distinguishes the outliers of a table without holes, its settings, and the number of rows."""
    found = whole(name, data_dir)
    values, odd = planted(found, seed) if pattern == PLANTED else rare_class(found, seed)
    values, odd = values[: spend.rows], odd[: spend.rows]
    if model != OURS:
        return {"AUROC": auroc_of_forest(values, odd, seed)}, {}, len(odd)
    from sklearn.metrics import roc_auc_score

    table = Table({"t": torch.from_numpy(values)})
    own, settings = learned(table, fields_of_numbers(name, found.names, values), seed, spend)
    log_p = log_likelihood(own, table, ["t"], samples=spend.samples, seed=seed).values
    return {"AUROC": float(roc_auc_score(odd, -log_p.numpy()))}, settings, len(odd)


def measured(
    name: str, pattern: str, model: str, seed: int, spend: Spend, data_dir: Path | None
) -> tuple[dict[str, float], dict[str, object], int]:
    """One measurement of the study: values by metric, settings, and the number of cells or rows."""
    began = time.monotonic()
    if pattern in (PLANTED, NATURAL):
        values, settings, n = of_outliers(name, pattern, model, seed, spend, data_dir)
    else:
        holes = holes_of(name, pattern.removeprefix(TARGET), seed, data_dir, spend.rows)
        if pattern.startswith(TARGET):
            holes = with_target(holes, whole(name, data_dir), seed)
            (values, settings), n = of_target(holes, model, seed, spend), int((~holes.observed[:, -1]).sum())
        else:
            (values, settings), n = of_cells(holes, model, seed, spend), int(holes.hidden.sum())
    finite = {metric: value for metric, value in values.items() if np.isfinite(value)}
    return finite, settings | {"train_minutes": round((time.monotonic() - began) / 60, 2)}, n


def answering(dataset: str, pattern: str, models: Sequence[str]) -> list[str]:
    """The models that can do this task on this table in reasonable time."""
    able = (HGB,) if pattern.startswith(TARGET) else (FOREST,) if pattern in (PLANTED, NATURAL) else tuple(BASELINES)
    return [name for name in models if name in (OURS, *able) and name in WIDE.get(dataset, ALL)]


def make(name: str, options: Options, paths: Paths) -> Sequence[RowDict]:
    """Measure and record what is missing; return all recorded rows of the options."""
    spend = SPENDS[options.budget]
    models = options.models or spend.models
    found: list[RowDict] = []
    for dataset in options.datasets or tuple(spend.patterns):
        for pattern in spend.patterns[dataset]:
            for seed, model in product(range(options.seeds), answering(dataset, pattern, models)):
                study = Study(name, dataset, options.budget, seed, paths.results, {"hidden": pattern})
                rows: Sequence[RowDict] = study.recorded(model)
                if not rows:
                    values, settings, n = measured(dataset, pattern, model, seed, spend, paths.data_dir)
                    narrowed = f"--datasets {dataset} --models '{model}'"
                    at = replace(study, narrowed=narrowed, settings={"hidden": pattern, **settings})
                    rows = at.record(model, values, n)
                found += rows
    return found


def show(name: str, rows: Sequence[RowDict]) -> None:
    """Print a line per table and pattern: each model's error and other metrics, averaged over seeds."""
    import click

    for dataset, pattern in dict.fromkeys((row["dataset"], row["settings"]["hidden"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["settings"]["hidden"]) == (dataset, pattern)]
        parts = []
        for model, metric in dict.fromkeys((row["model"], row["metric"]) for row in own):
            values = [row["value"] for row in own if (row["model"], row["metric"]) == (model, metric)]
            parts.append(f"{model}{'' if metric == 'error' else ' ' + metric} {np.mean(values):.4f}")
        click.echo(f"{dataset}, {pattern}: {', '.join(parts)}")


TABLES = Item(
    NAME,
    "incomplete tables: cells, views, targets, outliers, compared with kNN, iterated trees, boosting, IsolationForest",
    takes=("datasets", "models", "seeds", "budget"),
    show=show,
    needs="--data-dir with the folders hi-vae and mfeat, for their four sets",
    choices={"datasets": SETS, "models": ALL},
    budgets={
        "smoke": Budget("120 rows of one set, 2 epochs: does it run?"),
        "laptop": Budget("every set, the defaults' epochs"),
    },
    make=make,
)
