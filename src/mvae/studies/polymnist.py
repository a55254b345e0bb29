"""`mvae reproduce polymnist`: the models of five modalities side by side, on the same networks and the same rows.

For each model: coherence by the number of given modalities, and linear accuracy of the latents; unconditional
coherence, log-likelihoods and Fréchet distances with N(0, I) and with two fitted priors; and coherence on validation
rows over training steps. The classifiers that measure coherence are trained by the same command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import require_extra
from mvae.evaluation.coherence import ImageClassifier, classifier_for
from mvae.evaluation.subsets import coherence_by_number
from mvae.files import read_json, write_json
from mvae.likelihoods import Categorical
from mvae.models.base import MultimodalVAE
from mvae.paper.cell import RECIPES
from mvae.paper.harness import completed, digest_of
from mvae.paper.item import Budget, Item, Levels, Options, Paths
from mvae.paper.results import Row, RowDict, add_rows, new_row, rows_with
from mvae.provenance import circumstances
from mvae.runs.config import Config
from mvae.runs.run import Run
from mvae.runs.source import load, shipped_declaration
from mvae.studies.datasets.polymnist import MODALITIES
from mvae.studies.polymnist_measures import Spend, answered, labels, measures
from mvae.studies.polymnist_show import OWN, draw, draw_given, show
from mvae.training.callbacks import Plan
from mvae.training.checkpoint import SETTINGS
from mvae.training.progress import Reporter, reporter_for

NAME, LABEL, CURVE = "polymnist", "label", "curve.json"
PEER = "multivae"  # the recipe of rows of MultiVae's models (benchmarks/polymnist_peer.py): shown if recorded
TUNED = "tuned"  # the recipe with a lower β
MODELS = ("mvae", "mmvae", "mopoe", "mvtcae", "jmvae", "mmvae_plus", "mmvm")

#: Budget → how much is measured. Training is set by the declaration's variant of that name.
SPENDS = {
    "smoke": Spend(10, 4, 10, 10, 40, 30, 40, 1, (1, 2), 2),
    "quick": Spend(300, 20, 50, 200, 2_000, 500, 6_000, 4, (100, 200, 400, 800), 10),
    "laptop": Spend(1_000, 100, 200, 1_000, 20_000, 5_000, 55_000, None, (200, 400, 800, 1_600, 3_200), 20),
    "paper": Spend(
        10_000, 1_000, 1_000, 5_000, 55_000, 20_000, 55_000, None, (2_000, 4_000, 8_000, 16_000, 32_000, 64_000), 50
    ),
}
CELLS = Levels("kept", "shares of training cells that are observed", "0.5,1")
SUMMARIES = {
    "smoke": "scikit-learn's digits on drawn textures, two steps of small networks: does it run?",
    "quick": "800 steps of 16 rows for every model",
    "laptop": "4 epochs of 55,000 rows for every model",
    "paper": "300 epochs, every test row",
}


@dataclass(frozen=True)
class Setup:
    """One model to train and measure; ``kept`` is the share of training and validation cells that are observed."""

    model: str
    recipe: str
    seed: int
    budget: str
    kept: float = 1.0

    @property
    def config(self) -> Config:
        """The declaration that is trained."""
        config = configured(self.model, self.recipe, self.budget).change({"seed": self.seed})
        return config if self.kept == 1 else config.change({"data": {"options": {"missing": 1 - self.kept}}})

    @property
    def digest(self) -> str:
        """A hash of everything in the declaration."""
        return digest_of(self.config)

    @property
    def name(self) -> str:
        """The name of its run's directory."""
        return f"{NAME}-{self.model}-{self.recipe}-s{self.seed}-{self.digest}"

    @property
    def command(self) -> str:
        """The command that makes its rows."""
        recipes = f" --recipes {self.recipe}" if self.recipe != OWN else ""
        which = f"--models {self.model}{recipes} --levels {self.kept:g} --seeds {self.seed + 1}"
        return f"mvae reproduce {NAME} {which} --budget {self.budget}"


def configured(model: str, recipe: str, budget: str) -> Config:
    """The declaration of a model at a budget; the recipe ``paper`` of the MVAE is Eq. 5 with one random subset.

    ``tuned`` has β = 0.2 for any model.

    >>> configured("mmvae_plus", "paper", "paper").model.latents
    256
    """
    config = shipped_declaration(NAME)
    own = [model] if model in config.variants else []
    own += ["paper"] if (model, recipe) == ("mvae", "paper") else []
    own += [budget] if budget in config.variants and budget != "paper" else []
    own += [TUNED] if recipe == TUNED else []
    return config.variant(*own).change({"model": {"name": model}, "variants": {}})


def setups(options: Options) -> Iterator[Setup]:
    """Every model at each level and seed: the MVAE with each recipe, others as declared and, on request, tuned."""
    for kept, model, seed in product(options.levels, options.models, range(options.seeds)):
        recipes = (
            options.recipes if model == "mvae" else dict.fromkeys(r if r == TUNED else OWN for r in options.recipes)
        )
        for recipe in recipes:
            yield Setup(model, recipe, seed, options.budget, float(kept))


class Curve(Reporter):
    """Coherence on validation rows given one modality and all but one, at some steps; saved in the run's directory.

    Args:
        directory: the run's directory.
        data: the run's dataset.
        classifiers: modality → its classifier.
        spend: says at which steps and on how many rows.
    """

    def __init__(self, directory: Path, data: Dataset, classifiers: dict[str, ImageClassifier], spend: Spend):
        super().__init__()
        self.path, self.classifiers, self.steps = directory / CURVE, classifiers, spend.curve
        self.rows = data.validation.first(spend.validation_rows)

    def on_start(self, plan: Plan) -> None:
        """Read what was measured before the run was stopped."""
        assert plan.model is not None
        self.model: MultimodalVAE = plan.model
        self.step = plan.steps_done
        self.points: list[dict[str, float]] = read_json(self.path)["points"] if self.path.exists() else []

    def due(self) -> bool:
        """Whether the next step (one further at each call) is measured; metrics are read at no others."""
        self.step += 1
        return self.step in self.steps and all(point["step"] != self.step for point in self.points)

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Measure coherence and save it."""
        label = labels(self.rows)
        point: dict[str, float] = {"step": step}
        for n in answered(self.model):
            if n in (1, len(self.model.names) - 1):
                found = coherence_by_number(self.model, self.classifiers, self.rows, label, numbers=[n])
                point[f"given {n}"] = found.by_number[n]
        self.points.append(point)
        write_json(self.path, {"points": self.points})


def classifiers_of(data: Dataset, spend: Spend, folder: Path) -> tuple[dict[str, ImageClassifier], dict[str, float]]:
    """A classifier of the digit for each modality, and its accuracy on real test rows; saved in the folder."""
    parts = {"train": spend.classifier_rows, "validation": spend.classifier_rows // 10}
    parts["test"] = max(1_000, spend.test_rows)
    some = replace(data, **{part: getattr(data, part).first(rows) for part, rows in parts.items()})
    classifiers, accuracies = {}, {}
    for name in MODALITIES:
        file = f"classifier-{NAME}-{data.vocabulary_id}-{spend.classifier_rows}-{name}.safetensors"
        classifiers[name], accuracies[name] = classifier_for(
            some, name, LABEL, Categorical(), folder / file, print, epochs=spend.classifier_epochs
        )
    return classifiers, accuracies


def recorded(setup: Setup, results: Path, recipe: str | None = None) -> list[dict[str, Any]]:
    """The recorded rows of a setup, or of its declaration with another recipe."""
    wanted = {"model": setup.model, "recipe": recipe or setup.recipe, "seed": setup.seed, "budget": setup.budget}
    return rows_with(results / f"{NAME}.json", {"declaration": setup.digest}, **wanted)


def make(name: str, options: Options, paths: Paths) -> Sequence[RowDict]:
    """Train, measure and record what is missing; return all recorded rows of the options."""
    wanted, spend = list(setups(options)), SPENDS[options.budget]
    missing = [setup for setup in wanted if not recorded(setup, paths.results)]
    if missing:
        require_extra("zuko.flows", "flows", "flows as priors")  # before hours of training
        data = load(replace(missing[0], kept=1.0).config, paths.data_dir)  # complete, for classifiers and curves
        classifiers, accuracies = classifiers_of(data, spend, paths.runs)
        for setup in missing:
            directory = paths.runs / setup.name
            told = [reporter_for()] if paths.callbacks is None else paths.callbacks
            run = completed(setup.config, directory, paths, [*told, Curve(directory, data, classifiers, spend)])
            add_rows(paths.results / f"{name}.json", list(rows_of(setup, run, data.train, classifiers, accuracies)))
            if setup.seed == 0 and setup.kept == 1:
                draw_given(run, paths.results / f"{name}-{setup.model}-{setup.recipe}-{setup.budget}.png")
    return [row for recipe in (None, PEER) for setup in wanted for row in recorded(setup, paths.results, recipe)]


def rows_of(
    setup: Setup,
    run: Run,
    complete: Table,
    classifiers: dict[str, ImageClassifier],
    accuracies: dict[str, float],
    **instead: str,
) -> Iterator[Row]:
    """All measurements of a run, as rows; ``instead`` replaces some of their fields.

    ``complete`` are its training rows without missing cells, on which linear classifiers of latents are trained.
    """
    spend, now = SPENDS[setup.budget], circumstances(run.model.device)
    if (run.directory / SETTINGS).exists():
        now["commit"] = read_json(run.directory / SETTINGS).get("commit", now["commit"])
    training = run.config.training
    settings = {
        "declaration": setup.digest,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "rows": min(run.config.data.rows or len(run.data.train), len(run.data.train)),
        "latents": run.model.latent_dim,
        "options": run.config.resolved().model.options,
        "data": run.data.vocabulary_id,
        "kept": setup.kept,
        "classifier_accuracy": round(sum(accuracies.values()) / len(accuracies), 4),
    }
    if "seconds" in run.progress:
        settings["train_minutes"] = round(run.progress["seconds"] / 60, 2)
    identity = {"dataset": NAME, "model": setup.model, "recipe": setup.recipe, "seed": setup.seed}
    shared = {**identity, "budget": setup.budget, "command": setup.command, **now, **instead}

    def row(metric: str, value: float, n: int, stderr: float | None = None, **how: Any) -> Row:
        return new_row(NAME, metric, value, stderr, {**shared, "n": n, "settings": settings | how})

    for name, accuracy in accuracies.items():
        scored = min(max(1_000, spend.test_rows), len(run.data.test))
        yield row(f"accuracy of the classifier of {name}", accuracy, scored)
    for one in measures(run, complete, classifiers, spend):
        yield row(one.metric, one.value, one.rows, one.stderr, **one.how)
    curve = run.directory / CURVE
    for point in read_json(curve)["points"] if curve.exists() else []:
        for metric, value in point.items():
            if metric != "step":
                yield row(f"validation coherence {metric}", value, spend.validation_rows, step=point["step"])


POLYMNIST = Item(
    NAME,
    "PolyMNIST: coherence, likelihoods and latents of every model with five modalities, next to the published values",
    ("models", "recipes", "levels", "seeds", "budget"),
    show,
    needs="MNIST (downloaded where --data-dir has none) and, for the original's backgrounds, a folder of them",
    defaults={"models": MODELS, "recipes": ("coupled", "paper")},
    choices={"models": MODELS, "recipes": (*RECIPES, TUNED)},
    levels=CELLS,
    budgets={name: Budget(summary, levels=(1.0,)) for name, summary in SUMMARIES.items()},
    make=make,
    draw=draw,
)
