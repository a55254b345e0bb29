"""The declaration of a run: one typed file for data, modalities, model and training (`mvae.runs.sections`).

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
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from mvae.errors import SettingsError, abridged, nearest
from mvae.runs.sections import (
    CovariateSettings,
    DataSettings,
    EvaluationSettings,
    ModalitySettings,
    ModelSettings,
    Section,
)
from mvae.training import settings
from mvae.training.settings import MOST, TrainingSettings

__all__ = ["Config", "difference", "flattened", "in_proportion", "merged", "parse_change"]

IN_EPOCHS = ("anneal_epochs", "decay_epochs")  # they scale with the epochs when only these are changed
SHOWN = 200  # characters of a setting that differs


class Config(Section):
    """The declaration of a run: what is trained, on which data, and how.

    ``models`` holds options per model, so that one file serves several models: only those of the model in use apply.
    ``variants`` holds named changes, such as a smaller budget, that are made on request (`variant`).

    >>> config = Config.from_dict({"data": {"source": "digits"}, "modalities": {"label": {"kind": "categorical"}}})
    >>> config.training.epochs == config.change({"training": {"epochs": 7}}).training.epochs
    False
    """

    summary: str = Field(default="", description="One line that says what this is.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed of initial weights, order of rows, noise and random subsets."
    )
    data: DataSettings
    model: ModelSettings = ModelSettings()
    modalities: dict[str, ModalitySettings] = Field(default={}, description="Modalities by name, in the model's order.")
    covariates: dict[str, CovariateSettings] = Field(default={}, description="What networks are conditioned on.")
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    start_from: str | None = Field(
        default=None, description="A run of the same networks; training starts from its best weights."
    )
    models: dict[str, dict[str, Any]] = Field(
        default={}, description="Options by model: only the chosen model's apply."
    )
    variants: dict[str, dict[str, Any]] = Field(default={}, description="Named changes to this declaration.")

    @field_validator("modalities")
    @classmethod
    def _named(cls, value: dict[str, ModalitySettings]) -> dict[str, ModalitySettings]:
        if "" in value:
            raise ValueError("a modality needs a name that is not empty")
        return value

    @model_validator(mode="after")
    def _once(self) -> "Config":
        if both := [name for name in self.covariates if name in self.modalities]:
            raise ValueError(f"{both[0]} is declared as a modality and as a covariate: leave one of them out")
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Config":
        """Read a declaration from a TOML file.

        Raises:
            SettingsError: no such file, not TOML, an unknown key, or a value outside its range; the message names it.
        """
        from mvae.files import read_regular  # here, because it imports torch

        try:
            text = read_regular(path).decode()
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is not UTF-8 text, so it is not a declaration of a run") from None
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path} is not TOML: {error}") from None
        return cls.from_dict(values, str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> "Config":
        """Make a declaration from values nested as in a file.

        Raises:
            SettingsError: an unknown key or a value outside its range; ``where`` says in which file.
        """
        try:
            return cls.model_validate(settings.plain(values))
        except ValidationError as error:
            raise SettingsError(f"{where}: {explained(error, cls)}" if where else explained(error, cls)) from None

    def to_dict(self) -> dict[str, Any]:
        """Every value including defaults, without those that are None."""
        return self.model_dump(exclude_none=True)

    def change(self, changes: Mapping[str, Any]) -> "Config":
        """A copy with some values changed by a mapping, nested as in a file.

        If the number of epochs changes, the epochs of annealing and of learning rate decay keep their share of it.

        Raises:
            SettingsError: an unknown key or a value outside its range.
        """
        changes = dict(settings.plain(changes))
        training = dict(changes.get("training", {}))
        if isinstance(epochs := training.get("epochs"), int):
            kept = in_proportion(self.training.model_dump(), epochs) if epochs <= MOST else {}
            changes["training"] = kept | training
        return self.from_dict(merged(self.model_dump(exclude_unset=True), changes))

    def variant(self, *names: str) -> "Config":
        """A copy with named changes made, one after the other.

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
        """A copy with only what this run needs: the chosen model's options in the table ``model``, and no variants."""
        options = self.models.get(self.model.name, {})
        model = options | self.model.model_dump()
        values = self.model_dump(exclude={"models", "variants"}) | {"model": model}
        return self.from_dict(values)

    @classmethod
    def schema_text(cls) -> str:
        """The JSON schema of a declaration file."""
        return json.dumps(cls.model_json_schema(), indent=2, ensure_ascii=False)


def in_proportion(training: Mapping[str, Any], epochs: int) -> dict[str, int]:
    """The settings that are counted in epochs, rescaled to this number of epochs.

    >>> in_proportion({"epochs": 300, "anneal_epochs": 100}, 30)
    {'anneal_epochs': 10}
    """
    return {key: round(epochs * training[key] / training["epochs"]) for key in IN_EPOCHS if key in training}


def parse_change(text: str) -> dict[str, Any]:
    """Parse ``training.epochs=60`` into a nested mapping; a value that is not valid TOML is read as text.

    Parts of a key with other signs than letters, digits, - and _ are quoted, as in TOML.

    Raises:
        SettingsError: not of the form KEY=VALUE.

    >>> parse_change("training.epochs=60"), parse_change('modalities.labs.kinds."a=b"=ordinal')
    ({'training': {'epochs': 60}}, {'modalities': {'labs': {'kinds': {'a=b': 'ordinal'}}}})
    """
    ends = [at for at, sign in enumerate(text) if sign == "="]  # a quoted key may have one, too
    quoted = [f"{text[:at]}={json.dumps(text[at + 1 :], ensure_ascii=False)}" for at in ends]
    for written in (text, *quoted) if ends else ():
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(written)
    raise SettingsError(
        f"--set {text!r}: write KEY=VALUE, for example training.epochs=60; quote a name with other signs than letters, "
        "digits, - and _, as in 'modalities.labs.kinds.\"a.b\"=real'"
    )


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one flat mapping with dotted keys.

    >>> flattened({"a": {"x": 1}, "b": 2})
    {'a.x': 1, 'b': 2}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping) and value
        result |= flattened(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return result


def difference(key: str, before: Any, now: Any) -> str:
    """What differs between two values of a setting; of long lists, only the entries that one of them lacks."""
    said = f"{key} was {before!r}, now {now!r}"
    if len(said) > SHOWN and isinstance(before, list) and isinstance(now, list):
        lost, new = [x for x in before if x not in now], [x for x in now if x not in before]
        if lost or new:
            return f"{key} had {abridged(lost)}, now has {abridged(new)} instead"
    return said if len(said) <= SHOWN else f"{key} was {abridged(before)}, now {abridged(now)}"


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes merged into them, table by table; a list is replaced as a whole.

    >>> merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(values)
    for key, value in changes.items():
        own = result.get(key)
        result[key] = merged(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return result


def explained(error: ValidationError, root: type[BaseModel]) -> str:
    """The first error of a validation in one line: its key, what is wrong, and what is allowed."""
    faults = error.errors()
    fault = next(
        (one for one in faults if one["type"] == "extra_forbidden"), faults[0]
    )  # a misspelt key is missing too
    path = settings.keys_of(fault)
    if fault["type"] == "extra_forbidden":
        known = _keys_at(root, path[:-1])
        return f"no key {'.'.join(path)!r}; there are {', '.join(known)}{nearest(path[-1], known)}"
    return f"{'.'.join(path)} is needed" if fault["type"] == "missing" else settings.explained(error)


def _keys_at(root: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that the table at this path may have."""
    table, parts = root, iter(path)
    for part in parts:
        kind = table.model_fields[part].annotation if part in table.model_fields else None
        tables = _tables_in(kind)
        if not tables:
            return []
        table = tables[0]
        if table is not kind:  # several such tables: the next part is the name or number of one
            next(parts, None)
    return list(table.model_fields)


def _tables_in(kind: Any) -> list[type[BaseModel]]:
    """The tables among a type's parts, as in a mapping from names to either text or a table."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [table for part in get_args(kind) for table in _tables_in(part)]
