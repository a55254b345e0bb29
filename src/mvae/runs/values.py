"""A value read from a user's text: a class, a sentence, numbers, a picture's file, a test row, a cell of a table."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mvae.data.dataset import Dataset
from mvae.data.picture import is_picture
from mvae.data.table import Table
from mvae.data.tables.column import TableColumn
from mvae.data.tables.frames import pandas
from mvae.errors import DataError, QueryError
from mvae.report.grid import read_image

__all__ = ["parse_cell", "parse_value", "table_of"]

_TEST_ROW = re.compile(r"test:(\d+)")


def parse_value(data: Dataset, name: str, text: str, brightest: float = 1.0) -> Tensor:
    """Parse ``"5"``, ``"photo.png"``, ``"test:3"`` or ``"0.5,1"`` into one row of a modality.

    For a table's modality that is a single column of the same name, the text is a cell of that column.

    Args:
        data: has the modality.
        name: the modality.
        text: its value.
        brightest: the value of full brightness, of a picture that is read from a file.

    Raises:
        QueryError: the modality cannot have this value.
    """
    column, layout = data.test.columns[name], data.layout
    if layout is not None and layout.modalities.get(name) == (name,) and name not in layout.shapes:
        return torch.tensor([[parse_cell(layout.named[name], text)]], dtype=torch.float64)
    if (codec := data.codecs.get(name)) is not None:
        try:
            return codec.parse(text)[None]
        except ValueError as error:
            raise QueryError(f"{name} is {error}") from None
    if is_picture(column):
        if row := _TEST_ROW.fullmatch(text):
            return _test_row(data.test, name, int(row[1]))
        try:
            return read_image(Path(text), tuple(column.shape[1:])) * brightest
        except DataError as error:
            raise QueryError(str(error)) from None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (many := math.prod(column.shape[1:])):
        cells = (
            f", or cells by column, as {layout.modalities[name][0]}=…" if layout and name in layout.modalities else ""
        )
        raise QueryError(
            f"{many} numbers, separated by commas, are needed{cells}" if many > 1 else f"a number is needed{cells}"
        )
    return torch.tensor(numbers).reshape(1, *column.shape[1:])


def parse_cell(column: TableColumn, text: str) -> float:
    """Parse a cell, written as in the table's file, into the column's number.

    Raises:
        QueryError: the column cannot have this cell, or it means missing.
    """
    try:
        numbers, present = column.encode(pandas().Series([text], dtype=object), strict=True)
    except DataError as error:
        raise QueryError(str(error)) from None
    if not present[0]:
        raise QueryError("that means missing; leave it out")
    return float(numbers[0])


def table_of(row: Mapping[str, Tensor]) -> Table:
    """A row as a table; in modalities of columns, NaN means missing."""
    holes = {name: ~value.isnan() for name, value in row.items() if value.is_floating_point() and value.isnan().any()}
    return Table(dict(row), holes)


def _test_row(test: Table, name: str, row: int) -> Tensor:
    if row >= len(test):
        raise QueryError(f"the test rows are 0 to {len(test) - 1}")
    if not test.has(name)[row]:
        raise QueryError(f"test row {row} has no {name}; give another row or a file")
    return test.select_rows(name, torch.tensor([row]))
