"""The settings of training, each with its range, default and one sentence."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator
from pydantic.json_schema import SkipJsonSchema

from mvae.errors import SettingsError, abridged, nearest

__all__ = [
    "OptimizerFactory",
    "ScheduleFactory",
    "TrainingSettings",
    "explained",
    "keys_of",
    "plain",
    "training_settings",
]

MOST = 10**9  # the largest count
OptimizerFactory = Callable[..., Any]  # makes a torch.optim.Optimizer; torch is not imported, for a fast --help
ScheduleFactory = Callable[..., Any]  # makes a torch.optim.lr_scheduler.LRScheduler

RANGES = {  # pydantic's names of ranges → words
    "greater_than_equal": ("must be at least {}", "ge"),
    "greater_than": ("must be greater than {}", "gt"),
    "less_than_equal": ("must be at most {}", "le"),
    "less_than": ("must be less than {}", "lt"),
}
KINDS = {  # pydantic's names of types → words
    "int_type": "a whole number", "float_type": "a number", "string_type": "text", "bool_type": "true or false",
    "list_type": "a list", "dict_type": "a table of keys", "model_type": "a table of keys",
}  # fmt: skip
_MEMBER = re.compile(r"(list|dict|literal|callable|function-\w+)\[.*\]|callable|\w+Settings")


class TrainingSettings(BaseModel):
    """How `fit` trains.

    >>> TrainingSettings(epochs=60).batch_size
    100
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(default=100, ge=1, le=MOST, description="Passes over the training rows, in each stage.")
    batch_size: int = Field(default=100, ge=1, le=MOST, description="Examples per step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the optimizer.")
    anneal_epochs: int = Field(
        default=0, ge=0, le=MOST, description="Raise β from 0 over the first N epochs of a stage."
    )
    decay_epochs: int = Field(
        default=0, ge=0, le=MOST, description="Decay the learning rate over a stage's last N epochs."
    )
    schedule: Literal["linear", "cosine"] | SkipJsonSchema[ScheduleFactory] = Field(
        default="linear",
        description="Shape of the learning rate's decay over decay_epochs; in Python also a function of the optimizer "
        "that makes one of torch.optim.lr_scheduler, which is stepped after each epoch.",
    )
    beta: float = Field(default=1.0, ge=0, description="Weight of the KL divergence once annealing has ended.")
    optimizer: Literal["adam", "adamw", "sgd"] | SkipJsonSchema[OptimizerFactory] = Field(
        default="adam", description="adam, adamw or sgd (momentum 0.9); in Python also a torch.optim class."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="Weight decay: an L2 penalty for adam and sgd, decoupled for adamw."
    )
    clip_norm: float | None = Field(default=None, gt=0, description="Scale gradients down to at most this norm.")
    patience: int | None = Field(
        default=None,
        ge=1,
        le=MOST,
        description="Stop after N epochs without a better validation objective (after annealing).",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="bfloat16: networks compute in it under autocast, the weights stay float32. It is faster on some "
        "machines (a warning says where it is not), and cost about 1 nat of log p per picture.",
    )
    row_weights: str | None = Field(
        default=None, description="Column of the table that says how much each training row counts."
    )
    checkpoint_seconds: float = Field(default=60.0, ge=0, description="Seconds between checkpoints.")

    @model_validator(mode="after")
    def _agree(self) -> "TrainingSettings":
        if self.decay_epochs > self.epochs:
            raise ValueError(f"decay_epochs must be at most epochs, {self.epochs}, not {self.decay_epochs}")
        if self.decay_epochs and not isinstance(self.schedule, str):
            raise ValueError("decay_epochs applies to the named schedules, and must be 0 with one of your own")
        return self

    @field_serializer("optimizer", "schedule")
    def _named(self, value: str | Callable[..., Any]) -> str:
        return value if isinstance(value, str) else f"{value.__module__}.{getattr(value, '__qualname__', value)}"


def training_settings(settings: TrainingSettings | None, changes: Mapping[str, Any]) -> TrainingSettings:
    """A copy of the settings with some of them changed.

    Raises:
        SettingsError: an unknown setting, or a value of the wrong type or outside its range.
    """
    known = TrainingSettings.model_fields
    for name in changes:
        if name not in known:
            raise SettingsError(f"there is no setting {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    base = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
    given = {name: plain(value) for name, value in changes.items()}
    try:
        return TrainingSettings(**(base | given))
    except ValidationError as error:
        raise SettingsError(explained(error)) from None


def _written(bound: int | float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def plain(value: Any) -> Any:
    """Convert NumPy numbers to Python's own, also within lists and mappings."""
    if isinstance(value, Mapping):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [plain(own) for own in value]
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def keys_of(fault: Mapping[str, Any]) -> list[str]:
    """The path of keys to a pydantic error, without the names of union members that pydantic puts among them.

    >>> keys_of({"loc": ("data", "missing", 0, "str")}), keys_of({"loc": ("kinds", "hb [g/l]", "FieldSettings", "low")})
    (['data', 'missing', '0'], ['kinds', 'hb [g/l]', 'low'])
    """
    keys = [str(part) for part in fault["loc"]]
    unknown = len(keys) - 1 if fault.get("type") == "extra_forbidden" else None  # it may have any name
    found = [key for i, key in enumerate(keys) if i in (0, unknown) or not _MEMBER.fullmatch(key)]
    member = unknown is None and len(found) > 1 and found[-1] in ("str", "int", "float", "bool")
    return found[:-1] if member else found


def explained(error: ValidationError) -> str:
    """The first error of pydantic in one line, with its key.

    >>> try:
    ...     TrainingSettings(epochs=0)
    ... except ValidationError as error:
    ...     print(explained(error))
    epochs must be at least 1, not 0
    """
    faults: list[Any] = error.errors(include_url=False)
    keys = keys_of(faults[0])
    inner = (fault for fault in faults if keys_of(fault)[: len(keys)] == keys and len(keys_of(fault)) > len(keys))
    first = next(inner, faults[0]) if faults[0]["type"] in KINDS else faults[0]  # the nearest member of a union
    kinds = [fault["type"] for fault in faults if keys_of(fault) == keys_of(first)]
    where, value, kind, details = ".".join(keys_of(first)), first.get("input"), first["type"], first.get("ctx", {})
    if kind == "value_error":
        return f"{where}: {details['error']}" if where else str(details["error"])
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} must be a finite number, not {value}"
    if kind in RANGES:
        words, bound = RANGES[kind]
        return f"{where} {words.format(_written(details[bound]))}, not {abridged(value)}"
    if all(one in KINDS for one in kinds):
        return f"{where} must be {' or '.join(dict.fromkeys(KINDS[one] for one in kinds))}, not {abridged(value)}"
    if kind == "literal_error":
        return f"{where} must be {details['expected']}, not {abridged(value)}"
    return f"{where}: {first['msg']}, not {abridged(value)}"
