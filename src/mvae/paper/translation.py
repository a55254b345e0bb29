"""`mvae reproduce table4 | table5 | table11 | table12 | table13`: translation (Sec. 7, App. K).

Published values are for IWSLT'15's 133,000 pairs of talks. Other files and sizes give other numbers: compare the shape
of the curve over the share of aligned pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.evaluation.likelihood import log_likelihoods
from mvae.evaluation.text import bleu, chrf, nearest_neighbours, require_sacrebleu, source_gap
from mvae.evaluation.validation import validate
from mvae.paper.datasets import translation as data
from mvae.paper.experiments import experiment
from mvae.paper.harness import BUDGETS, Budget, Job, Places, finished_run, measured, one_recipe, require, require_shares
from mvae.paper.published import published
from mvae.paper.record import common
from mvae.paper.results import Row
from mvae.paper.settings import Settings
from mvae.runs.run import Run
from mvae.runs.translate import language, translate_rows

__all__ = ["EXAMPLES", "LEVELS", "Level", "examples", "rows_of", "summary", "table4"]

LEVELS = (0.001, 0.005, 0.01, 0.05, 0.1, 1.0)
JOINT = "log p(en,vi)"  # Table 4's column
EXAMPLES = ("table5", "table11", "table12", "table13")


def table4(
    *,
    recipes: Sequence[str] = ("coupled",),
    levels: Sequence[float] = (),
    seeds: int = 1,
    budget: str = "laptop",
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of Table 4 at these shares of pairs (default: all), after making those that are missing.

    Raises:
        SettingsError: an unknown budget, several recipes, or a level that is not in (0, 1]. MissingDependencyError: no
            sacrebleu, said before anything is trained. DataError: the sentences are absent or damaged.
    """
    require("budget", [budget], BUDGETS)
    require_shares(levels)
    require_sacrebleu()
    recipe = one_recipe("table4", recipes)
    wanted = [_settings(level, recipe, seed, BUDGETS[budget]) for level in levels or LEVELS for seed in range(seeds)]
    return measured("table4", wanted, _measure, budget, workers, places or Places())


def _settings(level: float, recipe: str, seed: int, spend: Budget) -> Settings:
    changed: dict[str, Any] = spend.training(experiment("translation"))
    if level < 1:
        changed["pairs"] = level
    return Settings.of("translation", recipe, seed, **changed)


def _measure(job: Job) -> list[Row]:
    """Every number of a run, in whatever process."""
    settings, spend = job.settings, BUDGETS[job.budget]
    run, what = finished_run(settings, job.places), experiment("translation")
    level = 1.0 if settings.pairs is None else settings.pairs
    command = (
        f"mvae reproduce table4 --recipes {settings.recipe} --levels {level:g} --seeds {settings.seed + 1} "
        f"--budget {job.budget}"
    )
    samples = what.samples if spend.samples is None else spend.samples
    return rows_of(run, job.budget, command, job.places.data_dir, spend.rows(what), samples)


def rows_of(
    run: Run, budget: str, command: str, data_dir: Path | None, rows: int | None = None, samples: int | None = None
) -> list[Row]:
    """Every number of Table 4 for a run: of the first so many rows (default: all) of its test split and other domains.

    Raises:
        MissingDependencyError: no sacrebleu.
    """
    require_sacrebleu()
    level = 1.0 if run.settings.pairs is None else run.settings.pairs
    samples = run.settings.experiment.samples if samples is None else samples
    domains = {"": run.splits.test} | {f" {name}": other for name, other in run.splits.others.items()}
    tables = {name: table if rows is None else table.first(rows) for name, table in domains.items()}
    found = {name: likelihoods(run, table, samples) for name, table in tables.items()}
    table = tables[""]
    found[""] |= instruments(run, table) | judged(run, data_dir, len(table), baselines=level == 1)
    shared = common(run, budget, command, len(table), {"level": level, "samples": samples})
    return [
        Row(
            item="table4",
            metric=metric + domain,
            value=round(value, 4),
            stderr=None if stderr is None else round(stderr, 4),
            paper=published("table4", str(level), "value") if metric + domain == JOINT else None,
            **shared,
        )
        for domain, numbers in found.items()
        for metric, (value, stderr) in numbers.items()
    ]


Numbers = dict[str, tuple[float, float | None]]  # metric → value, standard error over rows


def likelihoods(run: Run, table: Table, samples: int, seed: int = 0) -> Numbers:
    """log p of each language and of both in nats a row, and each language's perplexity a token (stop included)."""
    names = run.model.names
    queries: dict[str, tuple[Sequence[str], Sequence[str]]] = {f"log p({name})": ([name], []) for name in names}
    queries[f"log p({','.join(names)})"] = (names, [])
    found = log_likelihoods(run.model, table, queries, proposal=names, samples=samples, seed=seed)
    result: Numbers = {name: (value.mean, value.standard_error) for name, value in found.items()}
    for name in names:
        scored = found[f"log p({name})"]
        x = cast("Tensor", table.take(scored.rows).columns[name]).long()
        tokens = float(language(run, name).tokens(x).sum())
        result[f"perplexity {name}"] = (math.exp(-float(scored.values.double().sum()) / tokens), None)
    return result


def instruments(run: Run, table: Table) -> Numbers:
    """Is z used? Gaps to shuffled sources (nats a sentence), KLs and active units: near 0 after posterior collapse."""
    result: Numbers = {}
    for source, target in _directions(run):
        gap = source_gap(run.model, table, source, target).double()
        result[f"gap {source}->{target}"] = (float(gap.mean()), float(gap.std() / len(gap) ** 0.5))
    measured = validate(run.model, table)
    kept = [name for name in measured if name.startswith(("active units", "kl complete", "coupling"))]
    return result | {name: (measured[name], None) for name in kept}


def judged(run: Run, data_dir: Path | None, rows: int, *, baselines: bool) -> Numbers:
    """chrF and BLEU of translations of the first so many test rows, in both directions: greedy, and "mbr".

    ``baselines`` adds those of the source itself ("copy") and of the nearest training neighbour's translation.
    """
    texts = data.sentences(data_dir)
    result: Numbers = {}
    for source, target in _directions(run):
        x = cast("Tensor", run.splits.test.take(slice(0, rows)).columns[source])
        written = run.splits.codecs[target]
        gold = texts["test"][target][:rows]
        found = {
            name: [written.format(row[0]) for row in translate_rows(run, x, source, target, method=method)]
            for name, method in (("", "greedy"), (" mbr", "mbr"))
        }
        if baselines:
            sources, train = texts["test"][source][:rows], slice(0, run.settings.rows)
            found[" copy"] = sources
            found[" neighbour"] = nearest_neighbours(
                sources, texts["train"][source][train], texts["train"][target][train]
            )
        for name, sentences in found.items():
            result[f"chrF {source}->{target}{name}"] = (chrf(sentences, gold), None)
            result[f"BLEU {source}->{target}{name}"] = (bleu(sentences, gold), None)
    return result


def _directions(run: Run) -> Iterator[tuple[str, str]]:
    return ((source, target) for source in run.model.names for target in run.model.names if source != target)


@dataclass(frozen=True)
class Level:
    """One number of Table 4 over runs: mean and its standard error (None for one run), and the published one."""

    pairs: float
    metric: str
    value: float
    stderr: float | None
    runs: int
    paper: float | None


def summary(rows: Sequence[dict[str, Any]]) -> list[Level]:
    """Mean ± standard error over runs of every number, by share of pairs.

    >>> def row(value):
    ...     return {"settings": {"level": 1.0}, "metric": "log p(en,vi)", "value": value, "paper": -478.12}
    >>> summary([row(-1.0), row(-3.0)])
    [Level(pairs=1.0, metric='log p(en,vi)', value=-2.0, stderr=1.0, runs=2, paper=-478.12)]
    """
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["settings"]["level"], row["metric"]), []).append(row)
    found = []
    for (level, metric), group in groups.items():
        values = torch.tensor([row["value"] for row in group], dtype=torch.float64)
        error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
        found.append(Level(level, metric, float(values.mean()), error, len(values), group[0]["paper"]))
    return found


def examples(
    item: str,
    *,
    recipes: Sequence[str] = ("coupled",),
    budget: str = "laptop",
    places: Places | None = None,
    n: int = 6,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Table 5, 11, 12 or 13 of the run with every pair: the first n test rows, not chosen ones; "type" and "sentence".

    Table 11 draws both languages from the same z of the prior; the others z ~ q(z | source), x ~ p(x | z), as the
    paper does, with the gold translation beside in the place of Google's.

    Raises:
        SettingsError: an unknown table or budget, several recipes. DataError: the sentences are absent or damaged.
    """
    if item not in EXAMPLES:
        raise SettingsError(f"no table {item!r} of examples; there are {', '.join(EXAMPLES)}")
    require("budget", [budget], BUDGETS)
    places = places or Places()
    run = finished_run(_settings(1.0, one_recipe(item, recipes), 0, BUDGETS[budget]), places)
    if item == "table11":
        return _from_prior(run, n, seed)
    directions = {"table5": list(_directions(run)), "table12": [("en", "vi")], "table13": [("vi", "en")]}[item]
    gold = data.sentences(places.data_dir)["test"]
    found = []
    for source, target in directions:
        rows = max(1, n // len(directions))
        x = cast("Tensor", run.splits.test.take(slice(0, rows)).columns[source])
        translated = translate_rows(run, x, source, target, method="sample", seed=seed)
        for i in range(len(x)):
            sentence = run.splits.codecs[target].format(translated[i, 0])
            found += [
                {"type": f"x_{source} ~ p_data", "sentence": gold[source][i]},
                {"type": f"x_{target} ~ p(x_{target} | z(x_{source}))", "sentence": sentence},
                {"type": f"gold x_{target}", "sentence": gold[target][i]},
            ]
    return found


def _from_prior(run: Run, n: int, seed: int) -> list[dict[str, str]]:
    generator = torch.Generator(run.model.device).manual_seed(seed)
    drawn = run.model.generate(n=n, generator=generator)
    return [
        {"type": f"x_{name} ~ p(x_{name} | z = z0)", "sentence": run.splits.codecs[name].format(rows[i, 0])}
        for i in range(n)
        for name, rows in drawn.items()
    ]
