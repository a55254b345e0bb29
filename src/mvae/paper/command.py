"""`mvae reproduce`: every table and figure of the paper; `mvae paper-score`: the paper's numbers for one run."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, PATH, RUN, SEED, common, print_json

FLAGS = ("--datasets", "--models", "--recipes", "--levels", "--seeds", "--budget", "--jobs", "--engine")
RESULTS = click.option(
    "--results", type=PATH, default="results", show_default=True, help="Directory of the recorded results."
)


@click.command("reproduce")
@click.argument("item", required=False)
@click.option(
    "--list", "list_items", is_flag=True, help="List every item with its needs and past training time, and the budgets."
)
@click.option("--datasets", help="Datasets, separated by commas.  [default: the item's own, or mnist]")
@click.option("--models", help="Models, separated by commas.  [default: the paper's]")
@click.option(
    "--recipes",
    help="Objectives of the MVAE, separated by commas: paper, coupled.  [default: paper for figure9 and figure10; "
    "coupled for table4, its sentences and vision; else both]",
)
@click.option(
    "--levels",
    help="Paired fractions, separated by commas; for figure9 values of p, for figure10 of k.  [default: the budget's]",
)
@click.option("--seeds", type=click.IntRange(1), help="Number of runs of each, with seeds 0, 1 …  [default: 1]")
@click.option(
    "--budget",
    help="smoke, laptop or paper; also long (tables 2, 3, 6, 7), quick (polymnist), selection (cite-seq).  "
    "[default: laptop]",
)
@click.option("--jobs", type=click.IntRange(1), help="Number of runs trained at once.  [default: 1]")
@click.option(
    "--engine",
    help="Train runs elsewhere: slurm, or local to try it. Needs mvae[cluster].  [default: processes here]",
)
@RESULTS
@click.option(
    "--runs",
    type=PATH,
    default="runs/reproduce",
    show_default=True,
    help="Directory of the trained models.",
)
@common(DATA_DIR, DEVICE, JSON)
def reproduce_command(item: str | None, list_items: bool, as_json: bool, **given: Any) -> None:
    """Reproduce a table or figure: train what is missing, evaluate, record, compare with the published values.

    \b
    Example:  mvae reproduce table1
              mvae reproduce table2 --datasets mnist --models vae,mvae --budget laptop
              mvae reproduce table8 --levels 0.01,0.1 --models nn,mvae --seeds 3 --jobs 4
    """
    from mvae.paper.harness import reproduce
    from mvae.paper.item import Options, Paths, require
    from mvae.paper.items import all_items
    from mvae.paper.results import read_rows
    from mvae.report.figure import require_figures

    results = given["results"]
    if list_items or item is None:
        _list(results)
        return
    items = all_items()
    require("item", [item], items)
    made = items[item]
    takes = {f"--{name}" for name in made.takes} | ({"--engine"} if "jobs" in made.takes else set())
    asked = {f"--{name}" for name in (*(one.name for one in fields(Options)), "engine") if given[name] is not None}
    if wrong := asked - takes:
        listed = ", ".join(flag for flag in FLAGS if flag in takes)
        raise click.UsageError(f"{', '.join(sorted(wrong))}: not for {item}, which takes {listed}")
    options: dict[str, Any] = {name: given[name] for name in ("seeds", "budget", "jobs") if given[name] is not None}
    lists = {name: given[name] for name in ("datasets", "models", "recipes") if given[name] is not None}
    options |= {name: tuple(text.split(",")) for name, text in lists.items()}
    if given["levels"] is not None and made.levels is not None:
        options["levels"] = made.levels.parsed(given["levels"])
    quiet = as_json or options.get("jobs", 1) > 1 or given["engine"]  # several runs would overwrite each other's bars
    where = {"callbacks": () if quiet else None, **{name: given[name] for name in ("data_dir", "device", "engine")}}
    if without := made.left_out(Options(**options), read_rows(results / f"{item}.json")):
        click.echo(without, err=True)
    if made.draw:
        require_figures()
    rows = reproduce(made, Options(**options), Paths(results, given["runs"], **where))
    if made.draw:
        made.draw(rows, results / f"{item}.png")
    if as_json:
        print_json({"item": item, "rows": rows})
    else:
        made.show(item, rows)


def _list(results: Path) -> None:
    """Print every item with its needs and how long its recorded runs took, and the budgets."""
    from mvae.paper.item import WITH_LONG
    from mvae.paper.items import all_items
    from mvae.paper.results import read_rows, training_times

    for name, item in all_items().items():
        click.echo(f"{name:9} {item.summary}")
        if item.needs:
            click.echo(f"{'':9} needs {item.needs}")
        for spent, (number, minutes) in training_times(read_rows(results / f"{name}.json")).items():
            click.echo(f"{'':9} {spent}: {minutes:.0f} minutes of training, runs: {number}, in {results}/")
    for name, budget in WITH_LONG.items():
        click.echo(f"--budget {name:7} {budget.summary}")


@click.command("paper-score")
@RUN
@click.option("--rows", type=click.IntRange(1), help="Number of test rows to score, the first ones.  [default: all]")
@click.option("--samples", type=click.IntRange(2), help="Importance samples per row.  [default: the declaration's]")
@click.option(
    "--proposal", multiple=True, help="Modality given in the proposal q(z | ·). Repeatable.  [default: the first]"
)
@click.option(
    "--coherence", is_flag=True, help="Also measure the conditional coherence of 1,000 generated images (Figure 2)."
)
@click.option("--record", type=PATH, help="Add the numbers to the results in this folder.")
@common(DATA_DIR, SEED, DEVICE, JSON)
def score_command(
    run: Path, rows: int | None, coherence: bool, record: Path | None, as_json: bool, data_dir: Path | None, **how: Any
) -> None:
    """Compute the paper's numbers for a run on one of its datasets: Tables 2 and 3 (or 6 and 7), or 4 (sentences).

    \b
    Example:  mvae paper-score runs/mnist --coherence --record results
    """
    from mvae.paper.figure2 import coherence_rows
    from mvae.paper.record import evaluation_rows, origin_by_hand, record_rows
    from mvae.paper.show import show_comparison
    from mvae.paper.translation import show_shares, translation_rows
    from mvae.runs.evaluation import evaluate
    from mvae.runs.run import open_run
    from mvae.runs.translate import languages
    from mvae.training.progress import shown

    opened = open_run(run, data_dir=data_dir, device=how["device"])
    origin, sentences = origin_by_hand(opened), languages(opened) == opened.model.names
    with shown("scoring test rows") as progress:
        if sentences:
            found = translation_rows(opened, origin, data_dir, rows, how["samples"])
        else:
            asked = {
                "samples": how["samples"],
                "proposal": how["proposal"] or opened.model.known[:1],
                "seed": how["seed"],
            }
            found = evaluation_rows(opened, evaluate(opened, rows=rows, progress=progress, **asked), origin)
    if coherence:
        found += coherence_rows(opened, origin, run.parent)
    if record is not None:
        record_rows(found, record)
    if as_json:
        print_json({"run": str(run), **{row.metric: row.value for row in found}})
    else:
        (show_shares if sentences else show_comparison)(str(run), [asdict(row) for row in found])
