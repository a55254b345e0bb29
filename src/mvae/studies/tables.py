"""`mvae reproduce tables`: filling in tables with holes, beside what people use today.

One set of defaults for every table (`mvae.runs.defaults`), chosen on cells hidden from the observed ones; the cells
that a set's mask hides are scored once. Errors are HI-VAE's for its sets (numbers: root mean square over the column's
range; classes: share of wrong ones; ordered classes: mean displacement over their number; mean over columns), and root
mean squares of standardised values for scikit-learn's.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from mvae.data.fields import CLASSED
from mvae.data.table import Table
from mvae.evaluation.impute import Imputed, impute
from mvae.paper.item import Budget, Item, Options, Paths
from mvae.paper.results import RowDict
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.defaults import defaults_for
from mvae.runs.intervals import held_back, stretch_draws
from mvae.studies.measured import Study
from mvae.studies.table_baselines import BASELINES
from mvae.studies.table_sets import HIVAE, SETS, Holes, holes_of
from mvae.training.fit import fit

__all__ = ["TABLES", "coverage", "error", "expected_calibration_error", "filled"]

NAME, OURS = "tables", "mvae"
INTERVAL = 0.9
BINS = 10  # of the expected calibration error


@dataclass(frozen=True)
class Spend:
    """What a budget is spent on.

    Args:
        sets: the tables.
        patterns: what is hidden of HI-VAE's sets.
        rows: the first so many; None: all.
        epochs: at most; None: the defaults'.
        samples: of z per row.
        models: ours and the baselines.
    """

    sets: tuple[str, ...]
    patterns: tuple[str, ...]
    rows: int | None
    epochs: int | None
    samples: int
    models: tuple[str, ...]


ALL = (OURS, *BASELINES)
SPENDS = {
    "smoke": Spend(("diabetes",), (), 120, 2, 20, (OURS, "mean", "kNN", "iterated ridge")),
    "laptop": Spend(SETS, ("cells 10 %", "cells 30 %", "cells 50 %"), None, None, 400, ALL),
}
EMBEDDED = ("cells 30 %", "views 30 %", "both 30 %")


def error(holes: Holes, found: Float[np.ndarray, "rows fields"]) -> float:
    """Over the hidden cells, as the module says."""
    hidden = holes.hidden
    if holes.name not in HIVAE:
        return float(np.sqrt((((found - holes.truth) / np.nanstd(holes.truth, 0))[hidden] ** 2).mean()))
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


def coverage(holes: Holes, found: Imputed) -> float:
    """The share of the hidden numbers that lie in their intervals; NaN where none is hidden."""
    numbers = np.array([field.kind not in (*CLASSED, "binary") for field in holes.fields])
    low, high = found.low["t"].numpy(), found.high["t"].numpy()
    inside = (holes.truth >= low) & (holes.truth <= high)
    asked = holes.hidden & numbers
    return float(inside[asked].mean()) if asked.any() else float("nan")


def expected_calibration_error(holes: Holes, found: Imputed) -> float:
    """Of the most probable class of hidden categories: mean distance of its probability from how often it is right."""
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


def filled(
    holes: Holes, seed: int, spend: Spend
) -> tuple[Float[np.ndarray, "rows fields"], Imputed, dict[str, object]]:
    """The table filled in by the model with the library's defaults, and the settings that they are.

    Rows in which nothing is observed get what a row of nothing gets: they are given their first column's mean.
    """
    observed: Bool[np.ndarray, "rows fields"] = holes.observed.copy()
    values = np.where(observed, holes.truth, 0.0)
    for row in np.flatnonzero(~observed.any(1)):
        first = holes.truth[observed[:, 0], 0]
        values[row, 0] = np.bincount(first.astype(int)).argmax() if holes.fields[0].kind in CLASSED else first.mean()
        observed[row, 0] = True
    table = Table({"t": torch.from_numpy(values)}, {"t": torch.from_numpy(observed)})
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    held_out = max(1, len(table) // 10)
    train, validation = table[order[held_out:]], table[order[:held_out]]
    fields = [{k: v for k, v in vars(field).items() if v is not None} for field in holes.fields]
    declared = {"seed": seed, "data": {"source": "table"}, "modalities": {"t": {"kind": "columns", "fields": fields}}}
    config = Config.from_dict(declared).change(defaults_for(table))
    if spend.epochs is not None:
        config = config.change({"training": {"epochs": spend.epochs}})
    model = build(config)
    shown, held = held_back(train, seed)
    history = fit(model, shown, config.training, seed=seed, validation=validation, callbacks=[])
    stretch_draws(model, train, held, seed)
    found = impute(model, table, draws=2, interval=INTERVAL, samples=spend.samples, seed=seed)
    settings = {"latents": config.model.latents, "epochs": len(history.epochs), "best_epoch": history.best_epoch}
    return np.asarray(found.table["t"]), found, {"model": config.model.name, **settings}


def measured(holes: Holes, model: str, seed: int, spend: Spend) -> tuple[dict[str, float], dict[str, object]]:
    """What one way to fill in one table is worth, by metric, and its settings."""
    began = time.monotonic()
    values: dict[str, float] = {}
    settings: dict[str, object] = {}
    if model == OURS:
        own, found, settings = filled(holes, seed, spend)
        values = {"coverage": coverage(holes, found), "ECE": expected_calibration_error(holes, found)}
    else:
        own = BASELINES[model](np.where(holes.observed, holes.truth, np.nan), holes.fields, seed)
    values = {name: value for name, value in {"error": error(holes, own), **values}.items() if np.isfinite(value)}
    return values, settings | {"train_minutes": round((time.monotonic() - began) / 60, 2)}


def make(name: str, options: Options, paths: Paths) -> Sequence[RowDict]:
    """Measure and record what is missing; everything of the options that is recorded."""
    spend = SPENDS[options.budget]
    models = options.models or spend.models
    found: list[RowDict] = []
    for dataset in options.datasets or spend.sets:
        for pattern in spend.patterns if dataset in HIVAE else EMBEDDED:
            for seed in range(options.seeds):
                study = Study(name, dataset, options.budget, seed, paths.results, {"hidden": pattern})
                rows: dict[str, Sequence[RowDict]] = {model: study.recorded(model) for model in models}
                if missing := [model for model in models if not rows[model]]:
                    holes = holes_of(dataset, pattern, seed, paths.data_dir, spend.rows)
                    for model in missing:
                        values, settings = measured(holes, model, seed, spend)
                        narrowed = f"--datasets {dataset} --models '{model}'"
                        at = replace(study, narrowed=narrowed, settings={"hidden": pattern, **settings})
                        rows[model] = at.record(model, values, int(holes.hidden.sum()))
                found += [row for model in models for row in rows[model]]
    return found


def show(name: str, rows: Sequence[RowDict]) -> None:
    """A line per table and pattern: each model's error, mean over seeds, and our intervals' coverage."""
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
    "Tables with holes: error of what is filled in, beside kNN, iterated ridge and trees",
    takes=("datasets", "models", "seeds", "budget"),
    show=show,
    needs="--data-dir with the folder hi-vae, for its three sets",
    choices={"datasets": SETS, "models": ALL},
    budgets={
        "smoke": Budget("120 rows of one set, 2 epochs: does it run?"),
        "laptop": Budget("every set, the defaults' epochs"),
    },
    make=make,
)
