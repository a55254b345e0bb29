"""Numbers written as text: with a decimal point or comma, thousands separators, and a unit before or after them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from mvae.data.tables.frames import pandas
from mvae.errors import DataError

__all__ = [
    "STYLES",
    "as_numbers",
    "decimals_of",
    "has_comma",
    "places_of",
    "short",
    "style_of",
    "trimmed",
    "unit_of",
    "written",
]

STYLES = ("1234.5", "1,234.5", "1 234.5", "1.234,5")
"""The styles in which numbers may be written; each name is an example of its style, to which a unit may be added."""

EXACT_DIGITS = 15  # significant digits that a float holds exactly; a number with more was computed, not measured

_SIGN, _DIGITS = r"^[+-]?", r"\d+"
_GAP = " '\u2019\u00a0\u2009\u202f"  # what separates thousands, besides points and commas
_GROUPED = {
    "1,234.5": re.compile(rf"{_SIGN}\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}}(?:\.{_DIGITS})?$"),  # in India 12,34,567
    "1 234.5": re.compile(rf"{_SIGN}\d{{1,3}}(?:[{_GAP}]\d{{3}})+(?:\.{_DIGITS})?$"),
    "1.234,5": re.compile(rf"{_SIGN}(?:\d{{1,3}}(?:[.{_GAP}]\d{{3}})+|{_DIGITS})(?:,{_DIGITS})?$"),
}
_POINTS, _COMMAS = re.compile(rf"[.{_GAP}]"), re.compile(rf"[,{_GAP}]")  # between thousands
_NO_DIGIT = re.compile(r"\D")
_MINUS = str.maketrans("\u2212\u2013\u2011", "---")  # the minus sign of typeset tables, and dashes in its place
_CURRENCY = (
    r"[A-Z]{0,3}\$|[€£¥฿৳\u20a0-\u20cf]|EUR|USD|GBP|CHF|JPY|CNY|INR|KRW|AUD|CAD|NZD|BRL|ZAR|SEK|NOK|DKK|PLN|CZK|HUF|TRY|"
    r"kr\.?|Rs\.?|Fr\.?|zł"
)
# A unit follows a digit, so that 7.png is no number, and is short, so that an address is none.
_UNIT = re.compile(rf"[+-]?({_CURRENCY})?(\s*)[+-]?\d(?:[\d.,{_GAP}]*\d)?(\s*)([^\d\s.,'@/+-][^\d.@]{{0,11}}\.?)?")


def as_numbers(values: Any, style: str = "1234.5") -> np.ndarray:
    """Convert values to float64, with NaN for what is not a number; text is read in the given style.

    A number in a style with a unit may lack the unit, but not have another one.

    >>> as_numbers(["1,5", "1.234,5", "-2", "x"], "1.234,5")
    array([   1.5, 1234.5,   -2. ,    nan])
    >>> as_numbers(["€1,234.50", "-€3", "€ 7", "8", "$9"], "€1,234.5")
    array([1234.5,   -3. ,    7. ,    8. ,    nan])
    >>> as_numbers(["12,34,567", "\u22125"], "1,234.5"), as_numbers(["kr 5", "\u2212kr 7"], "kr 1234.5")
    (array([ 1.234567e+06, -5.000000e+00]), array([ 5., -7.]))
    >>> as_numbers(["1,234", "0.5"], "1,234.5"), as_numbers([True, None, 3])
    (array([1.234e+03, 5.000e-01]), array([ 1., nan,  3.]))
    """
    cells = np.asarray(values, object)
    is_text = np.array([isinstance(value, str) for value in cells.tolist()], bool)
    numbers = np.full(len(cells), np.nan)
    numbers[~is_text] = _plain(cells[~is_text])
    if is_text.any():
        style, unit = _apart(style)
        text = np.array([_bare(trimmed(value), unit) for value in cells[is_text].tolist()], object)
        if style == "1234.5":
            numbers[is_text] = _plain(text)
        else:
            grouped = np.array([_GROUPED[style].match(value) is not None for value in text.tolist()], bool)
            read = np.full(len(text), np.nan) if style == "1.234,5" else _plain(text)
            apart = _POINTS if style == "1.234,5" else _COMMAS
            marked = [apart.sub("", value).replace(",", ".") for value in text[grouped].tolist()]
            read[grouped] = _plain(np.array(marked, object))
            numbers[is_text] = read
    return numbers


def style_of(values: Iterable[str], comma_first: bool = False) -> str | None:
    """The style in which all of these are numbers; None if there is none.

    Args:
        values: text without missing cells.
        comma_first: read ``1,234`` with a decimal comma if both readings are possible.

    >>> style_of(["1", "2.5"]), style_of(["1,234", "2,000"]), style_of(["1,5", "1,234"]), style_of(["1", "x"])
    ('1234.5', '1,234.5', '1.234,5', None)
    >>> style_of(["80.5 kg", "7 kg"]), style_of(["€1,234.50", "-€3"]), style_of(["7 kg", "15 lb"])
    ('1234.5 kg', '€1,234.5', None)
    """
    cells = list(values)
    order = ("1234.5", "1.234,5", "1,234.5", "1 234.5") if comma_first else STYLES

    def styles() -> Iterator[str]:
        yield from order
        if unit := unit_of(cells, 1.0):
            yield from (unit.replace("#", style) for style in order)

    return next((style for style in styles() if not np.isnan(as_numbers(cells, style)).any()), None)


def decimals_of(values: Iterable[str], style: str) -> int | None:
    """The largest number of digits after the decimal mark; None if a number has an exponent, or all digits of a float.

    >>> decimals_of(["1.5", "0.25 "], "1234.5"), decimals_of(["0.5", "0.1257302210933933"], "1234.5")
    (2, None)
    >>> decimals_of(["1,5 %", "20 %"], "1.234,5 %")
    1
    """
    (base, unit), most = _apart(style), 0
    mark = "," if base == "1.234,5" else "."
    for value in (_bare(trimmed(value), unit) for value in values):
        if "e" in value.lower() or len(_NO_DIGIT.sub("", value).lstrip("0")) > EXACT_DIGITS:
            return None
        most = max(most, len(value.partition(mark)[2]))
    return most


def places_of(values: Iterable[Any]) -> int:
    """The largest number of decimal places of these Decimals.

    >>> places_of([Decimal("1.50"), Decimal("1E+3"), Decimal("Infinity")])
    2
    """
    return max(0, *(-int(v.as_tuple().exponent) for v in values if isinstance(v, Decimal) and v.is_finite()), 0)


def unit_of(values: Iterable[str], least: float = 0.9) -> str:
    """The unit in at least this share of the cells, with # for the number; empty if there is none.

    >>> unit_of(["80.5 kg", "7kg"]), unit_of(["€1,234.50", "-€3"]), unit_of(["7 kg", "15 lb"]), unit_of(["7", "Q2"])
    ('# kg', '€#', '', '')
    """
    found = [_UNIT.fullmatch(trimmed(value)) for value in values]
    units = Counter((cell[1], cell[4]) for cell in found if cell is not None)
    (unit, often), *_ = units.most_common(1) or [((None, None), 0)]
    if unit == (None, None) or often < least * len(found):
        return ""
    first = next(cell for cell in found if cell is not None and (cell[1], cell[4]) == unit)
    return "".join([first[1] + first[2] if first[1] else "", "#", first[3] + first[4] if first[4] else ""])


def short(number: float) -> str:
    """Format a number for display: four digits, or all digits before the point if there are more.

    >>> short(0.123456), short(1743.21), short(52300.4), short(-0.0)
    ('0.1235', '1743', '52300', '0')
    """
    number += 0.0  # −0 becomes 0
    return f"{number:.4g}" if abs(number) < 1e4 else f"{number:.0f}"


def written(values: np.ndarray, style: str = "1234.5", decimals: int | None = None) -> list[str]:
    """Write numbers as text with a number of decimals (None: as many as needed) and no thousands separators.

    >>> written(np.array([1234.5, -0.25]), "1.234,5", 2), written(np.array([3.0]), decimals=0)
    (['1234,50', '-0,25'], ['3'])
    >>> written(np.array([-3.5]), "€1,234.5"), written(np.array([12.0]), "1234.5 %", 0)
    (['-€3.5'], ['12 %'])
    """
    base, (before, after) = _apart(style)
    shown = [float(v) if decimals is None else round(float(v), decimals) for v in values.tolist()]
    text = [repr(v + 0.0) if decimals is None else f"{v + 0.0:.{decimals}f}" for v in shown]  # −0 is 0
    text = [part.replace(".", ",") for part in text] if base == "1.234,5" else text
    signs = ["-" if part.startswith("-") else "" for part in text]
    return [f"{sign}{before}{part.removeprefix(sign)}{after}" for sign, part in zip(signs, text, strict=True)]


def has_comma(style: str) -> bool:
    """Do numbers of this style have a decimal comma?

    >>> has_comma("1.234,5 kg"), has_comma("1,234.5")
    (True, False)
    """
    return _apart(style)[0] == "1.234,5"


def _apart(style: str) -> tuple[str, tuple[str, str]]:
    """The style without a unit, and what stands before and after the number."""
    base = next((base for base in STYLES if base in style), "")
    if not base:
        raise DataError(f"no style of numbers {style!r}; there are {', '.join(STYLES)}, with or without a unit")
    before, _, after = style.partition(base)
    return base, (before, after)


def trimmed(text: str) -> str:
    """The text without white space around it, and with ASCII's minus in place of others.

    >>> trimmed(" \u22125 ")
    '-5'
    """
    return text.strip().translate(_MINUS)


def _bare(text: str, unit: tuple[str, str]) -> str:
    """The number in a text without its unit."""
    if unit == ("", ""):
        return text
    found = _beside(*unit).fullmatch(text)
    return text if found is None else found[1] + found[2]


@cache
def _beside(before: str, after: str) -> re.Pattern[str]:
    return re.compile(rf"([+-]?)(?:{re.escape(before.strip())})?\s*(.*?)\s*(?:{re.escape(after.strip())})?", re.DOTALL)


def _plain(cells: np.ndarray) -> np.ndarray:
    return np.asarray(pandas().to_numeric(cells, errors="coerce"), np.float64)
