"""The data of the study of tables with holes: fields, values, and which cells are hidden from every method.

HI-VAE's public sets (Nazábal et al. 2020) with their published masks, and sets with views: scikit-learn's embedded
ones, its digits in quadrants, and UCI's Multiple Features. In those with views, cells, whole views or both are hidden
at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mvae.data.fields import Field
from mvae.data.tables.frames import of_frame
from mvae.data.tables.schema import TableSchema
from mvae.errors import DataError
from mvae.studies.mfeat import read_views

HIVAE = {"wine": 13, "breast": 10, "adult": 12}  # fields
SKLEARN = ("breast-cancer", "wine-classes", "diabetes")
VIEWED = (*SKLEARN, "digits", "mfeat")  # with views: the mean, error and worst of breast cancer's columns, quadrants …
SETS = (*HIVAE, *VIEWED)
Values = Float[np.ndarray, "rows fields"]


@dataclass(frozen=True)
class Whole:
    """A set without holes.

    Attributes:
        names: the names of the columns.
        values: ``rows fields``.
        view: the view of each column.
        target: the class of each row, or a number.
    """

    names: tuple[str, ...]
    values: Values
    view: np.ndarray
    target: np.ndarray

    @property
    def classes(self) -> int:
        """The number of classes of the target; 0 if it is a number."""
        return int(self.target.max()) + 1 if self.target.dtype.kind in "iu" else 0


@dataclass(frozen=True)
class Holes:
    """A table with some cells hidden.

    Attributes:
        name: the name of the set.
        pattern: what is hidden: "cells 30 %", "views 30 %" …
        fields: its columns.
        truth: the true values, ``rows fields``; NaN where they are unknown.
        observed: ``rows fields``, the cells that methods may use.
    """

    name: str
    pattern: str
    fields: tuple[Field, ...]
    truth: Float[np.ndarray, "rows fields"]
    observed: Bool[np.ndarray, "rows fields"]

    @property
    def hidden(self) -> Bool[np.ndarray, "rows fields"]:
        """The cells whose value is known but hidden."""
        return ~self.observed & ~np.isnan(self.truth)


def holes_of(name: str, pattern: str, seed: int, data_dir: Path | None = None, rows: int | None = None) -> Holes:
    """A set with some of its cells hidden.

    Args:
        name: one of `SETS`.
        pattern: "cells 10 %" to "cells 50 %"; for sets with views also "views 30 %" and "both 30 %".
        seed: the number of the mask, from 0 on; HI-VAE's sets have five.
        data_dir: the parent of the folders ``hi-vae`` and ``mfeat``.
        rows: the number of rows, from the first; default all.

    Raises:
        DataError: no such set or mask, or its files are absent or damaged.
    """
    what, _, share = pattern.removesuffix(" %").partition(" ")
    if name in HIVAE and what == "cells":
        fields, truth, observed = _hivae(name, int(share), seed, data_dir)
    elif name in VIEWED and what in ("cells", "views", "both"):
        found = whole(name, data_dir)
        truth = found.values
        observed = ~_hidden(truth, found.view, what, int(share) / 100, seed)
        fields = fields_of_numbers(name, found.names, np.where(observed, truth, np.nan))
    else:
        raise DataError(f"there is no set {name!r} with {pattern!r}")
    return Holes(name, pattern, fields, truth[:rows], observed[:rows])


def fields_of_numbers(name: str, names: Sequence[str], values: Values) -> tuple[Field, ...]:
    """The columns of a set with views: of `SKLEARN` with the scales that `mvae train` proposes, else all real.

    Columns that it proposes as classes are numbers here, because errors are those of means.
    """
    if name not in SKLEARN:
        return tuple(map(Field, names))
    proposed = TableSchema.learn(of_frame(dict(zip(names, values.T, strict=True)))).columns
    return tuple(Field(column.name, "positive" if column.kind == "positive" else "real") for column in proposed)


def _hivae(name: str, share: int, seed: int, data_dir: Path | None) -> tuple[tuple[Field, ...], Any, Any]:
    folder = (data_dir or Path()) / "hi-vae" / name
    try:
        values = np.loadtxt(folder / "data.csv", delimiter=",")
        lines = (folder / "data_types.csv").read_text().split()[1:]
        with np.load(folder / "masks.npz") as masks:
            packed, shape = masks[f"missing_{share}_{seed + 1}"], masks["shape"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"cannot read {folder} ({error}): give --data-dir, the folder that holds hi-vae") from None
    hidden = np.unpackbits(packed)[: shape.prod()].reshape(shape).astype(bool)
    fields = []
    for i, (kind, _, classes) in enumerate(line.split(",") for line in lines):
        if kind in ("cat", "ordinal"):
            values[:, i] -= np.nanmin(values[:, i])
            own = "categorical" if kind == "cat" else "ordinal"
            fields.append(Field(f"{kind}{i}", own, classes=max(int(classes), int(np.nanmax(values[:, i])) + 1)))
        else:
            fields.append(Field(f"{kind}{i}", _kind_of(kind, values[:, i])))
    return tuple(fields), values, ~hidden & ~np.isnan(values)


def _kind_of(kind: str, column: Float[np.ndarray, "rows"]) -> str:
    """The library's name of HI-VAE's kind; a positive column that has zeros is real."""
    if kind == "count":
        return "count"
    return "positive" if kind == "pos" and np.nanmin(column) > 0 else "real"


def _hidden(values: Values, view: np.ndarray, what: str, share: float, seed: int) -> Bool[np.ndarray, "rows fields"]:
    """Hide cells, whole views or both at random; a row keeps at least one value."""
    generator = np.random.default_rng(seed)
    hidden = np.zeros(values.shape, bool)
    if what in ("views", "both"):
        hidden |= (generator.random((len(values), view.max() + 1)) < share)[:, view]
    if what in ("cells", "both"):
        hidden |= generator.random(values.shape) < share
    for row in np.flatnonzero(hidden.all(1)):
        hidden[row, generator.integers(values.shape[1])] = False
    return hidden


@cache
def whole(name: str, data_dir: Path | None = None) -> Whole:
    """A set of `VIEWED` without holes: its columns, the view of each, and each row's target.

    Raises:
        DataError: files of mfeat are absent.
    """
    if name == "mfeat":
        views, labels = read_views(data_dir)
        parts = [(f"{view} {i}", k) for k, (view, own) in enumerate(views.items()) for i in range(own.shape[1])]
        values = np.concatenate(list(views.values()), 1).astype(np.float64)
        return _varying([part[0] for part in parts], values, np.array([part[1] for part in parts]), labels)
    from sklearn import datasets

    load: dict[str, Callable[[], Any]] = {
        "breast-cancer": datasets.load_breast_cancer,
        "wine-classes": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
        "digits": datasets.load_digits,
    }
    found = load[name]()
    names, values = list(map(str, found.feature_names)), np.asarray(found.data, dtype=np.float64)
    columns = np.arange(len(names))
    view = columns // 32 * 2 + columns % 8 // 4 if name == "digits" else columns * 3 // len(names)
    return _varying(names, values, view, np.asarray(found.target))


def _varying(names: list[str], values: Values, view: np.ndarray, target: np.ndarray) -> Whole:
    """Drop constant columns, such as pixels in a corner."""
    vary = values.std(0) > 0
    return Whole(tuple(np.array(names)[vary].tolist()), values[:, vary], view[vary], target)
