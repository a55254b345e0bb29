"""The studies' tables in docs/research and the README: generated from results/, so that no number is copied by hand.

Run it in a checkout: python -m mvae.studies.documents
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from mvae.paper.readme import Table, fill_documents, in_columns, table_of
from mvae.paper.results import RowDict
from mvae.studies.polymnist_measures import FITTED, FLOW, LARGEST
from mvae.studies.polymnist_show import CLASSIFIERS, COLUMNS, numbers_of_runs, published
from mvae.studies.table_sets import SETS, SKLEARN
from mvae.studies.tables import NEIGHBOURS, NO_COPIES

BESIDE = ("mean", "kNN", "iterated ridge", "ridge with draws", "iterated trees", "miceforest")
SHARES = COLUMNS | {"0 flow": f"unconditional coherence{FLOW}", "0 largest": LARGEST}
LIKELIHOODS = tuple(f"log p(x){suffix}" for suffix in ("", FITTED, FLOW))


def _values(rows: Iterable[RowDict]) -> dict[tuple[str, str], dict[tuple[str, str], list[float]]]:
    """(table, what is hidden) → (model, metric) → the values over masks."""
    found: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for row in rows:
        own = found.setdefault((row["dataset"], row["settings"]["hidden"]), {})
        own.setdefault((row["model"], row["metric"]), []).append(row["value"])
    return dict(sorted(found.items(), key=lambda item: (SETS.index(item[0][0]), item[0][1])))


def errors_table(rows: Sequence[RowDict]) -> str:
    """A line for each table and pattern of hidden cells: the errors, and the coverage of the 90 % intervals."""
    lines = []
    for (table, hidden), values in _values(rows).items():
        for metric, of in (("error", ""), (NO_COPIES, ", rows without a copy")):
            if ("mvae", metric) not in values:
                continue
            errors = {model: mean(values[model, metric]) for model in ("mvae", *BESIDE) if (model, metric) in values}
            if beside := values.get(("mvae", metric + NEIGHBOURS)):
                errors[NEIGHBOURS] = mean(beside)
            least = f"{min(errors.values()):.3f}"
            said = {m: f"**{e:.3f}**" if f"{e:.3f}" == least else f"{e:.3f}" for m, e in errors.items()}
            held = values.get(("mvae", "coverage")) if metric == "error" else None
            holds = "" if held is None else f"{mean(held):.2f}".lstrip("0")
            masks = len(values["mvae", metric])
            others = (said.get(model, "") for model in (NEIGHBOURS, *BESIDE))
            lines.append([table, hidden + of, masks, said["mvae"], holds, *others])
    headings = ["table", "hidden", "masks", "ours", "coverage of 90 % intervals", f"ours{NEIGHBOURS}", *BESIDE]
    some = [i for i, heading in enumerate(headings) if NEIGHBOURS not in heading or any(line[i] for line in lines)]
    return in_columns([headings[i] for i in some], [[line[i] for i in some] for line in lines], range(2))


def own_tables(rows: Sequence[RowDict]) -> str:
    """A few lines of `errors_table`, for the README."""
    few = ("cells 30 %", "views 30 %")
    return errors_table([row for row in rows if row["dataset"] in SKLEARN and row["settings"]["hidden"] in few])


def targets_table(rows: Sequence[RowDict]) -> str:
    """A line for each target and kind of outlier: our value, and those of the baselines."""
    lines = []
    for (table, what), values in _values(rows).items():
        if ("mvae", "error") in values:
            continue
        metric = next(metric for model, metric in values if model == "mvae")
        ours = values["mvae", metric]
        beside = [f"{m} {mean(v):.3f}" for (m, of), v in values.items() if m != "mvae" and of == metric]
        lines.append([table, f"{what}: {metric}", len(ours), f"{mean(ours):.3f}", ", ".join(beside)])
    return in_columns(["table", "what", "masks", "ours", "beside it"], lines, range(2))


def polymnist_table(rows: Sequence[RowDict]) -> str:
    """A line for each run, with the mean accuracy of its classifiers; then the published values."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}".lstrip("0")

    lines: list[list[object]] = []
    for name, missing, budget, seed, found in numbers_of_runs(rows):
        shares = (share(found.get(metric)) for metric in SHARES.values())
        nats = (f"{found[metric]:.0f}" if metric in found else "" for metric in LIKELIHOODS)
        lines.append([name + missing, f"{budget}, seed {seed}", *shares, *nats, share(found[CLASSIFIERS])])
    rest = [""] * (len(SHARES) - 4 + len(LIKELIHOODS) + 1)
    lines += [[one["model"], "published", *map(share, one["given"]), *rest] for one in published()["coherence"]]
    return in_columns(["model", "budget", *SHARES, *LIKELIHOODS, "classifiers"], lines, range(2))


def pooling_table(rows: Sequence[RowDict]) -> str:
    """A line for each effect: each method's bias with its standard error, and the coverage of its 95 % intervals."""
    found = {(row["model"], row["metric"]): row for row in rows}
    methods = dict.fromkeys(row["model"] for row in rows)
    effects = dict.fromkeys(row["metric"].split()[-1] for row in rows)

    def cell(method: str, effect: str) -> str:
        bias, hit = found[method, f"bias of {effect}"], found[method, f"coverage of {effect}"]["value"]
        return f"{bias['value']:+.3f} ± {bias['stderr']:.3f}, {hit:.0%}"

    lines = [[effect, *(cell(method, effect) for method in methods)] for effect in effects]
    return in_columns(["effect", *methods], lines, range(1))


TABLES_OF_DOCUMENTS: dict[tuple[str, str], Table] = {
    ("README.md", "own tables"): table_of(own_tables, "tables"),
    ("docs/research/tables-with-holes.md", "errors"): table_of(errors_table, "tables"),
    ("docs/research/tables-with-holes.md", "targets"): table_of(targets_table, "tables"),
    ("docs/how-to/missing-data.md", "pooling"): table_of(pooling_table, "pooling"),
    ("docs/research/polymnist.md", "measured"): table_of(polymnist_table, "polymnist"),
}

if __name__ == "__main__":
    fill_documents(TABLES_OF_DOCUMENTS, Path(*sys.argv[1:]))
