"""`mvae reproduce`: every table and figure of the paper, one command each."""

from pathlib import Path
from typing import Any

import click

from mvae.cli.options import DATA_DIR, DEVICE, JSON, common, print_json

__all__ = ["reproduce"]

OPTIONS = ("--datasets", "--models", "--recipes", "--levels", "--seeds", "--budget", "--jobs", "--engine")


@click.command()
@click.argument("item", required=False)
@click.option("--list", "list_items", is_flag=True, help="Every item, what it needs and has taken, and the budgets.")
@click.option("--datasets", help="Separated by commas.  [default: the item's own, or mnist]")
@click.option("--models", help="Separated by commas.  [default: the paper's]")
@click.option(
    "--recipes",
    help="Of the MVAE: paper, coupled or both, with a comma.  [default: figure9, figure10: paper; table4, "
    "its sentences and vision: coupled; else both]",
)
@click.option(
    "--levels",
    help="Separated by commas; shares of pairs, but of figure9 p, of figure10 k.  [default: the budget's]",
)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each, with seeds 0, 1 …  [default: 1]")
@click.option("--budget", help="smoke, laptop or paper.  [default: laptop]")
@click.option("--jobs", type=click.IntRange(1), help="Of all that train many models: runs at once.  [default: 1]")
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
    seeds: int | None,
    budget: str | None,
    jobs: int | None,
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
    from mvae.paper import ITEMS, NEEDS
    from mvae.paper.harness import BUDGETS, Places, parse_levels, require
    from mvae.paper.items import MAKERS
    from mvae.paper.results import read_rows, training_times

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
    require("item", [item], ITEMS)
    maker = MAKERS[item]
    several = {"datasets": datasets, "models": models, "recipes": recipes, "levels": levels}
    single = {"seeds": seeds, "budget": budget, "workers": jobs}
    asked: dict[str, Any] = {name: value for name, value in (several | single).items() if value is not None}
    takes = {"--jobs" if name == "workers" else f"--{name}" for name in maker.takes}
    takes |= {"--engine"} if "--jobs" in takes else set()
    given = {"--jobs" if name == "workers" else f"--{name}" for name in asked} | ({"--engine"} if engine else set())
    if wrong := given - takes:
        listed = ", ".join(flag for flag in OPTIONS if flag in takes)
        raise click.UsageError(f"{', '.join(sorted(wrong))}: not for {item}, which takes {listed}")
    for name in asked.keys() & several.keys():
        asked[name] = parse_levels(item, levels) if name == "levels" else asked[name].split(",")
    if "places" in maker.takes:
        quiet = as_json or (jobs or 1) > 1 or engine is not None  # several runs would write over each other's bars
        asked["places"] = Places(results, runs_dir, data_dir, device, () if quiet else None, engine)
    rows = maker.make(**asked)
    if maker.draw:
        maker.draw(rows, results / f"{item}.png")
    if as_json:
        print_json({"item": item, "rows": rows})
    else:
        maker.show(rows)
