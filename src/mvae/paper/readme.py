"""`python -m mvae.paper.readme`: write the tables of README.md and of docs/research/ from results/."""

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mvae.errors import DataError
from mvae.paper.few_pairs import FEW_PAIRS, METRIC, STUDIES, WEAK_MODELS, accuracies, name_of_line
from mvae.paper.paired import REFERENCE
from mvae.paper.results import RowDict, Summary, read_rows, summaries
from mvae.paper.tables import PAPER_MODELS
from mvae.paper.translation import shares

METRICS = ("log p(x1)", "log p(x1,x2)", "log p(x1|x2)", "accuracy x1->x2", "coupling")
VARIANCES = ("var log w p(x1)", "var log w p(x1,x2)", "var log w p(x1|x2)")
RUN = ("dataset", "model", "recipe", "budget", "n", "seed")

_Rows = Sequence[RowDict]


def in_columns(headings: Sequence[str], lines: Iterable[Sequence[object]], left: Iterable[int] = (0,)) -> str:
    """A Markdown table; the columns whose numbers are in ``left`` are left-aligned.

    >>> print(in_columns(["a", "b"], [["x", 1]]))
    | a | b |
    |---|---:|
    | x | 1 |
    """
    left = set(left)
    rule = "".join("---|" if i in left else "---:|" for i in range(len(headings)))
    written = ("".join(f" {cell} |" if cell != "" else " |" for cell in line) for line in (headings, *lines))
    head, *body = (f"|{line}" for line in written)
    return "\n".join([head, f"|{rule}", *body])


def _by(rows: _Rows, key: Callable[[RowDict], Hashable]) -> dict[Any, dict[str, RowDict]]:
    """Rows by key and metric; of several, the last counts."""
    found: dict[Any, dict[str, RowDict]] = {}
    for row in rows:
        found.setdefault(key(row), {})[row["metric"]] = row
    return found


def runs_table(rows: _Rows, metrics: Sequence[str] = METRICS) -> str:
    """One line per run: our numbers with the published value of the same model in brackets.

    A run is a dataset, model, recipe, budget, number of rows, seed, commit, device and date.
    """
    lines = []
    for found in _by(rows, lambda row: tuple(row[key] for key in (*RUN, "commit", "device", "date"))).values():
        falls = next(iter(found.values())).get("settings", {}).get("decay_epochs")
        lines.append(_line(found, metrics, f" (rate falls over {falls})" if falls else ""))
    return in_columns(_headings(metrics), lines, range(4))


def paired_table(rows: _Rows) -> str:
    """One line per run: how far it is above the MVAE on the same test rows, with the difference of published values."""
    apart = [row for row in rows if f" − {REFERENCE} " in row["metric"]]
    metrics = list(dict.fromkeys(row["metric"] for row in apart))
    runs = _by(apart, lambda row: tuple(row[key] for key in RUN)).values()
    return in_columns(_headings(metrics), [_line(found, metrics) for found in runs], range(4))


def _headings(metrics: Sequence[str]) -> list[str]:
    return ["dataset", "model", "budget, test rows", "seed", *(metric.replace("|", "\\|") for metric in metrics)]


def _line(found: Mapping[str, RowDict], metrics: Sequence[str], note: str = "") -> list[object]:
    """A run's rows by metric, below `_headings`."""
    one = next(iter(found.values()))
    budget = f"{one['budget']}{note}, {one['n']:,}"
    return [one["dataset"], _model(one), budget, one["seed"], *(_cell(found.get(metric)) for metric in metrics)]


def _model(row: RowDict) -> str:
    return f"mvae, `{row['recipe']}`" if row["model"] == "mvae" else row["model"]


def _cell(row: RowDict | None) -> str:
    if row is None:
        return "–"
    text = f"{row['value']:.1%}" if row["metric"].startswith("accuracy") else f"{row['value']:.2f}"
    if row["stderr"] is not None:
        text += f" ± {row['stderr']:.2f}"
    return text if row["paper"] is None else f"{text} ({row['paper']:.3f})"


def coupling_table(rows: _Rows) -> str:
    """One line per cell of the map of `mvae reproduce lambda`: means over its seeds."""

    def cell(row: RowDict) -> tuple[str, ...]:
        settings = row["settings"]
        pairs = "all" if settings["pairs"] is None else f"{settings['pairs']:.0%} × {settings['repeat_pairs']}"
        annealed = f"{settings['anneal_epochs']} of {settings['epochs']}"
        return row["dataset"], _model(row), f"{settings['weights']['label']:g}", annealed, pairs

    cells: dict[tuple[str, ...], dict[str, Summary]] = {}
    for one in summaries(rows, lambda row: (cell(row), row["metric"])):
        cells.setdefault(cell(one.row), {})[one.row["metric"]] = one
    lines = []
    for key, found in sorted(cells.items(), key=lambda item: item[0][-1] != "all"):  # few pairs last
        mean = {metric: one.value for metric, one in found.items()}
        gap = mean["log p(x1,x2)"] - mean["log p(x1)"]
        numbers = f"{mean['log p(x1)']:.2f}", f"{gap:.2f}", f"{mean['accuracy x1->x2']:.1%}", f"{mean['coupling']:.2f}"
        lines.append([*key, found["log p(x1)"].seeds, *numbers])
    headings = ["dataset", "model", "λ2", "epochs annealed", "pairs", "seeds"]
    headings += ["log p(x1)", "joint − marginal", "label from image", "C"]
    return in_columns(headings, lines, left=(0, 1, 3, 4))


def few_pairs_table(rows: _Rows) -> str:
    """One line per model, one column per paired fraction: accuracy of x2 from x1 in %, published in brackets.

    Several seeds are given as their mean with its standard error.
    """
    curves: dict[tuple[str, str], dict[float, Summary]] = {}
    for one in accuracies(rows):
        if one.row["metric"] == METRIC:
            key = one.row["dataset"], name_of_line(one.row)
            curves.setdefault(key, {})[one.row["settings"]["pairs"]] = one
    levels = sorted({level for curve in curves.values() for level in curve})
    lines = []
    for key, curve in curves.items():
        seeds = sorted({one.seeds for one in curve.values()})
        shown = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        lines.append([*key, shown, *(_percent(curve.get(level)) for level in levels)])
    return in_columns(["dataset", "model", "seeds", *(f"{level:.1%}" for level in levels)], lines, range(2))


def _percent(one: Summary | None) -> str:
    if one is None:
        return "–"
    text = f"{100 * one.value:.1f}"
    if one.stderr is not None:
        text += f" ± {100 * one.stderr:.1f}"
    return text if one.row["paper"] is None else f"{text} ({100 * one.row['paper']:.1f})"


def goals_table(rows: _Rows) -> str:
    """The runs of `coupled` on MNIST with a falling learning rate, below what a coupled model should reach."""
    coupled = [row for row in rows if row["dataset"] == "mnist" and row["recipe"] == "coupled"]
    coupled = [row for row in coupled if row["settings"].get("decay_epochs")]
    lines: list[Sequence[object]] = [["aim", "", "", "≥ -90.62", "≥ -0.30", "≥ 96.8%", "≥ 95%", "< 0.5"]]
    for key, by_metric in _by(coupled, lambda row: (row["dataset"], row["budget"], row["seed"])).items():
        found = {metric: row["value"] for metric, row in by_metric.items()}
        if "agreement x2->x1" in found:  # its conditional coherence is known
            right, coherence = f"{found['accuracy x1->x2']:.1%}", f"{found['agreement x2->x1']:.1%}"
            gap, kl = found["log p(x1,x2)"] - found["log p(x1)"], found["KL all - KL x1"]
            lines.append([*key, f"{found['log p(x1)']:.2f}", f"{gap:.2f}", right, coherence, f"{kl:.2f}"])
    numbers = ["log p(x1)", "joint − marginal", "label from image", "coherence", "KL(all) − KL(image)"]
    return in_columns(["dataset", "budget", "seed", *numbers], lines, range(3))


def coherence_table(rows: _Rows) -> str:
    """One line per run of Figure 2: the conditional coherence, and the classifier's accuracy on real images."""
    runs = _by(rows, lambda row: (row["dataset"], _model(row), row["budget"], row["seed"]))
    lines = []
    for key, found in sorted(runs.items(), key=lambda run: run[0][0]):
        values = (found[metric]["value"] for metric in ("agreement x2->x1", "classifier accuracy on test rows"))
        lines.append([*key, *(f"{value:.1%}" for value in values)])
    return in_columns(["dataset", "model", "budget", "seed", "coherence", "classifier on real images"], lines, range(4))


def tasks_table(rows: _Rows) -> str:
    """One line per task of the image transformations, each measure and its references, averaged over seeds."""
    tasks: dict[str, dict[str, float]] = {}
    for one in summaries(rows, lambda row: row["metric"]):
        head, _, who = one.row["metric"].partition(", ")
        task, measure = head.rsplit(" ", 1)
        tasks.setdefault(task, {})[f"{measure}, {who}" if who else measure] = one.value
    whose = ("", ", training mean", ", nearest neighbour")
    lines = []
    for task, mean in tasks.items():
        cells = [_in(mean.get(f"NLL{who}"), ",.0f") for who in whose]
        cells += [
            _in(mean[f"F1{who}"], ".2f") if f"F1{who}" in mean else _in(mean.get(f"PSNR{who}"), ".1f") for who in whose
        ]
        cells += [_in(mean.get(f"SSIM{who}"), ".2f") for who in whose]
        lines.append([task.replace("->", " → "), *cells])
    headings = [part for name in ("NLL", "PSNR or F1", "SSIM") for part in (name, "training mean", "neighbour")]
    return in_columns(["task", *headings], lines)


def sentences_table(rows: _Rows) -> str:
    """One line per number of Table 4, and a column per share of pairs, number of rows and budget; several runs give
    their mean with its standard error."""

    def column(row: RowDict) -> tuple[float, int | None, str]:
        return row["settings"]["level"], row["settings"]["rows"], row["budget"]

    groups: dict[tuple[float, int | None, str], list[RowDict]] = {}
    for row in rows:
        groups.setdefault(column(row), []).append(row)
    found = {key: {one.row["metric"]: one for one in shares(group)} for key, group in groups.items()}
    order = sorted(found, key=lambda key: (key[1] is not None, key[2] == "laptop", -key[0]))  # all rows first
    headings = [
        f"{level:.1%}" + (f" of {of:,}" if of else "") + ("" if budget == "laptop" else f", {budget}")
        for level, of, budget in order
    ]
    lines = []
    for metric in dict.fromkeys(metric for key in order for metric in found[key]):
        cells = []
        for one in (found[key].get(metric) for key in order):
            text = _in(None if one is None else one.value, ",.1f" if "share" not in metric else ".0%")
            cells.append(text if one is None or one.stderr is None else f"{text} ± {one.stderr:.1f}")
        lines.append([metric.replace("->", " → "), *cells])
    return in_columns(["", *headings], lines)


def _in(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


Table = Callable[[Path], str]  # of the folder results/


def table_of(
    table: Callable[[_Rows], str],
    *items: str,
    where: Callable[[RowDict], bool] = lambda row: True,
    order: Callable[[RowDict], Any] | None = None,
) -> Table:
    """A table of the items' rows that fulfil a condition, in their order in the results or in the given one."""

    def made(results: Path) -> str:
        rows = [row for item in items for row in read_rows(results / f"{item}.json") if where(row)]
        return table(rows if order is None else sorted(rows, key=order))

    return made


def _in_the_papers_order(row: RowDict) -> tuple[str, int, bool]:
    model = row["model"]
    place = PAPER_MODELS.index(model) if model in PAPER_MODELS else len(PAPER_MODELS)
    return row["dataset"], place, row["recipe"] == "coupled"


def _few_pairs_order(row: RowDict) -> tuple[int, int]:
    return list(STUDIES).index(row["dataset"]), WEAK_MODELS.index(row["model"])


def _at_laptop(row: RowDict) -> bool:
    return row["budget"] == "laptop"


def _longer(row: RowDict) -> bool:
    return row["budget"] != "laptop"


_few_pairs = partial(table_of, few_pairs_table, *(item.name for item in FEW_PAIRS), order=_few_pairs_order)
_ordered = partial(table_of, order=_in_the_papers_order)
_laptop = partial(_ordered, where=_at_laptop)
_variances, _RESEARCH = partial(runs_table, metrics=VARIANCES), "docs/research"
TABLES_OF_DOCUMENTS: dict[tuple[str, str], Table] = {  # (file, marker) → table
    ("README.md", "results"): table_of(runs_table, "table2", where=lambda row: _longer(row) and row["seed"] == 0),
    (f"{_RESEARCH}/few-pairs.md", "table8"): _few_pairs(where=_at_laptop),
    (f"{_RESEARCH}/few-pairs.md", "paper"): _few_pairs(where=lambda row: row["budget"] == "paper"),
    (f"{_RESEARCH}/vision.md", "vision"): table_of(tasks_table, "vision"),
    (f"{_RESEARCH}/translation.md", "table4"): table_of(sentences_table, "table4"),
    (f"{_RESEARCH}/coupling.md", "measured"): table_of(
        runs_table, "table2", where=lambda row: _longer(row) and row["model"] == "mvae"
    ),
    (f"{_RESEARCH}/coupling.md", "aims"): table_of(goals_table, "table2", "figure2"),
    (f"{_RESEARCH}/coupling.md", "map"): table_of(coupling_table, "lambda"),
    (f"{_RESEARCH}/tables.md", "longer2"): table_of(runs_table, "table2", where=_longer),
    (f"{_RESEARCH}/tables.md", "paired"): table_of(paired_table, "table2", where=_longer),
    (f"{_RESEARCH}/tables.md", "longer3"): table_of(_variances, "table3", where=_longer),
    (f"{_RESEARCH}/tables.md", "figure2"): table_of(coherence_table, "figure2"),
    (f"{_RESEARCH}/tables.md", "table2"): _laptop(runs_table, "table2"),
    (f"{_RESEARCH}/tables.md", "table3"): _laptop(_variances, "table3"),
    (f"{_RESEARCH}/tables.md", "table6"): _ordered(partial(runs_table, metrics=METRICS[:3]), "table6"),
    (f"{_RESEARCH}/tables.md", "table7"): _ordered(_variances, "table7"),
}


def fill(text: str, name: str, content: str) -> str:
    """Replace the text between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        DataError: one of them is absent.

    >>> fill("a <!-- x -->old<!-- /x --> b", "x", "new").split()
    ['a', '<!--', 'x', '-->', 'new', '<!--', '/x', '-->', 'b']
    """
    head, begin, rest = text.partition(f"<!-- {name} -->")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    if not (begin and end):
        raise DataError(f"no place for a table: the document lacks <!-- {name} --> or <!-- /{name} -->")
    return f"{head}<!-- {name} -->\n{content}\n<!-- /{name} -->{tail}"


def fill_documents(tables: Mapping[tuple[str, str], Table], root: Path) -> None:
    """Fill in the tables of files, (file, marker) → table, in the folder of a checkout."""
    for (file, marker), table in tables.items():
        path = root / file
        path.write_text(fill(path.read_text(), marker, table(root / "results")))


if __name__ == "__main__":
    fill_documents(TABLES_OF_DOCUMENTS, Path(*sys.argv[1:]))
