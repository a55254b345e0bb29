"""Tables 4, 5, 11, 12 and 13: translation (Sec. 7, App. K).

Published values are for IWSLT'15's 133,000 pairs of talks. Other files and sizes give other numbers: compare the shape
of the curve over the share of aligned pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.evaluation.likelihood import log_likelihoods
from mvae.evaluation.text import bleu, chrf, nearest_neighbours, require_sacrebleu, source_gap
from mvae.evaluation.validation import validate
from mvae.paper.cell import Cell
from mvae.paper.datasets import translation as data
from mvae.paper.harness import finished_run
from mvae.paper.item import BUDGETS, PAIRED, Budget, Item, Job, Options, Paths
from mvae.paper.published import published
from mvae.paper.record import Origin, shared_fields
from mvae.paper.results import Row, RowDict, Summary, new_row, standard_error, summaries
from mvae.paper.show import show_sentences, show_values, signed
from mvae.runs.run import Run
from mvae.runs.translate import language, translate_rows

ALIGNED_FRACTIONS = (0.001, 0.005, 0.01, 0.05, 0.1, 1.0)
JOINT = "log p(en,vi)"  # Table 4's column
SHOWN = 6  # sentences or pairs of a table


def _cells(options: Options, budget: Budget) -> Iterator[Cell]:
    (recipe,) = options.recipes
    for level in options.levels or ALIGNED_FRACTIONS:
        pairs: dict[str, Any] = {"pairs": level} if level < 1 else {}
        training = budget.training("translation") | pairs
        yield from (Cell.of("translation", recipe, seed, **training) for seed in range(options.seeds))


def _measure(job: Job) -> list[Row]:
    run, spend = finished_run(job.cell, job.paths), job.spend
    return translation_rows(run, job.origin(), job.paths.data_dir, spend.rows("translation"), spend.samples)


def translation_rows(
    run: Run, origin: Origin, data_dir: Path | None, rows: int | None = None, samples: int | None = None
) -> list[Row]:
    """Every number of Table 4 for a run: on the first ``rows`` rows (default: all) of its test split and other domains.

    Raises:
        MissingDependencyError: sacrebleu is absent.
    """
    require_sacrebleu()
    level = 1.0 if origin.cell["pairs"] is None else origin.cell["pairs"]
    samples = run.config.evaluation.samples if samples is None else samples
    domains = {"": run.data.test} | {f" {name}": other for name, other in run.data.others.items()}
    tables = {name: table if rows is None else table.first(rows) for name, table in domains.items()}
    found = {name: _likelihoods(run, table, samples) for name, table in tables.items()}
    table = tables[""]
    found[""] |= _instruments(run, table) | _quality(run, data_dir, len(table), baselines=level == 1)
    shared = shared_fields(run, origin, len(table), level=level, samples=samples)
    paper = published("table4", str(level), "value")
    return [
        new_row("table4", metric + domain, value, stderr, shared, paper if metric + domain == JOINT else None)
        for domain, numbers in found.items()
        for metric, (value, stderr) in numbers.items()
    ]


Numbers = dict[str, tuple[float, float | None]]  # metric → value, standard error over rows


def _likelihoods(run: Run, table: Table, samples: int) -> Numbers:
    """log p of each language and of both in nats per example, and each one's perplexity per token (stop included)."""
    names = run.model.names
    queries: dict[str, tuple[Sequence[str], Sequence[str]]] = {f"log p({name})": ([name], []) for name in names}
    queries[f"log p({','.join(names)})"] = (names, [])
    found = log_likelihoods(run.model, table, queries, proposal=names, samples=samples)
    result: Numbers = {name: (value.mean, value.standard_error) for name, value in found.items()}
    for name in names:
        scored = found[f"log p({name})"]
        x = cast("Tensor", table.take(scored.rows).columns[name]).long()
        tokens = float(language(run, name).tokens(x).sum())
        result[f"perplexity {name}"] = (math.exp(-float(scored.values.double().sum()) / tokens), None)
    return result


def _instruments(run: Run, table: Table) -> Numbers:
    """Is z used? Gaps to shuffled sources (nats per sentence), KLs, active units: near 0 after posterior collapse."""
    result: Numbers = {}
    for source, target in _directions(run):
        gap = source_gap(run.model, table, source, target).double()
        result[f"gap {source}->{target}"] = (float(gap.mean()), standard_error(gap))
    measured = validate(run.model, table)
    kept = [name for name in measured if name.startswith(("active units", "kl complete", "coupling"))]
    return result | {name: (measured[name], None) for name in kept}


def _quality(run: Run, data_dir: Path | None, rows: int, *, baselines: bool) -> Numbers:
    """chrF and BLEU of translations of the first ``rows`` test rows, in both directions: greedy, and "mbr".

    ``baselines`` adds those of the source itself ("copy") and of the nearest training neighbour's translation.
    """
    texts = data.sentences(data_dir)
    result: Numbers = {}
    for source, target in _directions(run):
        x = cast("Tensor", run.data.test.take(slice(0, rows)).columns[source])
        written = run.data.codecs[target]
        gold = texts["test"][target][:rows]
        found = {
            name: [written.format(row[0]) for row in translate_rows(run, x, source, target, method=method)]
            for name, method in (("", "greedy"), (" mbr", "mbr"))
        }
        if baselines:
            sources, train = texts["test"][source][:rows], slice(0, run.config.data.rows)
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


def shares(rows: Sequence[RowDict]) -> list[Summary]:
    """Every number by share of aligned pairs, averaged over runs."""
    return summaries(rows, lambda row: (row["settings"]["level"], row["metric"]))


def show_shares(item: str, rows: Sequence[RowDict]) -> None:
    """Print every number by share of aligned pairs, mean ± standard error over runs, and the published ones."""
    lines, before = [], None
    for one in shares(rows):
        level = one.row["settings"]["level"]
        if before not in (None, level):
            lines.append(())
        before = level
        error, paper = signed(one.stderr, ".3f", ""), signed(one.row["paper"], ".2f")
        lines.append((f"{level:.1%}", one.row["metric"], f"{one.value:.3f}", error, str(one.seeds), paper))
    headings = ("pairs", "metric", "ours", "± s.e.", "runs", "paper")
    title = f"{item} (the paper's: IWSLT'15, 133,000 pairs; compare the shape)"
    show_values(title, headings, lines, left=(), wide=("metric",))


def _sentences(item: str, options: Options, paths: Paths) -> list[dict[str, str]]:
    """Sentences of the run trained on every pair: the first test rows, not chosen ones; "type" and "sentence".

    Table 11 draws both languages from the same z of the prior. The others draw z ~ q(z | source) and x ~ p(x | z), as
    the paper does, and add the gold translation in place of Google's.
    """
    (cell,) = _cells(Options(recipes=options.recipes, levels=(1.0,)), BUDGETS[options.budget])
    run = finished_run(cell, paths)
    if item == "table11":
        return _from_prior(run)
    directions = {"table5": list(_directions(run)), "table12": [("en", "vi")], "table13": [("vi", "en")]}[item]
    gold = data.sentences(paths.data_dir)["test"]
    found = []
    for source, target in directions:
        rows = SHOWN // len(directions)
        x = cast("Tensor", run.data.test.take(slice(0, rows)).columns[source])
        translated = translate_rows(run, x, source, target, method="sample", seed=0)
        for i in range(len(x)):
            sentence = run.data.codecs[target].format(translated[i, 0])
            found += [
                {"type": f"x_{source} ~ p_data", "sentence": gold[source][i]},
                {"type": f"x_{target} ~ p(x_{target} | z(x_{source}))", "sentence": sentence},
                {"type": f"gold x_{target}", "sentence": gold[target][i]},
            ]
    return found


def _from_prior(run: Run) -> list[dict[str, str]]:
    generator = torch.Generator(run.model.device).manual_seed(0)
    drawn = run.model.generate(n=SHOWN, generator=generator)
    return [
        {"type": f"x_{name} ~ p(x_{name} | z = z0)", "sentence": run.data.codecs[name].format(rows[i, 0])}
        for i in range(SHOWN)
        for name, rows in drawn.items()
    ]


_NEEDS = "two aligned text files in --data-dir, and mvae[translation]"
TABLE4 = Item(
    "table4",
    "translation: log p by share of aligned pairs, perplexity, chrF and BLEU, whether z is used",
    ("recipes", "levels", "seeds", "budget", "jobs"),
    show_shares,
    needs=_NEEDS,
    defaults={"recipes": ("coupled",)},
    one_recipe=True,
    levels=PAIRED,
    budgets=BUDGETS | {"smoke": replace(BUDGETS["smoke"], levels=(0.1, 1.0))},
    require=require_sacrebleu,
    cells=_cells,
    measure=_measure,
)
SENTENCES = tuple(
    Item(
        name,
        summary,
        ("recipes", "budget"),
        show_sentences,
        needs=_NEEDS,
        defaults={"recipes": ("coupled",)},
        one_recipe=True,
        make=_sentences,
    )
    for name, summary in (
        ("table5", "translations in both directions, sampled, compared with gold ones"),
        ("table11", "pairs of sentences, both from one z of the prior"),
        ("table12", "Vietnamese translations of English sentences"),
        ("table13", "English translations of Vietnamese sentences"),
    )
)
