"""`python -m mvae.paper.readme`: write the tables of README.md and of docs/ from results/."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvae.paper.results import read_rows
from mvae.paper.tables import PAPER_MODELS, TABLES
from mvae.paper.translation import summary
from mvae.paper.weak import METRIC, MODELS, STUDIES, Summary, summaries

__all__ = ["agreements", "aims", "by_level", "columns", "coupling_map", "fill", "measured", "sentences", "tasks"]

METRICS = ("log p(x1)", "log p(x1,x2)", "log p(x1|x2)", "accuracy x1->x2", "coupling")
VARIANCES = ("var log w p(x1)", "var log w p(x1,x2)", "var log w p(x1|x2)")
WEAK = ("table8", "table9", "table10")


def measured(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] = METRICS) -> str:
    """One line a run: our numbers with the published value of the same model in brackets.

    A run is a dataset, model, recipe, budget, number of rows, seed, commit, device and date.
    """
    runs: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[k] for k in ("dataset", "model", "recipe", "budget", "n", "seed", "commit", "device", "date"))
        runs.setdefault(key, {})[row["metric"]] = row
    lines = [
        "| dataset | model | budget, test rows | seed | " + " | ".join(m.replace("|", "\\|") for m in metrics) + " |",
        "|---|---|---|---|" + "---:|" * len(metrics),
    ]
    for (dataset, _, _, budget, n, seed, *_), found in runs.items():
        name = _name(next(iter(found.values())))
        cells = [_cell(found.get(metric)) for metric in metrics]
        if falls := next(iter(found.values())).get("settings", {}).get("decay_epochs"):
            budget = f"{budget} (rate falls over {falls})"
        lines.append(f"| {dataset} | {name} | {budget}, {n:,} | {seed} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def columns(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of budget "laptop", a dataset after the other, its models in the paper's order."""
    place = {model: i for i, model in enumerate(PAPER_MODELS)}
    kept = [row for row in rows if row["budget"] == "laptop"]
    return sorted(
        kept, key=lambda row: (row["dataset"], place.get(row["model"], len(place)), row["recipe"] == "coupled")
    )


def coupling_map(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a cell of the map of `mvae reproduce lambda`: means over its seeds."""
    cells: dict[tuple[str, ...], dict[int, dict[str, float]]] = {}
    for row in rows:
        settings = row["settings"]
        pairs = "all" if settings["pairs"] is None else f"{settings['pairs']:.0%} × {settings['repeat_pairs']}"
        annealed = f"{settings['anneal_epochs']} of {settings['epochs']}"
        key = row["dataset"], _name(row), f"{settings['weights']['label']:g}", annealed, pairs
        cells.setdefault(key, {}).setdefault(row["seed"], {})[row["metric"]] = row["value"]
    lines = [
        "| dataset | model | λ2 | epochs annealed | pairs | seeds "
        "| log p(x1) | joint − marginal | label from image | C |",
        "|---|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for key, seeds in sorted(cells.items(), key=lambda cell: cell[0][-1] != "all"):  # few pairs last
        totals: dict[str, float] = {}
        for numbers in seeds.values():
            for metric, value in numbers.items():
                totals[metric] = totals.get(metric, 0.0) + value / len(seeds)
        gap, right = totals["log p(x1,x2)"] - totals["log p(x1)"], totals["accuracy x1->x2"]
        mean = f"{totals['log p(x1)']:.2f} | {gap:.2f} | {right:.1%} | {totals['coupling']:.2f}"
        lines.append(f"| {' | '.join(key)} | {len(seeds)} | {mean} |")
    return "\n".join(lines)


def by_level(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a model of a table of few pairs, a column a level: accuracy of x2 from x1 in %, published in brackets.

    Of several seeds the mean, with its standard error.
    """
    found = [one for one in summaries([dict(row) for row in rows]) if one.metric == METRIC]
    levels = sorted({one.level for one in found})
    lines = [
        "| dataset | model | seeds | " + " | ".join(f"{level:.1%}" for level in levels) + " |",
        "|---|---|---:|" + "---:|" * len(levels),
    ]
    for dataset, name in dict.fromkeys((one.dataset, one.name) for one in found):
        own = {one.level: one for one in found if (one.dataset, one.name) == (dataset, name)}
        cells = [_share(own.get(level)) for level in levels]
        seeds = sorted({min(one.seeds for one in own.values()), max(one.seeds for one in own.values())})
        lines.append(f"| {dataset} | {name} | {'–'.join(map(str, seeds))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(one: Summary | None) -> str:
    if one is None:
        return "–"
    text = f"{100 * one.value:.1f}"
    if one.stderr is not None:
        text += f" ± {100 * one.stderr:.1f}"
    return text if one.paper is None else f"{text} ({100 * one.paper:.1f})"


def aims(rows: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> str:
    """The runs of `coupled` on MNIST whose learning rate fell, beside what a coupled model of it should reach."""
    runs: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in (*rows, *judged):
        if row["dataset"] == "mnist" and row["recipe"] == "coupled" and row["settings"].get("decay_epochs"):
            runs.setdefault((row["dataset"], row["budget"], row["seed"]), {})[row["metric"]] = row["value"]
    lines = [
        "| dataset | budget | seed "
        "| log p(x1) | joint − marginal | label from image | judge agrees | KL(all) − KL(image) |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        "| aim | | | ≥ -90.62 | ≥ -0.30 | ≥ 96.8% | ≥ 95% | < 0.5 |",
    ]
    for (dataset, budget, seed), found in runs.items():
        if "agreement x2->x1" not in found:  # no judge has seen its images
            continue
        gap = found["log p(x1,x2)"] - found["log p(x1)"]
        lines.append(
            f"| {dataset} | {budget} | {seed} | {found['log p(x1)']:.2f} | {gap:.2f} | {found['accuracy x1->x2']:.1%} "
            f"| {found['agreement x2->x1']:.1%} | {found['KL all - KL x1']:.2f} |"
        )
    return "\n".join(lines)


def agreements(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a run of Figure 2: in how many generated images a judge sees the condition, and what it is worth."""
    runs: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        runs.setdefault((row["dataset"], _name(row), row["budget"], row["seed"]), {})[row["metric"]] = row["value"]
    lines = [
        "| dataset | model | budget | seed | judge agrees | judge on real images |",
        "|---|---|---|---|---:|---:|",
    ]
    for key, found in sorted(runs.items(), key=lambda run: run[0][0]):
        seen, worth = found["agreement x2->x1"], found["the judge on real test rows"]
        lines.append(f"| {' | '.join(map(str, key))} | {seen:.1%} | {worth:.1%} |")
    return "\n".join(lines)


def tasks(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a task of the image transformations (`mvae reproduce figure4`), each measure beside its references.

    Of several seeds the mean.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        head, _, who = row["metric"].partition(", ")
        task, measure = head.rsplit(" ", 1)
        found.setdefault(task, {}).setdefault(f"{measure}, {who}" if who else measure, []).append(row["value"])
    whose = ("", ", training mean", ", nearest neighbour")
    headings = (f"{name} | training mean | neighbour" for name in ("NLL", "PSNR or F1", "SSIM"))
    lines = [
        "| task | " + " | ".join(headings) + " |",
        "|---|" + "---:|" * 9,
    ]
    for task, measures in found.items():
        mean = {measure: sum(values) / len(values) for measure, values in measures.items()}
        cells = [_in(mean.get(f"NLL{who}"), ",.0f") for who in whose]
        for who in whose:
            cells.append(_in(mean[f"F1{who}"], ".2f") if f"F1{who}" in mean else _in(mean.get(f"PSNR{who}"), ".1f"))
        cells += [_in(mean.get(f"SSIM{who}"), ".2f") for who in whose]
        lines.append(f"| {task.replace('->', ' → ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sentences(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a number of Table 4, a column a share of pairs, of how many and a budget; of several runs mean ± s.e."""
    groups: dict[tuple[float, int | None, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["settings"]["level"], row["settings"]["rows"], row["budget"]), []).append(dict(row))
    found = {key: {one.metric: one for one in summary(group)} for key, group in groups.items()}
    levels = sorted(found, key=lambda key: (key[1] is not None, key[2] == "laptop", -key[0]))  # all rows first
    headings = [
        f"{level:.1%}" + (f" of {of:,}" if of else "") + ("" if budget == "laptop" else f", {budget}")
        for level, of, budget in levels
    ]
    lines = ["| | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(levels)]
    for metric in dict.fromkeys(metric for level in levels for metric in found[level]):
        cells = []
        for level in levels:
            one = found[level].get(metric)
            text = _in(None if one is None else one.value, ",.1f" if "share" not in metric else ".0%")
            cells.append(text if one is None or one.stderr is None else f"{text} ± {one.stderr:.1f}")
        lines.append(f"| {metric.replace('->', ' → ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _in(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _name(row: Mapping[str, Any]) -> str:
    return f"mvae, `{row['recipe']}`" if row["model"] == "mvae" else row["model"]


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    text = f"{row['value']:.1%}" if row["metric"].startswith("accuracy") else f"{row['value']:.2f}"
    if row["stderr"] is not None:
        text += f" ± {row['stderr']:.2f}"
    return text if row["paper"] is None else f"{text} ({row['paper']:.3f})"


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``.

    >>> fill("a <!-- x -->old<!-- /x --> b", "x", "new").split()
    ['a', '<!--', 'x', '-->', 'new', '<!--', '/x', '-->', 'b']
    """
    head, _, rest = text.partition(f"<!-- {name} -->")
    _, _, tail = rest.partition(f"<!-- /{name} -->")
    return f"{head}<!-- {name} -->\n{content}\n<!-- /{name} -->{tail}"


def main(root: Path = Path()) -> None:
    """Fill the files, in the folder of the checkout."""
    items = (*TABLES, "figure2", "lambda", *WEAK, "vision", "table4")
    rows = {item: read_rows(root / "results" / f"{item}.json") for item in items}
    longer = {item: [row for row in rows[item] if row["budget"] != "laptop"] for item in ("table2", "table3")}
    laptop, reached = {item: columns(rows[item]) for item in TABLES}, aims(rows["table2"], rows["figure2"])
    docs, readme = root / "docs" / "research", root / "README.md"
    coupling, tables = docs / "coupling.md", docs / "tables.md"
    pairs = docs / "few-pairs.md"
    weak = [row for item in WEAK for row in rows[item]]
    weak.sort(key=lambda row: (list(STUDIES).index(row["dataset"]), MODELS.index(row["model"])))
    for file, name, content in (
        (pairs, "table8", by_level([row for row in weak if row["budget"] == "laptop"])),
        (pairs, "paper", by_level([row for row in weak if row["budget"] == "paper"])),
        (docs / "vision.md", "vision", tasks(rows["vision"])),
        (docs / "translation.md", "table4", sentences(rows["table4"])),
        (readme, "results", measured(longer["table2"])),
        (coupling, "measured", measured([row for row in longer["table2"] if row["model"] == "mvae"])),
        (readme, "aims", reached),
        (coupling, "aims", reached),
        (coupling, "map", coupling_map(rows["lambda"])),
        (tables, "longer2", measured(longer["table2"])),
        (tables, "longer3", measured(longer["table3"], VARIANCES)),
        (tables, "figure2", agreements(rows["figure2"])),
        (tables, "table2", measured(laptop["table2"])),
        (tables, "table3", measured(laptop["table3"], VARIANCES)),
        (tables, "table6", measured(laptop["table6"], METRICS[:3])),
        (tables, "table7", measured(laptop["table7"], VARIANCES)),
    ):
        file.write_text(fill(file.read_text(), name, content))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
