"""What every reproduction shares: budgets, finished runs by a hash of their settings, and rows already recorded."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mvae.errors import SettingsError
from mvae.files import load_state
from mvae.paper import LEVELS
from mvae.paper.experiments import BASELINES, MODELS, Experiment
from mvae.paper.record import record
from mvae.paper.results import Row, read_rows
from mvae.paper.settings import LATER, Settings
from mvae.runs.run import Run, device_named, open_run, train
from mvae.runs.sweep import sweep
from mvae.training.callbacks import Callback
from mvae.training.checkpoint import CHECKPOINT, SETTINGS
from mvae.training.step import can_be_recorded

__all__ = [
    "BUDGETS",
    "Budget",
    "Job",
    "Places",
    "finished_run",
    "measured",
    "name_of",
    "one_recipe",
    "parse_levels",
    "recorded",
    "require",
    "require_shares",
    "swept",
]

Work = TypeVar("Work")


@dataclass(frozen=True)
class Budget:
    """What a reproduction spends: epochs and training rows of an experiment, test rows, importance samples."""

    training: Callable[[Experiment], dict[str, Any]]
    rows: Callable[[Experiment], int | None]
    samples: int | None  # None: the paper's for the dataset
    summary: str


BUDGETS = {
    "smoke": Budget(lambda _: {"epochs": 3}, lambda _: 60, 50, "3 epochs, 60 test rows, 50 samples: does it run?"),
    "laptop": Budget(
        lambda e: dict(e.laptop),
        lambda e: e.laptop_test_rows,
        None,
        "each experiment's own share (MNIST: 60 of 500 epochs, 1,000 test rows)",
    ),
    "paper": Budget(lambda e: {"epochs": e.epochs}, lambda _: None, None, "the paper's epochs, every test row"),
}


@dataclass(frozen=True)
class Places:
    """Where results and runs are kept, data found, and work done (``engine``: see `mvae.runs.sweep.sweep`)."""

    results: Path = Path("results")
    runs: Path = Path("runs/reproduce")
    data_dir: Path | None = None
    device: str | None = None
    callbacks: Sequence[Callback] | None = None
    engine: str | None = None


@dataclass(frozen=True)
class Job:
    """One run to train (where it is not finished) and to measure, in whatever process."""

    settings: Settings
    budget: str
    places: Places


def name_of(settings: Settings) -> str:
    """What a line of progress calls a run.

    >>> name_of(Settings.of("digits", "paper", seed=1, weights={"label": 10.0}))
    'digits mvae paper, λ label 10, annealed 50 of 150, seed 1'
    >>> name_of(Settings.of("faces19", "paper", random_subsets=5, shared_noise=True))
    'faces19 mvae paper, annealed 20 of 100, k = 5, one ε, seed 0'
    """
    weights = "".join(f", λ {name} {value:g}" for name, value in settings.weights.items())
    annealed = f"annealed {settings.anneal_epochs} of {settings.epochs}"
    pairs = "" if settings.pairs is None else f", {100 * settings.pairs:g}% pairs × {settings.repeat_pairs}"
    kept = "" if settings.kept is None else f", p = {settings.kept:g}"
    subsets = "" if settings.random_subsets is None else f", k = {settings.random_subsets}"
    noise = ", one ε" if settings.shared_noise else ""
    what = f"{weights}, {annealed}{pairs}{kept}{subsets}{noise}"
    return f"{settings.dataset} {settings.model} {settings.recipe}{what}, seed {settings.seed}"


def finished_run(settings: Settings, places: Places) -> Run:
    """The run with these settings: opened where it is finished, resumed where it is not, else trained.

    Raises:
        KeyboardInterrupt: training was stopped by a signal; it goes on from there the next time.
    """
    hashed = asdict(settings)
    for name in LATER.keys() - {"model", "weights", "rows"}:  # these were always hashed
        if hashed[name] == LATER[name]:  # directories made before there was such a setting keep their names
            del hashed[name]
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
    name = "-".join([settings.dataset, settings.model, settings.recipe, f"s{settings.seed}", digest])
    directory = places.runs / name
    begun = (directory / SETTINGS).exists()
    if not begun or not _complete(directory, settings):
        train(
            settings,
            directory,
            resume=begun,
            data_dir=places.data_dir,
            device=places.device,
            callbacks=places.callbacks,
        )
    return open_run(directory, data_dir=places.data_dir, device=places.device)


def _complete(directory: Path, settings: Settings) -> bool:
    if not (directory / CHECKPOINT).exists():  # stopped before its first one
        return False
    _, info = load_state(directory / CHECKPOINT)
    return info["epoch"] >= settings.epochs * len(settings.build().stages)


def recorded(results: Path, items: Sequence[str], settings: Settings, budget: str) -> list[dict[str, Any]]:
    """Rows of these items that were made with exactly these settings at this budget."""
    wanted = asdict(settings)
    rows = []
    for item in items:
        for row in read_rows(results / f"{item}.json"):
            own = LATER | {name: row[name] for name in ("dataset", "model", "recipe", "seed")} | row["settings"]
            if row["budget"] == budget and all(own.get(key) == value for key, value in wanted.items()):
                rows.append(row)
    return rows


def measured(
    item: str,
    wanted: Sequence[Settings],
    measure: Callable[[Job], list[Row]],
    budget: str,
    workers: int,
    places: Places,
) -> list[dict[str, Any]]:
    """An item's recorded rows of these settings, after making those that are missing; each run recorded as it ends.

    ``measure`` may give rows of other items, too: Table 3's come with Table 2's.
    """
    jobs = {
        name_of(settings): Job(settings, budget, places)
        for settings in wanted
        if not recorded(places.results, [item], settings, budget)
    }
    for rows in swept(measure, jobs, lambda job: job.settings, workers, places):
        record(rows, places.results)
    return [row for settings in wanted for row in recorded(places.results, [item], settings, budget)]


def swept(
    measure: Callable[[Work], list[Row]],
    jobs: Mapping[str, Work],
    settings_of: Callable[[Work], Settings],
    workers: int,
    places: Places,
) -> Iterator[list[Row]]:
    """The rows of each job as it ends, ``workers`` at a time.

    On a GPU, threads train what can be recorded, and processes the rest, whose steps are launched kernel by kernel.
    """
    device = device_named(places.device)
    threads: dict[str, Work] = {}
    if device.type == "cuda" and workers > 1 and places.engine is None:
        threads = {name: job for name, job in jobs.items() if _recorded_step(settings_of(job))}
    others = {name: job for name, job in jobs.items() if name not in threads}
    for part, threads_on in ((threads, device), (others, None)):
        for _, rows in sweep(measure, part, workers, places.engine, threads_on):
            yield rows


def _recorded_step(settings: Settings) -> bool:
    """Is a step of this run replayed on a GPU (`mvae.training.step`)? Not of what is no network."""
    if settings.model not in (*MODELS, *BASELINES):
        return False
    model = settings.build()
    hides = settings.kept is not None or (settings.pairs not in (None, 1) and not model.needs_complete)
    return can_be_recorded(model, not hides)


def require(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises SettingsError unless every name is known."""
    for name in names:
        if name not in known:
            raise SettingsError(f"no {kind} {name!r}; there are {', '.join(known)}")


def one_recipe(item: str, recipes: Sequence[str]) -> str:
    """The recipe of an item that is of one; raises SettingsError where there are several."""
    if len(recipes) != 1:
        raise SettingsError(f"{item} is of one recipe at a time, not of {', '.join(recipes)}")
    return recipes[0]


def require_shares(levels: Iterable[float]) -> None:
    """Raises SettingsError unless every level is a share of pairs."""
    if wrong := [level for level in levels if not 0 < level <= 1]:
        raise SettingsError(f"a level is a share of pairs above 0 and at most 1, not {wrong[0]:g}")


def parse_levels(item: str, text: str | None) -> tuple[Any, ...]:
    """``--levels`` of an item as numbers, k of figure10 as integers; none where there is no text.

    Raises:
        SettingsError: not of that form.

    >>> parse_levels("table8", "0.001,1"), parse_levels("figure10", "0,5"), parse_levels("figure9", None)
    ((0.001, 1.0), (0, 5), ())
    """
    if text is None:
        return ()
    kind, what = LEVELS[item]
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--levels {text!r}: write {what}") from None
