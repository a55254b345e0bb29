"""What identifies a run: dataset, model, recipe, schedule, seed, and which rows and values it learns from."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mvae.errors import RunError, SettingsError
from mvae.files import read_json
from mvae.modality.augment import Noise, Power, Shift
from mvae.models.base import MultimodalVAE
from mvae.models.terms import check_share
from mvae.paper.experiments import Experiment, build, experiment
from mvae.paper.experiments.base import CROSS_SHARE
from mvae.training.checkpoint import SETTINGS
from mvae.training.settings import training_settings

__all__ = ["FORMAT", "LATER", "Settings", "parse_weights", "read_settings", "written_weights"]

FORMAT = 2  # since 2 the recipe `coupled` weighs λ by term
# Settings that the first runs did not write, and what they were.
LATER = {"model": "mvae", "weights": {}, "rows": None, "pairs": None, "decay_epochs": 0, "repeat_pairs": 1}
LATER |= {"kept": None, "random_subsets": None, "shared_noise": False, "input_noise": 0.0, "pseudo_labels": False}
LATER |= {"cross_share": CROSS_SHARE, "vocabulary": None, "subwords": False, "start_from": None, "input_shift": 0}
LATER |= {"input_power": 1.0}
REPEATED = 50  # times at most that `coupled` has a pair in an epoch (docs/research/coupling.md)
DECAYED = 0.4  # share of the epochs over which Adam's rate falls: `coupled`, the supervised network; App. A keeps it


@dataclass(frozen=True)
class Settings:
    """What identifies a run; stored in its run.json.

    ``rows``: the first so many training rows, and as large a share of the validation rows (1,000 at least); None for
    all. ``pairs``: the share of both that stays complete (Sec. 5.1, `mvae.data.masking`), None hides nothing;
    ``repeat_pairs``: how often an epoch has each of these. ``decay_epochs``: see `mvae.training.fit.fit`.
    ``kept``: the probability that each value of these rows is kept (App. F, `mvae.data.masking`); None hides nothing.
    ``random_subsets`` (k; None: the experiment's) and ``shared_noise``: of the MVAE, see there.
    ``input_noise``, ``input_shift``, ``input_power``: of the first modality, see `mvae.modality.augment`.
    ``pseudo_labels``: does the recipe `coupled` learn from what it guesses where rows lack it
    (`mvae.models.mvae.MVAE`)? ``cross_share``: of that recipe, see there.
    ``vocabulary`` (numbers a language; None: the experiment's) and ``subwords``: of sentences. ``start_from``: the
    directory of a run of the same networks whose best weights training begins with; None: fresh ones.
    """

    dataset: str
    recipe: str
    epochs: int
    anneal_epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    model: str = "mvae"
    weights: dict[str, float] = field(default_factory=dict)
    rows: int | None = None
    pairs: float | None = None
    decay_epochs: int = 0
    repeat_pairs: int = 1
    kept: float | None = None
    random_subsets: int | None = None
    shared_noise: bool = False
    input_noise: float = 0.0
    pseudo_labels: bool = False
    cross_share: float = CROSS_SHARE
    vocabulary: int | None = None
    subwords: bool = False
    start_from: str | None = None
    input_shift: int = 0
    input_power: float = 1.0

    @classmethod
    def of(
        cls,
        dataset: str,
        recipe: str = "coupled",
        seed: int = 0,
        model: str = "mvae",
        weights: Mapping[str, float] | None = None,
        **changed: Any,
    ) -> "Settings":
        """The experiment's own settings, except those given (and not None).

        Shorter training is annealed for the same share of it. The learning rate falls over the last two fifths of it in
        the recipe `coupled` and of the supervised network, whose first modality is seen as the experiment says.

        In `coupled`, few pairs are repeated, up to 50 times, until they come as often as the ``cross_share`` of all
        rows would; the first modality is then seen as the experiment says, and what rows lack is guessed.

        Raises:
            SettingsError: an unknown dataset, or a setting outside its range.
        """
        what = experiment(dataset, changed.get("vocabulary"), bool(changed.get("subwords")))
        values = {
            "epochs": what.epochs,
            "anneal_epochs": what.anneal_epochs,
            "batch_size": what.batch_size,
            "learning_rate": what.learning_rate,
        }
        changed = {name: value for name, value in changed.items() if value is not None}
        if "epochs" in changed and "anneal_epochs" not in changed:
            changed["anneal_epochs"] = round(changed["epochs"] * what.anneal_epochs / what.epochs)
        recipe = recipe if model == "mvae" else "paper"
        if recipe == "coupled":
            values["cross_share"] = what.cross_share
            hides = 0 < min(changed.get("pairs", 1), changed.get("kept", 1)) < 1
            values["pseudo_labels"] = hides and bool(what.pseudo_labels)
            if changed.get("pairs"):
                share = changed.get("cross_share", what.cross_share)
                values["repeat_pairs"] = min(REPEATED, max(1, round(share / changed["pairs"])))
                if values["repeat_pairs"] > 1:  # blurred and moved, less of them is learned by heart
                    values |= {"input_noise": what.few_pairs_noise, "input_shift": what.few_pairs_shift}
                    values["input_power"] = what.input_power
        if model == "nn":
            values |= {"input_noise": what.supervised_noise, "input_shift": what.supervised_shift}
            if changed.get("pairs", 1) < 1:
                values["input_power"] = what.input_power
        if recipe == "coupled" or model == "nn":
            values["decay_epochs"] = round(DECAYED * changed.get("epochs", what.epochs))
        values |= changed
        own = {name: values.pop(name, LATER[name]) for name in LATER.keys() - {"model", "weights", "decay_epochs"}}
        rows, pairs, repeats = own["rows"], own["pairs"], own["repeat_pairs"]
        training_settings(None, values)
        if rows is not None and rows < 1:
            raise SettingsError(f"rows must be at least 1, not {rows}")
        if pairs is not None and not 0 <= pairs <= 1:
            raise SettingsError(f"pairs, the share of complete rows, must be between 0 and 1, not {pairs}")
        if repeats != 1 and (pairs is None or repeats < 1):
            raise SettingsError(f"repeat_pairs is for few pairs, and 1 or more: not {repeats} with pairs={pairs}")
        if own["kept"] is not None and not 0 < own["kept"] <= 1:
            raise SettingsError(f"kept, the share of values kept, must be above 0 and at most 1, not {own['kept']}")
        if own["random_subsets"] is not None and own["random_subsets"] < 0:
            raise SettingsError(f"random_subsets must be ≥ 0, not {own['random_subsets']}")
        Noise(own["input_noise"]), Shift(own["input_shift"]), Power(own["input_power"])  # each checks its range
        check_share(own["cross_share"])
        if pairs is not None and own["kept"] is not None:
            raise SettingsError("pairs and kept are two ways of hiding values: give one of them")
        return cls(
            dataset=dataset,
            recipe=recipe,
            seed=seed,
            model=model,
            weights=dict(weights or {}),
            **own,
            **values,
        )

    @property
    def experiment(self) -> Experiment:
        """The dataset's, with the run's own vocabulary."""
        return experiment(self.dataset, self.vocabulary, self.subwords)

    def build(self) -> MultimodalVAE:
        """The model, freshly initialised.

        Raises:
            SettingsError: an unknown model, recipe or modality.
        """
        own = self.weights, self.random_subsets, self.shared_noise, self.pseudo_labels, self.cross_share
        built = build(self.experiment, self.recipe, self.seed, self.model, *own)
        first = built.modalities[built.names[0]]
        noise = (Noise(self.input_noise),) if self.input_noise else ()
        first.augment = noise + ((Shift(self.input_shift),) if self.input_shift else ())
        first.view = Power(self.input_power) if self.input_power != 1 else None
        return built


def read_settings(run_dir: Path) -> Settings:
    """The settings in a run directory.

    Raises:
        RunError: it is none, or of a newer version of this library.
    """
    if not (run_dir / SETTINGS).is_file():
        raise RunError(f"{run_dir} is not a run directory: it has no {SETTINGS}. Train one: mvae train digits")
    stored = read_json(run_dir / SETTINGS)
    try:
        if stored["format"] not in range(1, FORMAT + 1):
            raise RunError(f"{run_dir / SETTINGS} has format {stored['format']}; this version reads up to {FORMAT}")
        if stored["format"] < 2 and stored["recipe"] == "coupled":
            raise RunError(f"{run_dir} is of the recipe 'coupled' as it was before (docs/research): train it again")
        values = {entry.name: stored[entry.name] for entry in fields(Settings) if entry.name not in LATER}
    except KeyError as error:
        raise RunError(f"{run_dir / SETTINGS} lacks {error}: it is damaged, or of another version") from None
    values |= {name: stored.get(name, default) for name, default in LATER.items()}
    kinds: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str}
    kinds |= {int | None: (int, type(None)), float | None: (int, float, type(None)), str | None: (str, type(None))}
    for entry in fields(Settings):
        if not isinstance(values[entry.name], kinds.get(entry.type, dict)):  # pyright: ignore
            raise RunError(f"{run_dir / SETTINGS}: {entry.name} is {values[entry.name]!r}: the file is damaged")
    return Settings(**values)


def written_weights(model: MultimodalVAE) -> str:
    """λ of every modality in words; neighbours of equal weight together.

    >>> written_weights(Settings.of("celeba19").build())
    'image 1, Bald … Wearing_Hat (18 modalities) 50'
    """
    parts = []
    for weight, group in itertools.groupby(zip(model.names, model.weights, strict=True), key=lambda pair: pair[1]):
        names = [name for name, _ in group]
        listed = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} modalities)"
        parts.append(f"{listed} {weight:g}")
    return ", ".join(parts)


def parse_weights(texts: tuple[str, ...]) -> dict[str, float]:
    """``("label=10",)`` as λ by modality.

    Raises:
        SettingsError: not of that form.
    """
    weights = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            raise SettingsError(f"--weight {text!r}: write MODALITY=NUMBER, for example label=10") from None
    return weights
