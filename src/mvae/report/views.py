"""How the values of a modality are shown: as pictures, classes, yes or no, text, or numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from mvae.data.fields import CLASSED, Field
from mvae.evaluation.images import levels
from mvae.likelihoods import Bernoulli, Categorical
from mvae.modality.base import Modality
from mvae.modality.columns import ColumnsModality
from mvae.modality.sentences import SentenceModality
from mvae.modality.strings import StringModality

__all__ = ["YEAR", "View", "view_of"]

ViewKind = Literal["picture", "classes", "flags", "text", "numbers", "table"]

YEAR = 365.2425 * 86_400  # seconds


@dataclass(frozen=True)
class View:
    """How a modality is shown.

    Args:
        name: name of the modality.
        kind: how its values are shown.
        shape: shape of one example.
        columns: a name for each single value of an example of flags or numbers.
        classes: the names of classes, in the order of their codes.
        levels: a picture's value of full brightness.
        write: value → text, if there is such a function.
        fields: a view of each column of a modality of columns.
        date: whether these are seconds since 1970.
        style: how these numbers are written in a table's text, one of `mvae.data.tables.numbers.STYLES`.
        form: how these dates are written in a table's text, as for ``strftime``; empty where they are not text.
    """

    name: str
    kind: ViewKind
    shape: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    levels: float = 1.0
    write: Callable[[Tensor], str] | None = None
    fields: tuple["View", ...] = ()
    date: bool = False
    style: str = "1234.5"
    form: str = ""

    def words(self, values: Tensor) -> list[str]:
        """Each example as text."""
        if self.kind == "classes" and values.dim() == 1:
            return [self.class_name(int(value)) for value in values]
        if self.write is not None:
            return [self.write(value) for value in values.cpu()]
        return [" ".join(f"{part:.4g}" for part in value.flatten().tolist()[:8]) for value in values.double().cpu()]

    def class_name(self, code: int) -> str:
        """The name of a class, or its number if no name is known."""
        return self.classes[code] if code < len(self.classes) else str(code)

    def numbers(self, values: Tensor, lead: int = 1) -> np.ndarray:
        """Examples as ``… columns`` in float64, after ``lead`` leading axes (rows, or samples and rows)."""
        return values.double().cpu().reshape(*values.shape[:lead], -1).numpy()

    def images(self, values: Tensor) -> Tensor:
        """Examples as images with levels in [0, 1], ``n channels height width``."""
        return levels(values.reshape(-1, *self.shape), self.levels).cpu()


def view_of(
    name: str,
    modality: Modality,
    shape: Sequence[int],
    *,
    columns: Sequence[str] | None = None,
    classes: Sequence[Any] | Mapping[str, Sequence[Any]] = (),
    write: Callable[[Tensor], str] | None = None,
    written: Mapping[str, tuple[str, str]] | None = None,
) -> View:
    """The view of a modality whose examples have this shape.

    Args:
        name: name of the modality.
        modality: the modality.
        shape: shape of one example.
        columns: a name for each single value.
        classes: the names of classes; by column for a modality of columns.
        write: value → text, if there is such a function.
        written: column → style of numbers and form of dates, for a modality of columns that came as text.

    >>> view_of("labs", mvae.Modality(nn.Linear(2, 4), nn.Linear(2, 2), "gaussian"), (2,), columns=["hb", "crp"]).kind
    'numbers'
    """
    shape, names = tuple(shape), tuple(map(str, classes))
    if isinstance(modality, ColumnsModality):
        named = dict(classes) if isinstance(classes, Mapping) else {}
        plain = ("1234.5", "")
        fields = tuple(
            _field_view(field, named.get(field.name, ()), *(written or {}).get(field.name, plain))
            for field in modality.fields
        )
        return View(name, "table", (len(fields),), modality.names, fields=fields)
    if isinstance(modality, StringModality | SentenceModality):
        return View(name, "text", shape, write=write)
    if len(shape) == 3 and shape[0] in (1, 3):
        return View(name, "picture", shape, levels=modality.likelihood.levels)
    if isinstance(modality.likelihood, Categorical):
        return View(name, "classes", shape, classes=names, write=write)
    count = math.prod(shape)
    given = tuple(columns or ())
    labels = given if len(given) == count else (name,) if count == 1 else tuple(f"{name} {i + 1}" for i in range(count))
    kind = "flags" if isinstance(modality.likelihood, Bernoulli) else "numbers"
    return View(name, kind, shape, labels, write=write)


def _field_view(field: Field, classes: Sequence[Any], style: str, form: str) -> View:
    if field.kind not in (*CLASSED, "binary"):
        date = field.kind == "date"
        return View(field.name, "numbers", columns=(field.name,), date=date, style=style, form=form)
    names = tuple(map(str, classes)) or (("no", "yes") if field.kind == "binary" else ())
    return View(field.name, "classes", classes=names or tuple(map(str, range(field.classes or 2))))
