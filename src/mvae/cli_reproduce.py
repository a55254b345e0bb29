"""`mvae reproduce`: every table and figure of the paper, one command each."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from mvae.cli_options import DATA_DIR, DEVICE, JSON, common, print_json

__all__ = ["reproduce"]


@click.command()
@click.argument("item", required=False)
@click.option("--list", "list_items", is_flag=True, help="Every item, what it needs and has taken, and the budgets.")
@click.option("--datasets", help="Separated by commas.  [default: the item's own, or mnist]")
@click.option("--models", help="Separated by commas.  [default: the paper's]")
@click.option("--recipes", help="Of the MVAE, separated by commas.  [default: paper,coupled; figure9, figure10: paper]")
@click.option(
    "--levels",
    help="Separated by commas; shares of pairs, but of figure9 p, of figure10 k.  [default: the budget's]",
)
@click.option("--seeds", default=1, show_default=True, help="Runs of each, with seeds 0, 1 …")
@click.option("--budget", default="laptop", show_default=True, help="smoke, laptop or paper.")
@click.option("--jobs", default=1, show_default=True, help="Of all that train many models: runs at once.")
@click.option(
    "--engine",
    help="Where they run instead of in processes of this machine: slurm (or local, to try it). Needs mvae[cluster].",
)
@click.option("--results", type=click.Path(path_type=Path), default="results", show_default=True, help="Where rows go.")
@click.option("--runs", "runs_dir", type=click.Path(path_type=Path), default="runs/reproduce", show_default=True)
@common(DATA_DIR, DEVICE, JSON)
def reproduce(
    item: str | None,
    list_items: bool,
    datasets: str | None,
    models: str | None,
    recipes: str | None,
    levels: str | None,
    seeds: int,
    budget: str,
    jobs: int,
    engine: str | None,
    results: Path,
    runs_dir: Path,
    data_dir: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Make a table of the paper: train what is missing, evaluate, record in results/, compare with the print.

    \b
    Example:  mvae reproduce table1
              mvae reproduce table2 --datasets mnist --models vae,mvae --budget laptop
              mvae reproduce table8 --levels 0.01,0.1 --models nn,mvae --seeds 3 --jobs 4
    """
    from mvae.paper import (
        AT_ONCE,
        FEW_PAIRS,
        ITEMS,
        LEVELS,
        NEEDS,
        coupling,
        figure3,
        figure9,
        figure10,
        figures,
        tables,
        translation,
        vision,
        weak,
    )
    from mvae.paper.harness import BUDGETS, Places, parse_levels
    from mvae.progress import Silent
    from mvae.report.results import read_rows, training_times
    from mvae.report.show import show_comparison, show_levels
    from mvae.report.translation import show_examples
    from mvae.report.translation import show_levels as show_shares
    from mvae.report.vision import show_tasks

    if list_items or item is None:
        for name, summary in ITEMS.items():
            click.echo(f"{name:9} {summary}")
            if name in NEEDS:
                click.echo(f"{'':9} needs {NEEDS[name]}")
            for spent, (number, minutes) in training_times(read_rows(results / f"{name}.json")).items():
                click.echo(f"{'':9} {spent}: {minutes:.0f} minutes of training, runs: {number}, in {results}/")
        for name, spend in BUDGETS.items():
            click.echo(f"--budget {name:7} {spend.summary}")
        return
    if levels is not None and item not in LEVELS:
        raise click.UsageError(f"--levels is for {', '.join(LEVELS)}")
    if jobs != 1 and item not in AT_ONCE:
        raise click.UsageError(f"--jobs is for {', '.join(AT_ONCE)}")
    if engine is not None and item not in AT_ONCE:
        raise click.UsageError(f"--engine is for {', '.join(AT_ONCE)}")
    quiet = as_json or jobs > 1 or engine is not None  # several runs would write over each other's bars
    places = Places(results, runs_dir, data_dir, device, Silent() if quiet else None, engine)
    names, recipe_names = (datasets or "mnist").split(","), (recipes or "paper,coupled").split(",")
    chosen = models.split(",") if models else tables.PAPER_MODELS
    if item in FEW_PAIRS:
        rows = weak.reproduce(
            item,
            datasets=datasets.split(",") if datasets else (),
            models=models.split(",") if models else weak.MODELS,
            recipes=recipe_names,
            levels=parse_levels(item, levels),
            seeds=seeds,
            budget=budget,
            workers=jobs,
            places=places,
        )
        found = weak.summaries(rows)
        if item == "figure3":
            figure3.draw(found, results / "figure3.png")
        show = partial(show_levels, f"{item}, budget {budget}", found)
    elif item in ("figure9", "figure10"):
        figure: Any = figure9 if item == "figure9" else figure10
        rows = figure.reproduce(
            datasets=datasets.split(",") if datasets else (),
            recipes=recipes.split(",") if recipes else ("paper",),
            levels=parse_levels(item, levels),
            seeds=seeds,
            budget=budget,
            workers=jobs,
            places=places,
        )
        figure.draw(rows, results / f"{item}.png")
        show = partial(show_comparison, item, rows)
    elif item in translation.EXAMPLES:
        rows = translation.examples(item, recipe_names[-1], budget, places)
        show = partial(show_examples, item, rows)
    elif item in vision.FIGURES:
        rows = vision.reproduce(item, recipe_names[-1], seeds, budget, places)
        show = partial(show_tasks, item, rows)
    elif item == "table4":
        shares = parse_levels(item, levels)
        rows = translation.table4(
            recipe_names[-1], levels=shares, seeds=seeds, budget=budget, workers=jobs, places=places
        )
        show = partial(show_shares, translation.summary(rows))
    else:
        if item == "table1":
            rows = tables.table1(names, chosen)
        elif item == "figure2":
            rows = figures.figure2(datasets=names, recipes=recipe_names, seeds=seeds, budget=budget, places=places)
        elif item == "lambda":
            rows = coupling.reproduce(datasets=names, seeds=seeds, budget=budget, workers=jobs, places=places)
            coupling.draw(rows, results / "lambda.png")
        else:
            rows = tables.reproduce(
                item,
                datasets=names,
                models=chosen,
                recipes=recipe_names,
                seeds=seeds,
                budget=budget,
                workers=jobs,
                places=places,
            )
        show = partial(show_comparison, item, rows)
    if as_json:
        print_json({"item": item, "rows": rows})
    else:
        show()
