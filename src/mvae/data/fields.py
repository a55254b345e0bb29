"""Fields: the individual columns of a modality of columns, each with its own kind."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mvae.errors import SettingsError, nearest

__all__ = ["CLASSED", "FAMILIES", "KINDS", "SCALED", "Field", "fields_of"]

#: Kind → the families of p(x | z) that it may have, the default first.
FAMILIES: dict[str, tuple[str, ...]] = {
    "real": ("gaussian", "student"),
    "positive": ("gaussian",),  # of the logarithm
    "bounded": ("gaussian",),  # of the log-odds
    "date": ("gaussian",),
    "count": ("negative-binomial", "poisson"),
    "binary": ("bernoulli",),
    "categorical": ("categorical",),
    "ordinal": ("ordinal",),
}
KINDS = tuple(FAMILIES)
SCALED = ("real", "positive", "bounded", "date")  # modelled in standard deviations
CLASSED = ("categorical", "ordinal")  # with class numbers 0 … K−1


@dataclass(frozen=True)
class Field:
    """One column of a modality of columns, with values in the user's units.

    Args:
        name: name of the column.
        kind: "real"; "positive" (above 0, modelled as logarithms); "bounded" (between ``low`` and ``high``, modelled as
            log-odds); "date" (seconds; the encoder also sees the time of year, week and day); "count"; "binary" (0 or
            1); "categorical" and "ordinal" (class numbers 0 … K−1).
        classes: number of classes K of a categorical or ordinal field.
        low: lower bound of a bounded field.
        high: upper bound of a bounded field.
        family: family of p(x | z), if the kind has several (`FAMILIES`). Default: the first.

    Raises:
        SettingsError: an unknown kind or family, fewer than two classes, or invalid bounds.

    >>> Field("stage", "ordinal", classes=4)
    Field(name='stage', kind='ordinal', classes=4, low=None, high=None, family='ordinal')
    """

    name: str
    kind: str = "real"
    classes: int | None = None
    low: float | None = None
    high: float | None = None
    family: str | None = None

    def __post_init__(self) -> None:
        what = f"field {self.name!r}"
        if self.kind not in FAMILIES:
            raise SettingsError(
                f"{what}: no kind {self.kind!r}; there are {', '.join(KINDS)}{nearest(self.kind, KINDS)}"
            )
        families = FAMILIES[self.kind]
        if self.family not in (None, *families):
            raise SettingsError(f"{what}: a {self.kind} field is {' or '.join(families)}, not {self.family!r}")
        object.__setattr__(self, "family", self.family or families[0])
        if self.kind in CLASSED and (self.classes is None or self.classes < 2):
            raise SettingsError(f"{what}: {self.kind} needs classes, the number of classes, at least 2")
        if self.kind == "bounded":
            low, high = (math.nan if bound is None else bound for bound in (self.low, self.high))
            if not -math.inf < low < high < math.inf:
                raise SettingsError(f"{what}: bounded needs low < high, not {self.low} and {self.high}")


def fields_of(specs: Iterable[Field | str | Mapping[str, Any]]) -> tuple[Field, ...]:
    """Build fields from instances, names (of real fields), or mappings of `Field`'s arguments.

    Raises:
        SettingsError: no fields, two fields of one name, or an argument that `Field` does not take.

    >>> [field.kind for field in fields_of(["hb", {"name": "sex", "kind": "categorical", "classes": 2}])]
    ['real', 'categorical']
    """
    made = []
    for spec in specs:
        if isinstance(spec, Mapping):
            known = tuple(Field.__dataclass_fields__)
            if unknown := [key for key in spec if key not in known]:
                raise SettingsError(f"a field has no {unknown[0]!r}; it has {', '.join(known)}")
            spec = Field(**spec)
        made.append(Field(spec) if isinstance(spec, str) else spec)
    names = [field.name for field in made]
    if not names:
        raise SettingsError("a modality of columns needs at least one field")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"two fields are named {twice[0]!r}")
    return tuple(made)
