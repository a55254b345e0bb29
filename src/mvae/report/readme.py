"""`python -m mvae.report.readme`: write the tables of README.md and docs/coupling.md from results/."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvae.report.results import read_rows

__all__ = ["fill", "measured"]

METRICS = ("log p(x1)", "log p(x1,x2)", "log p(x1|x2)", "accuracy x1->x2", "coupling")


def measured(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a run: our numbers with the published value of the same model in brackets.

    A run is a dataset, model, recipe, budget, number of rows, seed, commit, device and date.
    """
    runs: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[k] for k in ("dataset", "model", "recipe", "budget", "n", "seed", "commit", "device", "date"))
        runs.setdefault(key, {})[row["metric"]] = row
    lines = [
        "| dataset | model | budget, test rows | seed | " + " | ".join(m.replace("|", "\\|") for m in METRICS) + " |",
        "|---|---|---|---|" + "---:|" * len(METRICS),
    ]
    for (dataset, model, recipe, budget, n, seed, *_), found in runs.items():
        name = f"{model}, `{recipe}`" if model == "mvae" else model
        cells = [_cell(found.get(metric)) for metric in METRICS]
        if falls := next(iter(found.values())).get("settings", {}).get("decay_epochs"):
            budget = f"{budget} (rate falls over {falls})"
        lines.append(f"| {dataset} | {name} | {budget}, {n:,} | {seed} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
    """Fill both files, in the folder of the checkout."""
    table = measured(read_rows(root / "results" / "table2.json"))
    for file, name in ((root / "README.md", "results"), (root / "docs" / "coupling.md", "measured")):
        file.write_text(fill(file.read_text(), name, table))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
