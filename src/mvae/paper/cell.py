"""One cell of a table or figure: a shipped declaration with the cell's changes, as described in rows of results.

Rows of results/ name settings by short keys (`epochs`, `pairs` …). `PATHS` says where each stands in a declaration;
`Cell.config` is the declaration that a cell trains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mvae.errors import SettingsError
from mvae.runs.config import Config, flattened
from mvae.runs.run import read_run
from mvae.runs.source import shipped_declaration

# `paper` is Eq. 5 and nothing else. `coupled` adds a cross term, in which the image's posterior explains the label too:
# without it, image and label often use separate latents. λ then counts in full in single terms only (docs/research).
# The two are never mixed in one table.
RECIPES = ("paper", "coupled")

# α of the JMVAE: the only one that the paper states (Sec. 5.1, App. H), and two more to compare it with.
JMVAE_ALPHAS = {"jmvae": 0.01, "jmvae_alpha_0.1": 0.1, "jmvae_alpha_1": 1.0}

OVERSAMPLED = 50  # the most times that `coupled` repeats a complete row in an epoch (docs/research/coupling.md)
DECAYED = 0.4  # share of the epochs over which the learning rate falls, for `coupled` and the supervised network

PATHS = {  # key of a row → place in a declaration
    "epochs": "training.epochs",
    "anneal_epochs": "training.anneal_epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "decay_epochs": "training.decay_epochs",
    "rows": "data.rows",
    "pairs": "data.paired_fraction",
    "repeat_pairs": "data.oversample",
    "kept": "data.keep_probability",
    "vocabulary": "data.options.vocabulary",
    "subwords": "data.options.subwords",
    "start_from": "start_from",
    "random_subsets": "models.mvae.random_subsets",
    "shared_noise": "models.mvae.shared_noise",
    "cross_share": "models.mvae.cross_share",
}

OF_THE_DATASET = ("vocabulary", "random_subsets")  # None in a row means: as the declaration says

DEFAULTS: dict[str, Any] = {  # for settings that a row does not state
    "weights": {},
    "decay_epochs": 0,
    "rows": None,
    "pairs": None,
    "repeat_pairs": 1,
    "kept": None,
    "vocabulary": None,
    "subwords": False,
    "start_from": None,
    "random_subsets": None,
    "shared_noise": False,
    "cross_share": 0.2,
    "pseudo_labels": False,
    "spread": 0,
    "spread_rounds": 1,
    "input_noise": 0.0,
    "input_shift": 0,
    "input_power": 1.0,
    "input_affine": {},
}


@cache
def experiment(name: str) -> Config:
    """The shipped declaration of a dataset.

    Raises:
        SettingsError: there is none of that name.
    """
    return shipped_declaration(name)


def defines(dataset: str, model: str) -> bool:
    """Does the paper define the networks of this model for this dataset?

    >>> defines("mnist", "cvae"), defines("multimnist", "cvae")
    (True, False)
    """
    needed = "jmvae" if model in JMVAE_ALPHAS else model
    return needed not in ("cvae", "jmvae") or needed in experiment(dataset).models


def augmented(dataset: str, variant: str) -> dict[str, Any]:
    """How a variant of a declaration augments the first modality's input, under the keys of rows.

    >>> augmented("fashion-mnist", "few-labels")
    {'input_noise': 0.0, 'input_shift': 1, 'input_power': 0.5, 'input_affine': {}}
    """
    changes = experiment(dataset).variants.get(variant, {})
    return _augmentation(next(iter(changes.get("modalities", {}).values()), {}))


def _augmentation(modality: Mapping[str, Any]) -> dict[str, Any]:
    """A modality's augmentations, under the keys of rows."""
    parts = {part["name"]: part for part in modality.get("augment") or []}
    return {
        "input_noise": parts.get("noise", {}).get("std", 0.0),
        "input_shift": parts.get("shift", {}).get("pixels", 0),
        "input_power": (modality.get("view") or {}).get("exponent", 1.0),
        "input_affine": {key: value for key, value in parts.get("affine", {}).items() if key != "name"},
    }


@dataclass(frozen=True)
class Cell:
    """What identifies a measured number: dataset, model, recipe, seed, and every setting under the keys of rows."""

    dataset: str
    model: str
    recipe: str
    seed: int
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, dataset: str, recipe: str = "coupled", seed: int = 0, model: str = "mvae", **changed: Any) -> "Cell":
        """The cell with the declaration's settings, except those given (and not None).

        In `coupled`, if complete rows are few, they are oversampled up to 50 times, until they are as many as a share
        ``cross_share`` of all rows; the first modality is then augmented as declared. Missing labels are guessed.

        Raises:
            SettingsError: an unknown dataset, recipe or setting, or one outside its range.
        """
        what = experiment(dataset)
        if recipe not in RECIPES:
            raise SettingsError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
        if not defines(dataset, model):
            family = "jmvae" if model in JMVAE_ALPHAS else model
            raise SettingsError(f"there is no {family} for {dataset}: the paper defines no networks for it")
        changed = {name: value for name, value in changed.items() if value is not None}
        recipe = recipe if model == "mvae" else "paper"
        values = DEFAULTS | {key: getattr(what.training, key) for key in PATHS if hasattr(what.training, key)}
        values["decay_epochs"] = 0
        epochs = changed.get("epochs", values["epochs"])
        values["anneal_epochs"] = round(epochs * what.training.anneal_epochs / what.training.epochs)
        if recipe == "coupled":
            values |= _coupled(dataset, what, changed)
        if model == "nn":
            values |= augmented(dataset, "supervised") | {"input_power": 1.0}
            if changed.get("pairs", 1) < 1:
                values["input_power"] = augmented(dataset, "few-labels")["input_power"]
        if recipe == "coupled" or model == "nn":
            values["decay_epochs"] = round(DECAYED * epochs)
        if unknown := changed.keys() - values.keys():
            raise SettingsError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(values)}")
        cell = cls(dataset, model, recipe, seed, values | changed)
        cell.config  # noqa: B018 (checks every range)
        return cell

    def __getitem__(self, key: str) -> Any:
        """A setting."""
        return self.settings[key]

    def but(self, **changed: Any) -> "Cell":
        """The same with some settings changed."""
        return Cell(self.dataset, self.model, self.recipe, self.seed, {**self.settings, **changed})

    def identity(self) -> dict[str, Any]:
        """All settings as one mapping, as a row states them."""
        own = {"dataset": self.dataset, "model": self.model, "recipe": self.recipe, "seed": self.seed}
        return own | dict(self.settings)

    @property
    def first(self) -> "Cell":
        """The cell over whose latents labels spread: that of one round less or, in the first, a VAE of the images."""
        if self["spread_rounds"] > 1:
            return self.but(spread_rounds=self["spread_rounds"] - 1)
        kept = {name: self[name] for name in ("rows", "pairs", "input_noise", "input_shift", "input_power")}
        return Cell.of(self.dataset, "paper", self.seed, "vae", epochs=self["spread"], **kept)

    @property
    def config(self) -> Config:
        """The declaration that this cell trains, without the run from which labels spread (`harness.finished_run`)."""
        what, own = experiment(self.dataset), self.settings
        changes: dict[str, Any] = {"seed": self.seed, "variants": {}}
        for key, path in PATHS.items():
            if own[key] not in (None, DEFAULTS.get(key, ...)) or path.startswith("training."):
                if path.startswith("models.") and self.model != "mvae":
                    raise SettingsError(f"{key} is the MVAE's; {self.model} has no such setting")
                _put(changes, path, own[key])
        if self.model == "mvae":
            _put(changes, "models.mvae.cross_share", own["cross_share"])
            if self.recipe == "paper":
                _put(changes, "models.mvae.cross_from", [])
        if own["pseudo_labels"]:
            if (self.model, self.recipe) != ("mvae", "coupled"):
                raise SettingsError("pseudo-labels belong to the recipe coupled of the MVAE")
            _put(changes, "models.mvae.pseudo_labels", _guessed(self.dataset))
        if own["spread"] and not own["pseudo_labels"]:
            raise SettingsError("labels spread in the recipe coupled of the MVAE where rows lack them: give pairs")
        alpha = JMVAE_ALPHAS.get(self.model)
        _put(changes, "model.name", self.model if alpha is None else "jmvae")
        if alpha is not None:
            _put(changes, "models.jmvae.alpha", alpha)
        for name, weight in own["weights"].items():
            if name not in what.modalities:
                raise SettingsError(f"no modality {name!r} to weigh; there are {', '.join(what.modalities)}")
            _put(changes, f"modalities.{name}.weight", float(weight))
        augment = [{"name": "affine", **own["input_affine"]}] if own["input_affine"] else []
        augment += [{"name": "noise", "std": own["input_noise"]}] if own["input_noise"] else []
        augment += [{"name": "shift", "pixels": own["input_shift"]}] if own["input_shift"] else []
        first = (what.model.modalities or list(what.modalities))[0]
        if augment:
            _put(changes, f"modalities.{first}.augment", augment)
        if own["input_power"] != 1:
            _put(changes, f"modalities.{first}.view", {"name": "power", "exponent": own["input_power"]})
        if own["vocabulary"] is not None:
            for name in what.modalities:
                _put(changes, f"modalities.{name}.classes", own["vocabulary"])
        if own["pairs"] is not None and own["kept"] is not None:
            raise SettingsError("pairs and kept are two ways of hiding values: give one of them")
        return what.change(changes)


def cell_of(config: Config) -> Cell:
    """The cell of a declaration, the inverse of `Cell.config`.

    Raises:
        SettingsError: its dataset is not one of the paper's.

    >>> cell_of(experiment("mnist").change({"training": {"epochs": 60}})) == Cell.of("mnist", epochs=60)
    True
    """
    dataset, config = config.data.sources[0], config.resolved()
    what, model = experiment(dataset).change({"model": {"name": config.model.name}}), config.model.name
    values, declared = (flattened(one.to_dict()) for one in (config, what.resolved()))
    settings = dict(DEFAULTS)
    for key, path in PATHS.items():
        path = path.replace("models.mvae.", "model.")
        own = values.get(path)
        if own is not None and (key not in OF_THE_DATASET or own != declared.get(path)):
            settings[key] = own
    coupled = model == "mvae" and bool(config.model.options.get("cross_from"))
    if not coupled:
        settings["cross_share"] = DEFAULTS["cross_share"]
    settings["pseudo_labels"] = bool(config.model.options.get("pseudo_labels"))
    rounds, source = 0, config
    while source.data.spread:
        source = read_run(Path(next(iter(source.data.spread.values()))))[0]
        rounds += 1
    if rounds:
        settings |= {"spread": source.training.epochs, "spread_rounds": rounds}
    weights = {name: modality.weight for name, modality in config.modalities.items()}
    settings["weights"] = {name: w for name, w in weights.items() if w != what.modalities[name].weight}
    first = (config.model.modalities or list(config.modalities))[0]
    settings |= _augmentation(config.modalities[first].model_dump())
    if model == "jmvae":
        alpha = config.model.options.get("alpha")
        model = next((name for name, value in JMVAE_ALPHAS.items() if value == alpha), model)
    return Cell(dataset, model, "coupled" if coupled else "paper", config.seed, settings)


def _coupled(dataset: str, what: Config, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the recipe `coupled`, which depend on what is hidden."""
    share = what.models["mvae"]["cross_share"]
    values: dict[str, Any] = {"cross_share": share}
    hides = 0 < min(changed.get("pairs", 1), changed.get("kept", 1)) < 1
    values["pseudo_labels"] = hides and "pseudo-labels" in what.variants
    if changed.get("pairs"):
        share = changed.get("cross_share", share)
        values["repeat_pairs"] = min(OVERSAMPLED, max(1, round(share / changed["pairs"])))
        if values["repeat_pairs"] > 1:  # with noise and shifts, fewer of them are memorised
            values |= augmented(dataset, "few-labels")
        if changed.get("spread"):  # then most rows are complete
            values["repeat_pairs"] = 1
    return values


def _guessed(dataset: str) -> list[str]:
    try:
        return experiment(dataset).variants["pseudo-labels"]["models"]["mvae"]["pseudo_labels"]
    except KeyError:
        raise SettingsError(f"no modality of {dataset} is guessed: there are no pseudo-labels to learn from") from None


def _put(changes: dict[str, Any], path: str, value: Any) -> None:
    *tables, key = path.split(".")
    for table in tables:
        changes = changes.setdefault(table, {})
    changes[key] = value


def name_of(cell: Cell) -> str:
    """A run's name in a line of progress.

    >>> name_of(Cell.of("digits", "paper", 1, weights={"label": 10.0}))
    'digits mvae paper, λ label 10, annealed 50 of 150, seed 1'
    >>> name_of(Cell.of("faces19", "paper", random_subsets=5, shared_noise=True))
    'faces19 mvae paper, annealed 20 of 100, k = 5, one ε, seed 0'
    """
    weights = "".join(f", λ {name} {value:g}" for name, value in cell["weights"].items())
    annealed = f"annealed {cell['anneal_epochs']} of {cell['epochs']}"
    pairs = "" if cell["pairs"] is None else f", {100 * cell['pairs']:g}% pairs × {cell['repeat_pairs']}"
    kept = "" if cell["kept"] is None else f", p = {cell['kept']:g}"
    subsets = "" if cell["random_subsets"] is None else f", k = {cell['random_subsets']}"
    noise = ", one ε" if cell["shared_noise"] else ""
    times = f" {cell['spread_rounds']} times" if cell["spread_rounds"] > 1 else ""
    noise += f", labels spread{times} after {cell['spread']} epochs" if cell["spread"] else ""
    what = f"{weights}, {annealed}{pairs}{kept}{subsets}{noise}"
    return f"{cell.dataset} {cell.model} {cell.recipe}{what}, seed {cell.seed}"
