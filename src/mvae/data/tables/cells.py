"""Cells of a column, whatever they are stored as: the different ones, what is missing of them, categories in order."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mvae.data.tables.frames import pandas
from mvae.data.tables.numbers import as_numbers
from mvae.errors import DataError

__all__ = [
    "Missing", "Series", "category_order", "factorized", "is_text", "missing_cells", "plain", "row_named",
]  # fmt: skip

EMPTY = ("", "nan", "null", "<na>")  # in lower case: what text files call missing
Missing = Sequence[str | int | float]
Series = Any  # of pandas, which is an extra


def factorized(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The place of each cell among the different ones (−1: what pandas calls missing), and these.

    Raises:
        DataError: cells that are complex numbers, lists or mappings.
    """
    pd = pandas()

    try:
        codes, uniques = pd.factorize(series)
    except TypeError:
        what = next(type(cell).__name__ for cell in series if getattr(type(cell), "__hash__", None) is None)
        raise DataError(
            f"column {series.name!r} has cells of type {what}: give it a number or a text in each"
        ) from None
    if getattr(uniques.dtype, "kind", "") == "c":
        raise DataError(f"column {series.name!r} has complex numbers: give real and imaginary parts as two columns")
    if isinstance(uniques, np.ndarray):
        return codes, uniques
    own = getattr(uniques.dtype, "numpy_dtype", uniques.dtype)  # of a nullable type; what is missing is not among them
    numeric = isinstance(own, np.dtype) and own.kind in "iuf"
    return codes, uniques.to_numpy(own) if numeric else np.asarray(uniques, object)


def row_named(index: Any, place: int) -> str:
    """A row as messages name it: by its label, which of a file is its number."""
    label = index[place]
    return repr(label) if isinstance(label, str) else str(label)


def is_text(cells: Any) -> bool:
    """Are these cells text?"""
    pd = pandas()

    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "U" or (cells.dtype == object and any(isinstance(c, str) for c in cells[:100]))
    if str(cells.dtype) == "category":
        return False
    return isinstance(cells.dtype, pd.StringDtype) or (
        cells.dtype == object and any(isinstance(cell, str) for cell in cells.dropna().iloc[:100])
    )


def missing_cells(uniques: np.ndarray, named: Missing) -> np.ndarray:
    """Which of these different cells mean missing: what is empty, NaN or null, and what was named.

    >>> missing_cells(np.array(["", "NaN", "?", "-999", "0"], object), ["?", -999]).tolist()
    [True, True, True, True, False]
    """
    if uniques.dtype.kind in "biuf":
        numbers = np.array([*_numbers_in(named)])
        if uniques.dtype.kind == "f":  # −99.9 of fewer digits is another number
            numbers = numbers[np.abs(numbers) <= np.finfo(uniques.dtype).max].astype(uniques.dtype)
            return np.isin(uniques, numbers) | np.isnan(uniques)
        return np.isin(uniques, numbers)
    if uniques.dtype.kind in "mM":
        return np.isnat(uniques)
    words = {*map(str, named), *(f"{value:.1f}" for value in named if isinstance(value, int))}
    values = {float(value) for value in named if not isinstance(value, str)}

    def gone(cell: Any) -> bool:
        if isinstance(cell, str):
            bare = cell.strip()
            return bare.lower() in EMPTY or bare in words or (bool(values) and _value(bare) in values)
        return cell is None or cell != cell or (isinstance(cell, int | float) and float(cell) in values)

    return np.array([gone(cell) for cell in uniques.tolist()], bool)


def _value(text: str) -> float | None:
    """A number that is written as text, with a decimal point or comma; None where it is none."""
    try:
        return float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return None


def _numbers_in(named: Missing) -> Iterator[float]:
    """What was named, as numbers: also where a number was written as text."""
    for value in named:
        try:
            yield float(value)
        except ValueError:
            continue


def plain(value: Any) -> Any:
    """A category as it is compared: whole numbers and booleans alike in every type, all else as text."""
    if isinstance(value, str):
        bare = value.strip()
        lowered = bare.lower()
        if lowered in ("true", "false"):
            return str(int(lowered == "true"))
        return bare.removesuffix(".0") if bare.replace(".", "", 1).lstrip("-").isdigit() else bare
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def category_order(values: Sequence[Any]) -> list[Any]:
    """Different categories in the order of their codes: numbers by size, also where they are text; else by alphabet.

    >>> category_order(["10", "9"]), category_order(["b", "a"]), category_order([2.0, 1.0])
    (['9', '10'], ['a', 'b'], [1.0, 2.0])
    """
    kept = list({plain(value): value for value in reversed(values)}.values())
    numbers = as_numbers(kept)
    if not np.isnan(numbers).any():
        return [kept[i] for i in np.argsort(numbers, kind="stable")]
    return sorted(kept, key=str)
