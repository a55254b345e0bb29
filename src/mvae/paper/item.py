"""The description of a table or figure, and how it is made: options, budgets, paths."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mvae.errors import SettingsError
from mvae.paper.cell import JMVAE_ALPHAS, RECIPES, Cell, experiment, name_of
from mvae.paper.record import Origin, recorded
from mvae.paper.results import Row, RowDict, training_times
from mvae.runs.config import flattened
from mvae.runs.registry import declarations, models
from mvae.runs.run import Run
from mvae.training.callbacks import Callback

Number = int | float


@dataclass(frozen=True)
class Budget:
    """How much a reproduction trains and measures.

    Args:
        summary: one line for `mvae reproduce --list`.
        changes: changes to each cell's settings; None: those of the variant.
        test_rows: the number of test rows that are scored; None: the variant's, or all.
        samples: importance samples per row; None: the declaration's.
        variant: a variant of the dataset's declaration.
        datasets, levels: an item's defaults.
    """

    summary: str
    changes: Mapping[str, Any] | None = field(default_factory=dict)
    test_rows: int | None = None
    samples: int | None = None
    variant: str | None = None
    datasets: tuple[str, ...] = ()
    levels: tuple[Number, ...] = ()

    def training(self, dataset: str) -> dict[str, Any]:
        """The changes to a cell's settings.

        >>> BUDGETS["laptop"].training("mnist"), BUDGETS["paper"].training("mnist")
        ({'epochs': 60}, {})
        """
        if self.changes is not None or self.variant is None:
            return dict(self.changes or {})
        found = flattened(experiment(dataset).variants[self.variant])
        return {path.split(".")[1]: value for path, value in found.items() if not path.startswith("evaluation.")}

    def epochs(self, dataset: str) -> int:
        """The number of epochs."""
        return self.training(dataset).get("epochs", experiment(dataset).training.epochs)

    def rows(self, dataset: str) -> int | None:
        """The number of test rows that are scored; None: all."""
        if self.test_rows is not None or self.variant is None:
            return self.test_rows
        return experiment(dataset).variant(self.variant).evaluation.rows


SMOKE = {"epochs": 3, "rows": 2000}
BUDGETS = {
    "smoke": Budget("3 epochs of 2,000 rows, 60 test rows, 50 samples: does it run?", SMOKE, 60, 50),
    "laptop": Budget("each dataset's own share (MNIST: 60 of 500 epochs, 1,000 test rows)", None, variant="laptop"),
    "paper": Budget("the paper's epochs, every test row"),
}
WITH_LONG = BUDGETS | {
    "long": Budget("tables 2, 3, 6, 7: more of the paper's epochs (MNIST: 120), every test row", None, variant="long")
}


@dataclass(frozen=True)
class Paths:
    """Where results and runs are saved, data is found, and jobs run (``engine``: see `mvae.runs.sweep.sweep`)."""

    results: Path = Path("results")
    runs: Path = Path("runs/reproduce")
    data_dir: Path | None = None
    device: str | None = None
    callbacks: Sequence[Callback] | None = None
    engine: str | None = None


@dataclass(frozen=True)
class Options:
    """The options requested of an item; an empty tuple means the item's own."""

    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    levels: tuple[Number, ...] = ()
    seeds: int = 1
    budget: str = "laptop"
    jobs: int = 1


def cells_of_recipes(options: Options, budget: Budget, changes: Sequence[Mapping[str, Any]] = ({},)) -> Iterator[Cell]:
    """The cells of the MVAE for each dataset, recipe and seed, with each of the changes."""
    for dataset, recipe, seed in itertools.product(options.datasets, options.recipes, range(options.seeds)):
        for change in changes:
            yield Cell.of(dataset, recipe, seed, **budget.training(dataset), **change)


@dataclass(frozen=True)
class Levels:
    """The meaning of ``--levels`` for an item: values of one setting of its cells."""

    setting: str
    words: str
    example: str
    whole: bool = False

    def parsed(self, text: str) -> tuple[Number, ...]:
        """Parse numbers separated by commas.

        Raises:
            SettingsError: not of that form.

        >>> PAIRED.parsed("0.001,1"), SUBSETS.parsed("0,5")
        ((0.001, 1.0), (0, 5))
        """
        try:
            return tuple((int if self.whole else float)(part) for part in text.split(","))
        except ValueError:
            raise SettingsError(f"--levels {text!r}: write {self.words}, for example {self.example}") from None

    def check(self, values: Iterable[Number]) -> None:
        """Raise SettingsError unless every value is in the setting's range."""
        for value in values:
            if not (value >= 0 if self.whole else 0 < value <= 1):
                raise SettingsError(f"levels are {self.words}, {'≥ 0' if self.whole else 'in (0, 1]'}, not {value:g}")


PAIRED = Levels("pairs", "paired fractions", "0.001,0.1")
KEPT = Levels("kept", "probabilities", "0.1,1")
SUBSETS = Levels("random_subsets", "numbers of random subsets", "0,1,10", whole=True)


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper: its options, its cells, and how these are measured and shown.

    All functions must be defined in a module, because other processes call them.

    Args:
        name: as in `mvae reproduce NAME`.
        summary: one line that says what it shows.
        takes: the options it takes, fields of `Options`.
        show: prints the rows, given the item's name.
        needs: what must be provided beyond the installation.
        defaults: the defaults of its options; those that depend on the budget are in the budget.
        choices: the values that an option may have.
        whole: the datasets of the paper's item, if it makes fewer by default.
        one_recipe: whether it is made for one recipe at a time.
        levels: the meaning of ``--levels``, if it takes them.
        budgets: its budgets, by name.
        require: raises MissingDependencyError if a library is absent, before anything is trained.
        cells: the cells that are trained and measured.
        measure: makes the rows of a job; some may be of other items: Table 3's come with Table 2's.
        compare: makes rows that compare cells with each other, once all are measured.
        make: makes the rows of an item that has no cells.
        file: the item whose results file has a cell's rows.
        job: the name of the job that a cell belongs to; cells of one job are measured together.
        keep: which of the recorded rows are the item's.
        picture: draws a run of seed 0, as RESULTS/ITEM-(DATASET-)RECIPE-BUDGET.png.
        draw: draws the rows, as RESULTS/ITEM.png.
        quiet: whether there is a line per job instead of progress per epoch.
    """

    name: str
    summary: str
    takes: tuple[str, ...]
    show: Callable[[str, Sequence[RowDict]], None]
    needs: str = ""
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    one_recipe: bool = False
    levels: Levels | None = None
    budgets: Mapping[str, Budget] = field(default_factory=lambda: BUDGETS)
    require: Callable[[], object] | None = None
    cells: "Callable[[Options, Budget], Iterable[Cell]] | None" = None
    measure: "Callable[[Job], list[Row]] | None" = None
    compare: "Callable[[Item, Sequence[Cell], str, Paths], list[Row]] | None" = None
    make: "Callable[[str, Options, Paths], Sequence[RowDict]] | None" = None
    file: Callable[[Cell], str] | None = None
    job: Callable[[Cell], str] = name_of
    keep: Callable[[RowDict], bool] | None = None
    picture: Callable[[Run, Path], None] | None = None
    draw: Callable[[Sequence[RowDict], Path], None] | None = None
    quiet: bool = False

    def completed(self, options: Options) -> Options:
        """The options, with the item's own for those that are not given.

        Raises:
            SettingsError: an unknown dataset, model, recipe or budget, several recipes where one is allowed, or a level
                outside its range.
        """
        require("budget", [options.budget], self.budgets)
        budget = self.budgets[options.budget]
        own = {"datasets": budget.datasets, "levels": budget.levels} | {"recipes": RECIPES} | dict(self.defaults)
        filled = replace(options, **{name: value for name, value in own.items() if not getattr(options, name)})
        for name, known in ({"recipes": RECIPES} | dict(self.choices)).items():
            require(name.removesuffix("s"), getattr(filled, name), known, f" for {self.name}")
        if self.one_recipe and len(filled.recipes) != 1:
            raise SettingsError(f"{self.name} is of one recipe at a time, not of {', '.join(filled.recipes)}")
        if self.levels is not None:
            self.levels.check(filled.levels)
        return filled

    def left_out(self, options: Options, rows: Iterable[RowDict]) -> str | None:
        """A message on the datasets that are left out and their recorded training time; None if none is left out."""
        made = self.completed(options)
        left = [name for name in self.whole if name not in made.datasets] if not options.datasets else []
        if not left:
            return None
        spent = training_times(row for row in rows if row["dataset"] in left).get(made.budget)
        time = f"{spent[0]} recorded runs of these trained for {spent[1]:.0f} minutes" if spent else "none is recorded"
        return f"{self.name}: {', '.join(made.datasets)} only. Left out: --datasets {','.join(left)} ({time})"

    def command(self, cell: Cell, budget: str) -> str:
        """The command that makes a cell's rows."""
        said = {"datasets": cell.dataset, "models": cell.model, "recipes": cell.recipe}
        said |= {"seeds": cell.seed + 1, "budget": budget}
        if self.levels is not None:
            level = cell[self.levels.setting]
            said["levels"] = f"{1 if level is None else level:g}"
        flags = [f"--{name} {said[name]}" for name in self.takes if name in said]
        return " ".join(["mvae reproduce", self.name, *flags])

    def recorded(self, cell: Cell, budget: str, results: Path) -> list[dict[str, Any]]:
        """The recorded rows of a cell at a budget."""
        return recorded(results, self.name if self.file is None else self.file(cell), cell, budget)

    def missing_picture(self, cell: Cell, budget: str, results: Path) -> Path | None:
        """The path of a cell's picture that is still to be drawn, or None."""
        if self.picture is None or cell.seed > 0:
            return None
        of = [cell.dataset] if "datasets" in self.takes else []
        path = results / f"{'-'.join([self.name, *of, cell.recipe, budget])}.png"
        return None if path.exists() else path


@dataclass(frozen=True)
class Job:
    """Cells to train (unless they are finished) and to measure, in any process."""

    item: Item
    cells: tuple[Cell, ...]
    budget: str
    paths: Paths

    @property
    def cell(self) -> Cell:
        """The first cell."""
        return self.cells[0]

    @property
    def spend(self) -> Budget:
        """The item's budget of this name."""
        return self.item.budgets[self.budget]

    def origin(self, cell: Cell | None = None) -> Origin:
        """The origin that the rows of a cell (default: the first) state."""
        cell = cell or self.cell
        return Origin(cell, self.budget, self.item.command(cell, self.budget))


def require(kind: str, names: Iterable[str], known: Iterable[str], where: str = "") -> None:
    """Raise SettingsError unless every name is known."""
    for name in names:
        if name not in known:
            raise SettingsError(f"no {kind} {name!r}{where}; there are {', '.join(known)}")


def all_datasets() -> tuple[str, ...]:
    """Every dataset that has a declaration."""
    return tuple(declarations())


def all_models() -> tuple[str, ...]:
    """Every model that is trained, including those of `JMVAE_ALPHAS`, but not baselines that generate nothing."""
    return tuple(name for name in dict.fromkeys([*models(), *JMVAE_ALPHAS]) if name not in ("ae", "nn"))
