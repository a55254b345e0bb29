"""AnnData and MuData (``.h5ad``, ``.h5mu``): cells as a table, and answers written back by cell name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mvae.arguments import checked_arguments
from mvae.data.on_disk import open_on_disk
from mvae.data.sparse import SparseRows
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError, abridged, nearest, no_file, require_extra

__all__ = ["Annotated", "read_anndata", "write_anndata"]

PLACES = "X, raw/X, layers/NAME, obsm/NAME or obs/NAME, and MODALITY: before it in a MuData"
PLACE = re.compile(r"(?:(.*?):)??(X|raw/X|(?:layers|obsm|obs)/.+)", re.DOTALL)  # names may hold colons, too


@dataclass(frozen=True, eq=False)
class Annotated:
    """Cells as a table.

    Args:
        table: the columns that were read.
        cells: the names of the cells, in the order of the rows.
        features: column → the names of its features, if it has them.
        categories: column of text or categories → the categories of its codes 0 … K−1, as text (`mvae.Covariate` takes
            them).
    """

    table: Table
    cells: tuple[str, ...]
    features: Mapping[str, tuple[str, ...]]
    categories: Mapping[str, tuple[str, ...]]


@checked_arguments("source")
def read_anndata(
    source: Any,
    columns: Mapping[str, str],
    *,
    present: Mapping[str, str] | None = None,
    features: Mapping[str, Iterable[str]] | None = None,
    categories: Mapping[str, Iterable[Any]] | None = None,
    backed: bool = False,
) -> Annotated:
    """Read the cells of an AnnData or MuData object, or of a file that contains one.

    Sparse matrices stay sparse. A modality is missing in the rows where ``present`` is false, in rows that are all NaN,
    and in cells that are not in the MuData's modality; single NaN values are missing values. A zero is a count of zero.

    Args:
        source: the object, or a path that ends in ``.h5ad`` or ``.h5mu``.
        columns: name → its place: X, raw/X, layers/NAME, obsm/NAME or obs/NAME; in a MuData ``rna:X`` and so on.
        present: name → obs/NAME of a boolean column that says which cells have it.
        features: name → the names of the requested features, which are returned in this order: those of the training
            cells (`Annotated.features`; entries for other columns are ignored), or a subset. Default: all, in their
            order.
        categories: name → the categories at training time (`Annotated.categories`); by default the sorted categories
            that occur.
        backed: leave X, raw and layers on disk, for files larger than memory. NaN values are then not detected.

    Raises:
        DataError: the file is absent or damaged; a place or feature is not in it (the message lists what is); two cells
            have the same name, or two of the requested features. SettingsError: ``present``, ``features`` or
            ``categories`` name something that is not a column, or an argument has the wrong type.
            MissingDependencyError: anndata or mudata is not installed.
    """
    data = _opened(source, backed) if isinstance(source, str | Path) else source
    cells = _cells_of(data, ", or a path that ends in .h5ad or .h5mu")
    taken, masks, labelled, known = {}, {}, {}, {}
    wanted = {name: _list(f"features of {name!r}", names) for name, names in (features or {}).items()}
    listed = {name: _list(f"categories of {name!r}", names) for name, names in (categories or {}).items()}
    _require_columns(columns, {"present": present or {}, "features": wanted, "categories": listed})
    for name, where in columns.items():
        part, inside = _part(data, where)
        values, labels = _found(part, inside)
        place, order = _place(part, cells), _order(where, labels, wanted.get(name))
        if inside.startswith("obs/"):
            values, here, own = _coded(values, place, listed.get(name))
            known |= {name: own} if own else {}
        else:
            values, here = _measured(values, place, order)
        taken[name] = values
        labelled[name] = labels if order is None else tuple(labels[i] for i in order)
        if here is not None:
            masks[name] = here
    for name, where in (present or {}).items():
        own, said = masks.get(name, np.ones(len(cells), bool)), _said_present(data, where, cells)
        masks[name] = own & said.reshape(-1, *[1] * (own.ndim - 1))
    return Annotated(Table(taken, masks), cells, {k: v for k, v in labelled.items() if v}, known)


@checked_arguments("data", "cells")
def write_anndata(data: Any, answers: Mapping[str, Any], cells: Iterable[str]) -> None:
    """Store answers in an AnnData object (or one modality of a MuData), matched by cell name.

    Args:
        data: the object, changed in place; save it with ``data.write_h5ad(path)``. Cells without an answer get NaN, or
            None for text.
        answers: place → values ``cells …``: for example latents in ``obsm/X_mvae``, denoised values in
            ``layers/denoised``, scores or predicted classes in ``obs/NAME``.
        cells: the cell names of the answers' rows (`Annotated.cells`).

    Raises:
        DataError: duplicate names, no cell in common, the wrong number of rows or features, or several values per cell
            for obs. SettingsError: an unknown place, or an argument of the wrong type.
    """
    own, cells = _cells_of(data), _list("cells", cells)
    place = {cell: row for row, cell in enumerate(_names(cells))}
    rows = np.array([place.get(cell, -1) for cell in own], np.int64)
    if (rows < 0).all():
        such = f" (such as {cells[0]!r})" if len(cells) else ", which have none"
        raise DataError(f"no cell has a name that is in the answers{such}: give the object that was read")
    for where, values in answers.items():
        kind, _, name = where.partition("/")
        places = [kind for kind in ("obsm", "layers", "obs") if getattr(data, kind, None) is not None]
        if kind not in places or not name:
            raise SettingsError(f"answers go to {'/NAME, '.join(places)}/NAME of this object, not to {where!r}")
        kept = _by_cell(_as_array(where, values), rows, len(cells), where)
        if kind == "layers" and kept.shape[1:] != (data.n_vars,):
            raise DataError(f"{where}: values of shape {kept.shape} for an object of {data.n_vars} features")
        if kind == "obs" and kept.size == len(kept):
            kept = kept.reshape(len(kept))
        if kind == "obs" and kept.ndim > 1:
            raise DataError(f"{where}: rows of shape {kept.shape[1:]}, but obs has one value per cell: use obsm/{name}")
        getattr(data, kind)[name] = kept


def _as_array(where: str, values: Any) -> np.ndarray:
    """Answers as an array."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if not array.ndim or (array.dtype.kind == "O" and array.ndim > 1):
        raise DataError(f"{where}: {abridged(values)} is not an array with a row for each cell")
    return array


def _by_cell(array: np.ndarray, rows: np.ndarray, cells: int, where: str) -> np.ndarray:
    """The row of each cell; where ``rows`` is −1, NaN, or None for text."""
    if len(array) != cells:
        raise DataError(f"{where}: values of shape {array.shape} for {cells} cells")
    if (rows >= 0).all():
        return array[rows]
    text = array.dtype.kind in "OUS"
    kept = np.full((len(rows), *array.shape[1:]), None if text else np.nan, object if text else np.float64)
    kept[rows >= 0] = array[rows[rows >= 0]]
    return kept


def _opened(path: str | Path, backed: bool) -> Any:
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".h5ad", ".h5mu"):
        raise DataError(f"{path} is neither a .h5ad nor a .h5mu file")
    if not path.is_file():
        raise DataError(f"cannot read {path} ({no_file(path)}): correct the path")
    try:
        if backed:
            return open_on_disk(path)
        if suffix == ".h5mu":
            return require_extra("mudata", "anndata", ".h5mu files").read_h5mu(path)
        return require_extra("anndata", "anndata", ".h5ad files").read_h5ad(path)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged ({str(error).splitlines()[0]}): replace it") from None


def _cells_of(data: Any, instead: str = "") -> tuple[str, ...]:
    """The names of an object's cells."""
    if not hasattr(data, "obs_names"):
        raise DataError(f"give an AnnData or MuData object{instead}, not {abridged(data)}")
    return _names(data.obs_names)


def _list(what: str, names: Any) -> tuple[Any, ...]:
    """A list, array or index of names as a tuple."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SettingsError(f"{what} must be a list of names, not {abridged(names)}")
    return tuple(names)


def _require_columns(columns: Mapping[str, str], asked: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsError if an argument names something that is not a column; ``asked`` is by argument."""
    for what, named in asked.items():
        for name in [name for name in named if name not in columns]:
            if what == "present" or nearest(name, columns):  # the dicts from training may have more columns
                have = f"there are {', '.join(columns)}{nearest(name, columns)}"
                raise SettingsError(f"{what} names {name!r}, which is not a column; {have}")


def _said_present(data: Any, where: str, cells: tuple[str, ...]) -> np.ndarray:
    """What a boolean column says of each cell; a cell that is not in the column's modality has no values of it."""
    part, inside = _part(data, where)
    said, place = _booleans(where, _found(part, inside)[0]), _place(part, cells)
    return said if place is None else np.where(place >= 0, said[place], False)


def _booleans(where: str, values: Any) -> np.ndarray:
    """A column of booleans, which may also be of a nullable dtype if none is missing."""
    array = np.asarray(values)
    odd = [] if array.dtype == bool else [value for value in array.ravel().tolist() if not isinstance(value, bool)]
    if odd or array.ndim != 1:
        held = repr(odd[0]) if odd else f"rows of shape {array.shape[1:]}"
        raise DataError(f"{where} holds {held}: present needs booleans, one for each cell")
    return array.astype(bool)


def _names(names: Any) -> tuple[str, ...]:
    found = tuple(map(str, names))
    if len(set(found)) < len(found):
        twice = min(_twice(found))
        raise DataError(f"the cell {twice!r} occurs twice: make the names unique, so that answers find their cells")
    return found


def _part(data: Any, where: str) -> tuple[Any, str]:
    """The AnnData object that contains a place, and the place inside it."""
    found = PLACE.fullmatch(where)
    if found is None:
        raise DataError(f"{where!r} is not a place in this object: write {PLACES}")
    modality, inside = found.groups()
    if modality is None:
        return data, inside
    parts = getattr(data, "mod", {})
    if modality not in parts:
        listed = ", ".join(parts) or "none"
        raise DataError(f"{where}: no modality {modality!r}; there are {listed}{nearest(modality, list(parts))}")
    return parts[modality], inside


def _found(part: Any, inside: str) -> tuple[Any, tuple[str, ...]]:
    """The values at a place, and the names of their features."""
    kind, _, name = inside.partition("/")
    if inside in ("X", "raw/X"):
        holder = part if inside == "X" else getattr(part, "raw", None)
        if getattr(holder, "X", None) is None:
            raise DataError(f"this object has no {inside}: write {PLACES}")
        return holder.X, tuple(map(str, holder.var_names))  # pyright: ignore[reportOptionalMemberAccess]
    if not hasattr(part, kind):
        raise DataError(f"{inside!r} is not a place in this object: write {PLACES}")
    there = getattr(part, kind)
    if name not in there:
        listed = ", ".join(map(str, there.keys())) or "none"
        raise DataError(f"no {inside}: {kind} has {listed}{nearest(name, [str(key) for key in there])}")
    values = there[name]
    labels = tuple(map(str, part.var_names if kind == "layers" else getattr(values, "columns", ())))
    return values, labels


def _place(part: Any, cells: tuple[str, ...]) -> np.ndarray | None:
    """The row of each cell in a part, −1 if it is not in it; None: the same cells in the same order."""
    own = _names(part.obs_names)
    if own == cells:
        return None
    at = {cell: row for row, cell in enumerate(own)}
    return np.array([at.get(cell, -1) for cell in cells])


def _order(where: str, labels: tuple[str, ...], wanted: Sequence[str] | None) -> np.ndarray | None:
    """The position of each requested feature; None: all features in their order."""
    if wanted is None or tuple(wanted) == labels:
        return None
    at = {label: place for place, label in enumerate(labels)}
    if not labels:
        raise DataError(f"{where} has no feature names: leave it out of features, and check their order yourself")
    if lacking := [label for label in wanted if label not in at]:
        raise DataError(
            f"{where} lacks {len(lacking)} of the {len(wanted)} requested features, such as {lacking[0]!r}"
            f"{nearest(str(lacking[0]), labels)}: give cells in which they were measured"
        )
    if len(at) < len(labels) and (twice := set(wanted) & _twice(labels)):
        raise DataError(
            f"{where}: the feature {min(twice)!r} occurs twice: make the names unique (var_names_make_unique)"
        )
    return np.array([at[label] for label in wanted])


def _twice(names: Sequence[str]) -> set[str]:
    """The names that occur more than once."""
    return {name for name, count in Counter(names).items() if count > 1}


def _measured(values: Any, place: np.ndarray | None, order: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """A matrix in the order of the cells, and the mask of what is present in it (None: everything)."""
    here = None if place is None or (place >= 0).all() else place >= 0
    values = values.to_numpy() if hasattr(values, "to_numpy") else values
    values = values.tocsr() if hasattr(values, "tocsr") else values
    if not isinstance(values, np.ndarray):  # sparse, or on disk
        rows = SparseRows(values, place, order)
        if not hasattr(values, "tocsr") or values.dtype.kind != "f" or not np.isnan(values.data).any():
            return rows, here
        values, there = rows, ~SparseRows(values != values, place, order)[:]
    else:
        values = values if order is None else values[:, order]
        values = values if place is None else values[place]
        if values.dtype.kind != "f" or not np.isnan(values).any():
            return values, here
        there = ~np.isnan(values)
    return values, there if here is None else there & here.reshape(-1, *[1] * (values.ndim - 1))


def _coded(
    values: Any, place: np.ndarray | None, categories: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """A column of obs in the order of the cells, as numbers; categories as codes, −1 for an unlisted one."""
    missing, array = np.asarray(values.isna()), np.asarray(values.astype(object))
    if place is not None:
        missing, array = missing[place] | (place < 0), array[place]
    here = None if not missing.any() else ~missing
    plain = not categories and not hasattr(values.dtype, "categories")
    if plain and all(isinstance(value, int | float | np.number) for value in array[~missing]):
        return np.where(missing, 0, array).astype(np.float64), here, ()
    text = [_text(value) for value in array]
    known = tuple(dict.fromkeys(map(_text, categories or sorted(set(array[~missing]), key=_by_size))))
    codes = {category: code for code, category in enumerate(known)}
    found = np.array([codes.get(value, -1) for value in text], np.int64)
    found[missing] = -1
    return found, here, known


def _text(category: Any) -> str:
    """The name of a category; whole numbers that missing values turned into floats are written as integers."""
    return str(int(category)) if isinstance(category, float) and category.is_integer() else str(category)


def _by_size(category: Any) -> tuple[bool, Any]:
    """The sort key that orders numbers by size, then text."""
    number = isinstance(category, int | float | np.number)
    return not number, category if number else str(category)
