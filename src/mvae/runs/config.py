"""The declaration of a run: one typed file that says data, modalities, model and training; every setting defined once.

```toml
[data]
source = "patients.npz"

[model]
name = "mvae"
latents = 32

[modalities.labs]
kind = "real"
columns = ["hb", "crp", "na"]

[training]
epochs = 200
```
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mvae.errors import SettingsError, nearest
from mvae.training import settings
from mvae.training.settings import MOST, TrainingSettings

__all__ = [
    "Config",
    "DataSettings",
    "EvaluationSettings",
    "FieldSettings",
    "ModalitySettings",
    "ModelSettings",
    "flattened",
    "in_proportion",
    "parse_change",
]

Spec = str | dict[str, Any]
MOST_VALUES = 100_000_000  # of one example
Size = Annotated[int, Field(ge=1, le=MOST_VALUES)]
Share = Annotated[float, Field(gt=0, lt=1)]
IN_EPOCHS = ("anneal_epochs", "decay_epochs")  # settings that keep their share where only the epochs are changed


class Section(BaseModel):
    """One table of the file: values cannot change, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSettings(Section):
    """Where the rows come from, and which are learned from."""

    source: str | list[str] = Field(
        description="A table (.csv, .parquet, .xlsx …), arrays (.npz), several files, or a dataset such as digits."
    )
    key: str | None = Field(default=None, description="The column that names a row; several files are joined by it.")
    missing: list[str | int | float] = Field(
        default=[], description="Cells of a table that mean missing, besides empty ones, NaN and null."
    )
    options: dict[str, Any] = Field(default={}, description="Options of a named dataset's reader.")
    validation: Share = Field(default=0.1, description="Share of a file's rows that select the weights.")
    test: Share = Field(default=0.1, description="Share of a file's rows that are kept for evaluation.")
    rows: int | None = Field(default=None, ge=1, description="Train on the first so many rows only.")
    paired_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Hide one of two modalities in all rows but this share (Sec. 5.1)."
    )
    keep_probability: float | None = Field(
        default=None, gt=0, le=1, description="Keep each value of the training rows with this probability (App. F)."
    )
    oversample: int = Field(default=1, ge=1, le=1_000_000, description="How often an epoch has each complete row.")

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("a name or a file needs at least 1 character")
        return value

    @property
    def sources(self) -> list[str]:
        """The files, or the one dataset."""
        return [self.source] if isinstance(self.source, str) else list(self.source)


class FieldSettings(Section):
    """One column of a modality of the kind columns (`mvae.data.fields.Field`)."""

    name: str | None = Field(default=None, description="Of the column.")
    kind: str = Field(
        default="real", description="real, positive, bounded, date, count, binary, categorical or ordinal."
    )
    classes: int | None = Field(default=None, ge=2, description="Number of classes. Default: the data's.")
    low: float | None = Field(default=None, description="The least value of a bounded one.")
    high: float | None = Field(default=None, description="The largest value of a bounded one.")
    levels: list[str | int | float] | None = Field(
        default=None, description="Of a table's ordinal one, in their order. Default: by size, of text by the alphabet."
    )
    family: str | None = Field(default=None, description="Of p(x | z), as student for real. Default: by kind.")


class ModalitySettings(Section):
    """One modality: what its columns hold, its networks, its likelihood."""

    kind: str | None = Field(
        default=None,
        description="Of arrays real, count, binary, categorical or picture; of a table also columns, positive, "
        "bounded, ordinal, date or text; of a shipped dataset also string or sentence. Default: the data's.",
    )
    columns: list[str] | None = Field(
        default=None, description="Its columns in the source. Default: the one of its name."
    )
    kinds: dict[str, str | FieldSettings] = Field(
        default={}, description="Of the kind columns: a kind by column. Default: the data's."
    )
    fields: list[FieldSettings] = Field(
        default=[], description="Of the kind columns: what each column is, in order; completed from the data."
    )
    shape: list[Size] | None = Field(default=None, description="Shape of one example. Default: the data's.")
    classes: int | None = Field(
        default=None, ge=2, le=MOST_VALUES, description="Number of classes. Default: the data's."
    )
    levels: float | None = Field(
        default=None, gt=0, description="The brightest level of a picture: 255 for bytes, else 1."
    )
    length: int | None = Field(
        default=None, ge=1, le=MOST_VALUES, description="The most symbols of a string, or words (and a stop) of a text."
    )
    encoder: Spec | None = Field(
        default=None, description="A network by name, or {network = NAME, …}. Default: by kind."
    )
    decoder: Spec | None = Field(default=None, description="As for encoder.")
    likelihood: Spec | None = Field(default=None, description="By name, or {name = NAME, …}. Default: by kind.")
    weight: float = Field(default=1.0, ge=0, description="λ: the weight of its reconstruction (Eq. 2).")
    augment: list[Spec] = Field(default=[], description="Augmentations of the encoder's input in training, by name.")
    view: Spec | None = Field(default=None, description="A fixed transformation of what the encoder sees, by name.")
    standardise: bool = Field(default=True, description="Learn real values in standard deviations from their mean.")
    class_weights: list[float] | None = Field(
        default=None, description="How many times the weight counts in examples of each class, in the order of classes."
    )


class CovariateSettings(Section):
    """A column that networks are conditioned on (`mvae.Covariate`)."""

    kind: Literal["categorical", "real"] | None = Field(default=None, description="Default: by the data.")
    categories: list[str] | list[int] | None = Field(
        default=None, description="In the order of their codes. Default: the training rows'."
    )
    unknown: bool = Field(
        default=False, description="May a row lack it, or have another category? Then training needs such rows."
    )
    features: int = Field(default=1, ge=1, description="How many numbers a row of a real one has.")


class ModelSettings(BaseModel):
    """The model; what stands here besides name and latents are options of that model's class."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    name: str = Field(default="mvae", description="A model by name: mvae, jmvae, mmvae, mopoe …")
    latents: int = Field(default=32, ge=1, le=100_000, description="The number of latents.")
    modalities: list[str] | None = Field(
        default=None, min_length=1, description="Those that it models, in order. Default: all declared."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The model's own options."""
        return dict(self.model_extra or {})


class EvaluationSettings(Section):
    """How the trained model is scored and shown."""

    samples: int = Field(default=1000, ge=2, le=MOST, description="Importance samples per row.")
    denominator_samples: int | None = Field(
        default=None,
        ge=2,
        le=MOST,
        description="Draws for the denominator of a conditional likelihood. Default: chosen by what is given.",
    )
    rows: int | None = Field(default=None, ge=1, description="Score the first so many test rows. Default: all.")
    show: list[str] = Field(
        default=[], description="What the picture of a run is given, as MODALITY=VALUE, a row each."
    )


class Config(Section):
    """A run, declared: what is trained, on what, and how.

    ``models`` holds options by model, of which those of the model in use count, so that one file serves several
    models. ``variants`` holds named changes, such as a smaller budget, that are made on request (`variant`).

    >>> config = Config.from_dict({"data": {"source": "digits"}, "modalities": {"label": {"kind": "categorical"}}})
    >>> config.training.epochs == config.change({"training": {"epochs": 7}}).training.epochs
    False
    """

    summary: str = Field(default="", description="One line that says what this is.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Of initial weights, order of rows, noise and random subsets."
    )
    data: DataSettings
    model: ModelSettings = ModelSettings()
    modalities: dict[str, ModalitySettings] = Field(default={}, description="By name, in the model's order.")
    covariates: dict[str, CovariateSettings] = Field(default={}, description="What networks are conditioned on.")
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    start_from: str | None = Field(
        default=None, description="A run of the same networks whose best weights training begins with."
    )
    models: dict[str, dict[str, Any]] = Field(
        default={}, description="Options by model: only the chosen model's count."
    )
    variants: dict[str, dict[str, Any]] = Field(default={}, description="Named changes to this declaration.")

    @field_validator("modalities")
    @classmethod
    def _named(cls, value: dict[str, ModalitySettings]) -> dict[str, ModalitySettings]:
        if "" in value:
            raise ValueError("a modality needs a name that is not empty")
        return value

    @classmethod
    def load(cls, path: str | Path) -> "Config":
        """The declaration in a TOML file.

        Raises:
            SettingsError: no such file, no TOML, an unknown key, or a value outside its range; the message names it.
        """
        from mvae.files import read_regular  # here: it brings torch

        try:
            text = read_regular(path).decode()
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is not UTF-8 text: it is no declaration of a run") from None
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path} is no TOML: {error}") from None
        return cls.from_dict(values, str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> "Config":
        """The declaration with these values, as a file has them.

        Raises:
            SettingsError: an unknown key or a value outside its range; ``where`` says in which file.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError(f"{where}: {explained(error, cls)}" if where else explained(error, cls)) from None

    def to_dict(self) -> dict[str, Any]:
        """Every value, defaults included; what is None is left out."""
        return self.model_dump(exclude_none=True)

    def change(self, changes: Mapping[str, Any]) -> "Config":
        """The same with some values changed: a nested mapping, as a file has them.

        Where the number of epochs changes, the epochs of annealing and of the falling learning rate keep their share.

        Raises:
            SettingsError: an unknown key or a value outside its range.
        """
        changes = dict(changes)
        training = dict(changes.get("training", {}))
        if isinstance(epochs := training.get("epochs"), int):
            kept = in_proportion(self.training.model_dump(), epochs) if epochs <= MOST else {}
            changes["training"] = kept | training
        return self.from_dict(merged(self.model_dump(exclude_unset=True), changes))

    def variant(self, *names: str) -> "Config":
        """The same with named changes made, one after the other.

        Raises:
            SettingsError: no variant of that name.
        """
        config = self
        for name in names:
            if name not in config.variants:
                known = ", ".join(config.variants) or "none"
                raise SettingsError(f"no variant {name!r}; there are {known}{nearest(name, config.variants)}")
            config = config.change(config.variants[name])
        return config

    def resolved(self) -> "Config":
        """Only what this run needs: the chosen model's options in its own table, and no variants."""
        options = self.models.get(self.model.name, {})
        model = options | self.model.model_dump()
        values = self.model_dump(exclude={"models", "variants"}) | {"model": model}
        return self.from_dict(values)

    @classmethod
    def schema_text(cls) -> str:
        """The JSON schema of the file."""
        return json.dumps(cls.model_json_schema(), indent=2, ensure_ascii=False)


def in_proportion(training: Mapping[str, Any], epochs: int) -> dict[str, int]:
    """The settings that are counted in epochs, with the share that they have of all epochs, for so many.

    >>> in_proportion({"epochs": 300, "anneal_epochs": 100}, 30)
    {'anneal_epochs': 10}
    """
    return {key: round(epochs * training[key] / training["epochs"]) for key in IN_EPOCHS if key in training}


def parse_change(text: str) -> dict[str, Any]:
    """``training.epochs=60`` as a nested mapping; the value is TOML, and text where it is none.

    Raises:
        SettingsError: not of the form KEY=VALUE.

    >>> parse_change("training.epochs=60"), parse_change("model.name=vae")
    ({'training': {'epochs': 60}}, {'model': {'name': 'vae'}})
    """
    key, equals, value = text.partition("=")
    if equals:
        for written in (value, json.dumps(value)):
            try:
                return tomllib.loads(f"{key} = {written}")
            except tomllib.TOMLDecodeError:
                continue
    raise SettingsError(f"--set {text!r}: write KEY=VALUE, for example training.epochs=60")


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted keys.

    >>> flattened({"a": {"x": 1}, "b": 2})
    {'a.x': 1, 'b': 2}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping) and value
        result |= flattened(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return result


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes laid over them, table by table; a list is replaced.

    >>> merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(values)
    for key, value in changes.items():
        own = result.get(key)
        result[key] = merged(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return result


def explained(error: ValidationError, root: type[BaseModel]) -> str:
    """The first fault of a validation in one line: its key, what is wrong, what may stand there."""
    faults = error.errors()
    fault = next(
        (one for one in faults if one["type"] == "extra_forbidden"), faults[0]
    )  # a misspelt key is missing too
    path = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        known = _keys_at(root, path[:-1])
        return f"no key {'.'.join(path)!r}; there are {', '.join(known)}{nearest(path[-1], known)}"
    return f"{'.'.join(path)} is needed" if fault["type"] == "missing" else settings.explained(error)


def _keys_at(root: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the table at this path."""
    model: Any = root
    for part in path:
        kind = model.model_fields[part].annotation if part in model.model_fields else None
        inner = [a for a in getattr(kind, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
        elif inner:  # a table of named tables: the next part is a name
            model = _Named(inner[0])
        elif isinstance(model, _Named):
            model = model.model
        else:
            return []
    return list(model.model_fields)


class _Named:
    """A table whose keys are names, each with a table of this model."""

    model_fields: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: type[BaseModel]):
        self.model = model
