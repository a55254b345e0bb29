"""A visitor's input and output: a modality's values from JSON or a form, checked, and draws as JSON."""

import base64
import binascii
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvae.data.codecs import Codec
from mvae.data.picture import open_bounded
from mvae.data.tables.cells import plain
from mvae.data.tables.column import TableColumn
from mvae.data.tables.dates import as_seconds, from_seconds
from mvae.data.tables.numbers import as_numbers
from mvae.errors import DataError, QueryError
from mvae.evaluation.impute import between
from mvae.report.charts import as_dates
from mvae.report.grid import image_uri, picture_row
from mvae.report.views import YEAR, View

__all__ = ["MOST_BYTES", "MOST_PIXELS", "decoded", "example_of", "file_in", "parsed", "read_picture", "summary"]

MOST_BYTES = 8 * 2**20  # of a request
MOST_PIXELS = 16_000_000  # of a picture
LONGEST = 2000  # characters of a text
DIGITS = 9  # of a class's number
INTERVAL = 0.9  # the share of a column's draws from "5 %" to "95 %"
EXAMPLE = 1_580_428_800.0  # seconds: 2020-01-31
DECODED = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")  # Pillow's formats that hold pixels only, no programs


def parsed(view: View, value: Any, codec: Codec | None = None) -> Tensor:
    """One value of a modality as a row of data.

    Args:
        view: the modality.
        value: for classes, a name, or a number if no names are known; for flags, the names of those that are true, or
            a boolean each; for numbers, one each; for text, a string; for columns, a mapping of names to such values
            (columns left out are missing); for a picture, a file's bytes in base64 (also as a data URI), or nested
            lists of levels.
        codec: how text and classes are read, if that is known.

    Raises:
        QueryError: a value that this modality cannot have. The message names the modality.
    """
    readers: dict[str, Callable[[], Tensor]] = {
        "picture": lambda: _picture(view, value),
        "classes": lambda: _class(view, value, codec),
        "flags": lambda: _flags(view, value),
        "text": lambda: _text(value, codec),
        "numbers": lambda: _numbers(view, value),
        "table": lambda: _columns(view, value),
    }
    try:
        return readers[view.kind]()
    except (ValueError, TypeError, OverflowError) as error:  # a UserError is a ValueError
        raise QueryError(f"{view.name}: {' '.join(str(error).split())[:500]}") from None


def _class(view: View, value: Any, codec: Codec | None) -> Tensor:
    if codec is not None:
        return _read(codec, str(value)[:LONGEST])
    return torch.tensor([_code(view, value)])


def _code(view: View, value: Any) -> int:
    """A class's code by its name, compared as in tables (1, 1.0 and "1" are the same); its number if it has no name."""
    names, scalar = list(view.classes), isinstance(value, str | int | float)
    bits = ["0", "1"] if names == ["no", "yes"] else []  # the cells of a binary field whose classes have no names
    for known, wanted in ((names, str(value)), (list(map(plain, names)), plain(value)), (bits, plain(value))):
        if scalar and wanted in known:
            return known.index(wanted)
    if names:
        listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise ValueError(f"one of {listed} is needed, not {str(value)[:50]!r}")
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > DIGITS:
        raise ValueError(f"a class by its number is needed, not {str(value)[:50]!r}")
    return int(value)


def _flags(view: View, value: Any) -> Tensor:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("a list is needed: the names of those that are true, or true or false for each")
    if all(isinstance(part, bool) for part in value) and len(value) == len(view.columns):
        return torch.tensor([[float(part) for part in value]])
    if unknown := [part for part in value if part not in view.columns]:
        raise ValueError(f"there is no {str(unknown[0])[:50]!r}; there are {', '.join(view.columns)}")
    return torch.tensor([[float(name in value) for name in view.columns]])


def _numbers(view: View, value: Any) -> Tensor:
    if isinstance(value, str):
        value = [part.strip() for part in value[:LONGEST].split(",")]
    elif isinstance(value, int | float):
        value = [value]
    if not isinstance(value, Sequence) or len(value) != math.prod(view.shape):
        raise ValueError(f"{math.prod(view.shape)} numbers are needed: {', '.join(view.columns)}")
    numbers = [_float(part) for part in value]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("numbers must be finite")
    return torch.tensor(numbers, dtype=torch.float64).reshape(1, *view.shape)


def _columns(view: View, value: Any) -> Tensor:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("columns and their values are needed, as {NAME: VALUE}")
    if unknown := [name for name in value if name not in view.columns]:
        raise ValueError(f"there is no column {str(unknown[0])[:50]!r}; there are {', '.join(view.columns)}")
    row = torch.full((1, len(view.fields)), math.nan, dtype=torch.float64)
    for i, field in enumerate(view.fields):
        if field.name in value:
            read = _code if field.kind == "classes" else _number
            try:
                row[0, i] = read(field, value[field.name])
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"{field.name}: {error}") from None
    return row


def _number(field: View, value: Any) -> float:
    """A number; for dates, a text or the year. Text is read in the run's table's format, else as 1234.5, 2020-01-31."""
    if field.date:
        return _date(field, value)
    number = float(as_numbers([value], field.style)[0]) if isinstance(value, str) else math.nan
    number = _float(value, example_of(field)) if math.isnan(number) else number
    if not math.isfinite(number):
        raise ValueError("numbers must be finite")
    return number


def _date(field: View, value: Any) -> float:
    """A date as seconds since 1970."""
    if isinstance(value, str):
        read = [float(as_seconds([value.strip()], form)[0]) for form in filter(None, (field.form, "ISO8601"))]
        if known := [seconds for seconds in read if not math.isnan(seconds)]:
            return known[0]
    try:
        year = float(value)
    except (TypeError, ValueError):
        year = math.nan
    if not 1 <= year < 10_000:
        raise ValueError(f"{example_of(field)}, or a year from 1 to 9999, is needed, not {str(value)[:50]!r}")
    return (year - 1970) * YEAR


def example_of(field: View) -> str:
    """What a number or a date of this column looks like, in words."""
    if field.date:
        return f"a date as {from_seconds(np.array([EXAMPLE]), field.form or '%Y-%m-%d')[0]}"
    return "a number with a decimal point, as 1234.5" if field.style == "1234.5" else f"a number as {field.style}"


def _float(value: Any, like: str = "a number with a decimal point, as 1234.5") -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{like}, is needed, not {str(value)[:50]!r}") from None


def _text(value: Any, codec: Codec | None) -> Tensor:
    if codec is None:
        raise ValueError("its words are unknown without the run's data")
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f"a text of at most {LONGEST} characters is needed")
    return _read(codec, value)


def _read(codec: Codec, text: str) -> Tensor:
    try:
        return codec.parse(text)[None]
    except ValueError as error:
        raise ValueError(f"{error} is needed, not {text[:50]!r}") from None


def _picture(view: View, value: Any) -> Tensor:
    if isinstance(value, str):
        return read_picture(view, file_in(value))
    levels = np.asarray(value, np.float32)
    if levels.size != math.prod(view.shape):
        raise ValueError(f"levels of shape {'×'.join(map(str, view.shape))} are needed")
    if not ((levels >= 0) & (levels <= view.levels)).all():
        raise ValueError(f"levels from 0 to {view.levels:g} are needed")
    return torch.from_numpy(levels.reshape(1, *view.shape))


def file_in(text: str) -> bytes:
    """A file's bytes from base64, also as a data URI.

    Raises:
        ValueError: the text is not base64.
    """
    head, comma, tail = text.partition(",")
    try:
        return base64.b64decode(tail if comma and head.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a picture file's bytes in base64 are needed") from None


@contextmanager
def decoded(data: bytes, most_pixels: int = MOST_PIXELS) -> Iterator[Any]:
    """A picture file's bytes as a Pillow image, decoded within bounds.

    Raises:
        QueryError: not a picture, one with too many pixels, or a format that is not decoded here.
    """
    if len(data) > MOST_BYTES:
        raise QueryError(f"a picture file may have at most {MOST_BYTES // 2**20} MB")
    try:
        with open_bounded(io.BytesIO(data), most_pixels) as picture:
            if picture.format not in DECODED:
                raise QueryError(f"a picture of format {picture.format} is not read: give a PNG or JPEG")
            picture.load()
            yield picture
    except DataError as error:
        raise QueryError(str(error)) from None
    except QueryError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise QueryError(f"the picture cannot be decoded ({' '.join(str(error).split())[:200]})") from None


def read_picture(view: View, data: bytes) -> Tensor:
    """A picture file's bytes as a row of data.

    Raises:
        QueryError: as `decoded`, or the picture's levels are real numbers.
    """
    with decoded(data) as picture:
        return picture_row(picture, view.shape) * view.levels


def summary(
    view: View, drawn: Tensor, shown: int | None = None, columns: Mapping[str, TableColumn] | None = None
) -> dict[str, Any]:
    """Draws of a modality (``n event…``) as JSON, with their summary.

    Pictures are PNGs. The summary is, for classes, the share of each class that was drawn; for flags, the share of yes;
    for numbers and a column's dates, the median and the middle 90 %.

    Args:
        view: the modality.
        drawn: the draws.
        shown: how many draws of classes and columns are listed (all count in the summary). Default: all.
        columns: name → the table's column in whose format numbers and dates are rounded and written.
    """
    if view.kind == "picture":
        return {"draws": [image_uri(image) for image in view.images(drawn)]}
    if view.kind == "classes" and drawn.dim() == 1:
        words = view.words(drawn)
        shares = {word: count / len(words) for word, count in Counter(words).most_common()}
        return {"draws": words[:shown], "shares": shares}
    if view.kind in ("text", "classes"):
        return {"draws": view.words(drawn)}
    if view.kind == "table":
        each, known = enumerate(view.fields), columns or {}
        return {"columns": {f.name: _of_field(f, drawn[:, i], shown, known.get(f.name)) for i, f in each}}
    values = view.numbers(drawn)
    if view.kind == "flags":
        return {"draws": values.tolist(), "shares": _by_column(view, values.mean(0))}
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), axis=0)
    found = {"median": middle, "5 %": low, "95 %": high}
    return {"draws": values.tolist()} | {name: _by_column(view, numbers) for name, numbers in found.items()}


def _of_field(field: View, drawn: Tensor, shown: int | None, column: TableColumn | None) -> dict[str, Any]:
    if field.kind == "classes":
        return summary(field, drawn.long(), shown)
    values, ends = drawn.double().numpy(), between(drawn.double(), INTERVAL)
    low, middle, high = _listed(field, np.array([float(ends[0]), np.median(values), float(ends[1])]), column)
    return {"draws": _listed(field, values[:shown], column), "median": middle, "5 %": low, "95 %": high}


def _listed(field: View, values: np.ndarray, column: TableColumn | None) -> Sequence[float | str]:
    """Numbers, or dates as text: in the column's format; without a column, unrounded and in ISO's format."""
    if column is None:
        return as_dates(values) if field.date else values.tolist()
    cells = column.decode(values)
    if field.date:
        return [str(cell) if column.form else str(cell).removesuffix(" 00:00:00") for cell in cells.tolist()]
    found = as_numbers(cells, column.style).tolist()
    return [int(number) for number in found] if column.resolution == 1 else found


def _by_column(view: View, values: np.ndarray) -> Mapping[str, float]:
    return dict(zip(view.columns, values.tolist(), strict=True))
