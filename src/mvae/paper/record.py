"""An evaluation as rows of results/: Tables 2 and 3 for proposal q(z|x1), Tables 6 and 7 for q(z|x1,x2)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvae.files import read_json
from mvae.paper.experiments import experiment
from mvae.paper.published import published
from mvae.paper.results import Row, add_rows
from mvae.paper.settings import Settings
from mvae.provenance import circumstances
from mvae.runs.run import Evaluation, Run
from mvae.training.checkpoint import SETTINGS, read_metrics

__all__ = ["by_hand", "common", "improvement", "record", "row_settings", "rows_of"]

UNCONVERGED = 0.5  # nats that the validation objective may still gain over the last fifth of training


def improvement(run_dir: Path) -> float | None:
    """Nats by which the best validation objective fell over the last 20 % of training; None if β was not 1 before."""
    rows = read_metrics(run_dir)
    objective = [row.get("validation/objective") for row in rows]
    at = len(rows) - 1 - max(1, round(0.2 * len(rows)))
    if at < 0 or rows[at]["beta"] < 1 or objective[at] is None or objective[-1] is None:
        return None
    return min(o for o in objective[: at + 1] if o is not None) - min(o for o in objective if o is not None)


def row_settings(settings: Settings) -> dict[str, Any]:
    """A run's settings as a row has them: without what is a key of the row itself."""
    own = ("dataset", "model", "recipe", "seed")
    return {key: value for key, value in asdict(settings).items() if key not in own}


def rows_of(run: Run, evaluation: Evaluation, budget: str, command: str) -> list[Row]:
    """A row for every number of the evaluation that a table of the paper has, and the accuracy beside it."""
    joint = len(evaluation.proposal) > 1
    names = run.splits.test.names
    as_printed = tuple(evaluation.proposal) in (names[:1], names)  # the paper has no other proposals
    means, variances = ("table6", "table7") if joint else ("table2", "table3")
    how = {"proposal": list(evaluation.proposal), "samples": evaluation.samples}
    shared = common(run, budget, command, evaluation.rows, how)
    settings = shared["settings"]
    rows = []

    def add(item: str, metric: str, value: float, stderr: float | None, extra: Mapping[str, Any] | None = None) -> None:
        paper = published(item, run.settings.model, run.settings.dataset, metric) if as_printed else None
        own: dict[str, Any] = {**shared, "settings": settings | dict(extra or {})}
        rows.append(Row(item=item, metric=metric, value=value, stderr=stderr, paper=paper, **own))

    for name, value in evaluation.likelihoods.items():
        quality = {
            "effective_samples": round(float(value.effective_samples.mean()), 1),
            "pareto_k": round(float(value.pareto_k.mean()), 3),
        }
        add(means, name, round(value.mean, 4), round(value.standard_error, 4), quality)
        spread = value.log_weight_variance.double()
        error = float(spread.std() / len(spread) ** 0.5) if len(spread) > 1 else None
        add(variances, f"var log w {name.removeprefix('log ')}", round(value.variance, 4), error and round(error, 4))
    first, *others = run.splits.test.names
    said = evaluation.instruments
    if not joint:
        for suffix in ("", " whole"):  # x2 is all that is not x1: of MVAE19, eighteen attributes
            found = [said[name] for name in (f"accuracy {first}->{other}{suffix}" for other in others) if name in said]
            if found:
                add(means, f"accuracy x1->x2{suffix}", round(sum(found) / len(found), 4), None)
        if "coupling" in said:
            add(means, "coupling", round(said["coupling"], 4), None)
    kl = [said.get(f"kl complete/{name}") for name in ("full", run.model.names[0])]
    if kl[0] is not None and kl[1] is not None and not joint:
        add(means, "KL all - KL x1", round(kl[0] - kl[1], 4), None)  # what the others add to the first's posterior
    return rows


def common(run: Run, budget: str, command: str, n: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """What every row about a run says: its settings (and how it was measured), command, commit, device and date."""
    gain = improvement(run.directory)
    best = {"best_epoch": run.progress.get("best_epoch"), "unconverged": gain is None or gain > UNCONVERGED}
    if "seconds" in run.progress:
        best["train_minutes"] = round(run.progress["seconds"] / 60, 2)
    stored = read_json(run.directory / SETTINGS)
    now = circumstances(run.model.device)
    return {
        "dataset": run.settings.dataset,
        "model": run.settings.model,
        "budget": budget,
        "recipe": run.settings.recipe,
        "seed": run.settings.seed,
        "command": command,
        "settings": {**row_settings(run.settings), **how, **best},
        "n": n,
        **now,
        "commit": stored.get("commit", now["commit"]),
    }


def by_hand(run: Run) -> tuple[str, str]:
    """The budget (the share of the paper's epochs) and the commands of what is done outside `mvae reproduce`."""
    epochs = experiment(run.settings.dataset).epochs
    budget = "paper" if run.settings.epochs == epochs else f"{run.settings.epochs} of {epochs} epochs"
    if run.settings.start_from is not None:
        budget += " after another run"
    trained = read_json(run.directory / SETTINGS)["command"]
    return budget, f"{trained} && {' '.join(['mvae', *sys.argv[1:]])}"


def record(rows: Sequence[Row], results: Path) -> None:
    """Add rows to results/ITEM.json.

    Raises:
        RunError: a results file is damaged or cannot be written.
    """
    for item in dict.fromkeys(row.item for row in rows):
        add_rows(results / f"{item}.json", [row for row in rows if row.item == item])
