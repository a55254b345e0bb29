"""Turn measurements into rows of results/, with everything needed to measure them again."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mvae.files import read_json
from mvae.paper.cell import DEFAULTS, Cell, cell_of, experiment
from mvae.paper.published import published
from mvae.paper.results import Row, add_rows, new_row, read_rows, standard_error
from mvae.provenance import circumstances
from mvae.runs.evaluation import Evaluation
from mvae.runs.run import Run
from mvae.training.checkpoint import SETTINGS, read_metrics

UNCONVERGED = 0.5  # nats that the validation objective may still gain over the last fifth of training


@dataclass(frozen=True)
class Origin:
    """Where a number comes from: the cell, the budget it was trained at, and the command that reproduces it."""

    cell: Cell
    budget: str
    command: str


def improvement(run_dir: Path) -> float | None:
    """Nats by which the best validation objective fell over the last 20 % of training; None if β was below 1 before."""
    rows = read_metrics(run_dir)
    objective = [row.get("validation/objective") for row in rows]
    at = len(rows) - 1 - max(1, round(0.2 * len(rows)))
    if at < 0 or rows[at]["beta"] < 1 or objective[at] is None or objective[-1] is None:
        return None
    return min(o for o in objective[: at + 1] if o is not None) - min(o for o in objective if o is not None)


def shared_fields(run: Run | None, origin: Origin, n: int, **how: Any) -> dict[str, Any]:
    """The fields that a run's rows share: settings (and ``how`` it was measured), command, commit, device and date.

    Args:
        run: the run; None for a baseline that is not a network, which runs on the CPU.
        origin: where the numbers come from.
        n: the number of test rows.
        how: further settings.
    """
    device = torch.device("cpu") if run is None else run.model.device
    cell, now, settings = origin.cell, circumstances(device), {**origin.cell.settings, **how}
    if run is not None:
        gain = improvement(run.directory)
        settings |= {"best_epoch": run.progress.get("best_epoch"), "unconverged": gain is None or gain > UNCONVERGED}
        if "seconds" in run.progress:
            settings["train_minutes"] = round(run.progress["seconds"] / 60, 2)
        now["commit"] = read_json(run.directory / SETTINGS).get("commit", now["commit"])
    identity = {"dataset": cell.dataset, "model": cell.model, "recipe": cell.recipe, "seed": cell.seed}
    return {**identity, "budget": origin.budget, "command": origin.command, "settings": settings, "n": n, **now}


def evaluation_rows(run: Run, evaluation: Evaluation, origin: Origin) -> list[Row]:
    """A row for every number of the evaluation that is in a table of the paper, and for its accuracy and coupling.

    Tables 2 and 3 use the proposal q(z | x1), Tables 6 and 7 q(z | x1, x2).
    """
    joint, names = len(evaluation.proposal) > 1, run.data.test.names
    as_printed = tuple(evaluation.proposal) in (names[:1], names)  # the paper has no other proposals
    means, variances = ("table6", "table7") if joint else ("table2", "table3")
    how = {"proposal": list(evaluation.proposal), "samples": evaluation.samples}
    shared = shared_fields(run, origin, evaluation.rows, **how)
    rows = []

    def add(item: str, metric: str, value: float, stderr: float | None = None, **extra: float) -> None:
        paper = published(item, origin.cell.model, origin.cell.dataset, metric) if as_printed else None
        rows.append(new_row(item, metric, value, stderr, shared | {"settings": shared["settings"] | extra}, paper))

    for name, value in evaluation.likelihoods.items():
        effective, k = float(value.effective_samples.mean()), float(value.pareto_k.mean())
        quality = {"effective_samples": round(effective, 1), "pareto_k": round(k, 3)}
        add(means, name, value.mean, value.standard_error, **quality)
        error = standard_error(value.log_weight_variance.double())
        add(variances, f"var log w {name.removeprefix('log ')}", value.variance, error)
    for metric, value in () if joint else _instruments(evaluation.instruments, names).items():
        add(means, metric, value)
    return rows


def _instruments(found: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The accuracy of x2 from x1, the coupling, and the KL that the others add to the first one's posterior."""
    first, *others = names
    result = {}
    for suffix in ("", " whole"):  # x2 is everything but x1: for MVAE19, eighteen attributes
        parts = [found[name] for name in (f"accuracy {first}->{other}{suffix}" for other in others) if name in found]
        if parts:
            result[f"accuracy x1->x2{suffix}"] = sum(parts) / len(parts)
    if "coupling" in found:
        result["coupling"] = found["coupling"]
    if (full := found.get("kl complete/full")) is not None and (own := found.get(f"kl complete/{first}")) is not None:
        result["KL all - KL x1"] = full - own
    return result


def origin_by_hand(run: Run) -> Origin:
    """The origin of a run trained outside `mvae reproduce`; its budget is its share of the paper's epochs."""
    cell = cell_of(run.config)
    epochs, all_epochs = cell["epochs"], experiment(cell.dataset).training.epochs
    budget = "paper" if epochs == all_epochs else f"{epochs} of {all_epochs} epochs"
    if cell["start_from"] is not None:
        budget += " after another run"
    trained = read_json(run.directory / SETTINGS)["command"]
    return Origin(cell, budget, f"{trained} && {' '.join(['mvae', *sys.argv[1:]])}")


def recorded(results: Path, item: str, cell: Cell, budget: str) -> list[dict[str, Any]]:
    """Rows of an item that were made with exactly the settings of a cell at this budget."""
    wanted, rows = cell.identity(), []
    for row in read_rows(results / f"{item}.json"):
        own = DEFAULTS | {name: row[name] for name in ("dataset", "model", "recipe", "seed")} | row["settings"]
        if row["budget"] == budget and all(own.get(key) == value for key, value in wanted.items()):
            rows.append(row)
    return rows


def record_rows(rows: Sequence[Row], results: Path) -> None:
    """Add rows to results/ITEM.json.

    Raises:
        RunError: a results file is damaged or cannot be written.
    """
    for item in dict.fromkeys(row.item for row in rows):
        add_rows(results / f"{item}.json", [row for row in rows if row.item == item])
