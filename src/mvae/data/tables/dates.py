"""Dates and times as seconds since 1970, and back in their original format."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

from mvae.data.tables.frames import pandas
from mvae.errors import DataError

__all__ = ["FORMATS", "as_seconds", "ending_of", "fitting", "format_of", "from_seconds", "rounded_to", "zone_of"]

FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S%z", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
_ENDING = re.compile(r"(?<=:\d\d)(Z|[+-]\d\d:?\d\d)$")
MICROSECONDS = 1_000_000  # per second; nanoseconds would overflow in 2262
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 to 9999, which can be written as text
DAY = 86_400.0  # seconds
NEAR = 1678, 2261  # the years that nanoseconds hold in full
_ZONE = re.compile(r"^(?:datetime64\[\w+, |timestamp\[\w+, tz=)(.+?)\]")


def as_seconds(values: Any, form: str = "") -> np.ndarray:
    """Convert dates to float64 seconds since 1970 (in UTC if they have a time zone); NaN for what is not a date.

    Args:
        values: text, or dates of Python, NumPy or pandas. Numbers are not dates, neither as years nor as nanoseconds.
        form: format of text, as for ``strftime``.

    >>> as_seconds(["1970-01-02", "x"], "%Y-%m-%d")
    array([86400.,    nan])
    """
    pd = pandas()

    cells = pd.Series(values, dtype=object)
    cells = pd.Series([str(c) if isinstance(c, np.str_) else c for c in cells], dtype=object)  # pandas 2 wants str
    cells = cells.mask(cells.map(lambda cell: isinstance(cell, int | float | np.number)).astype(bool))  # no nanoseconds
    read = pd.to_datetime(cells, format=form or None, errors="coerce", utc=True)
    numbers = read.astype("datetime64[us, UTC]").astype("int64").to_numpy().astype(np.float64) / MICROSECONDS
    numbers[read.isna()] = np.nan
    for i in np.flatnonzero(read.isna() & cells.notna()).tolist():
        numbers[i] = _far(cells.iloc[i], form)
    return numbers


def _far(cell: Any, form: str) -> float:
    """Seconds of a date beyond the nanoseconds in which pandas 2 reads dates; NaN for any other cell."""
    try:
        day = datetime.strptime(cell, form) if isinstance(cell, str) else cell
    except ValueError:
        return np.nan
    if not isinstance(day, date) or NEAR[0] <= day.year <= NEAR[1]:
        return np.nan
    moment = day if isinstance(day, datetime) else datetime.combine(day, time())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_of(name: str, values: Sequence[str]) -> tuple[str, str] | None:
    """The format in which all of these are dates, and a reason; None if they are not dates.

    Raises:
        DataError: all are dates, but in more than one format.

    >>> format_of("x", ["31.12.2020", "01.02.2021"])
    ('%d.%m.%Y', 'dates as 31.12.2020')
    >>> format_of("x", ["01/02/2021"])[1]
    'dates as 01/02/2021, read day first (month first fits, too)'
    """
    first = fitting(FORMATS, values[:1])
    if forms := fitting(first, values):
        both = forms[0].replace("%d/%m", "%m/%d") in forms[1:]
        return forms[0], f"dates as {values[0]}" + (", read day first (month first fits, too)" if both else "")
    later = FORMATS[FORMATS.index(first[0]) :] if first else ()
    wrong = [np.isnan(as_seconds(values, form)) for form in later]
    if wrong and not np.logical_and.reduce(wrong).any():
        raise DataError(
            f"column {name!r} has dates in two formats, such as {values[0]!r} and {values[int(wrong[0].argmax())]!r}: "
            "write all in one, or declare the column as categorical"
        )
    return None


def fitting(forms: Iterable[str], cells: Sequence[str]) -> list[str]:
    """Select the formats in which all of the cells are dates.

    >>> fitting(FORMATS, ["01/02/2021", "01/13/2021"])
    ['%m/%d/%Y']
    """
    return [form for form in forms if not any(np.isnan(as_seconds(part, form)).any() for part in (cells[:1], cells))]


def zone_of(dtype: str) -> str:
    """The time zone in the name of a pandas or PyArrow dtype; UTC if it is unknown, empty if there is none.

    >>> zone_of("datetime64[us, Europe/Oslo]"), zone_of("timestamp[us, tz=+02:00][pyarrow]"), zone_of("float64")
    ('Europe/Oslo', '+02:00', '')
    """
    found = _ZONE.match(dtype)
    try:
        return str(pandas().DatetimeTZDtype("ns", found[1]).tz) and found[1] if found else ""
    except (KeyError, TypeError, ValueError):
        return "UTC"


def rounded_to(seconds: np.ndarray, step: float, zone: str = "") -> np.ndarray:
    """Round dates to the nearest multiple of a step; for a step of days, to the nearest midnight of a time zone.

    Args:
        seconds: seconds since 1970; values that are not finite stay unchanged.
        step: step in seconds.
        zone: time zone, default UTC. If clocks go forward at midnight, the day begins an hour later.

    >>> rounded_to(np.array([86399.0, np.nan]), 86400.0, "Europe/Oslo")
    array([82800.,    nan])
    """
    if not zone or step < DAY:
        return np.round(seconds / step) * step
    pd = pandas()

    here = np.isfinite(seconds)
    stamps = np.round(np.clip(seconds[here], FIRST + DAY, LAST - DAY) * 1000).astype("int64").astype("datetime64[ms]")
    shown = pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    days = np.round(shown.to_numpy().astype("datetime64[ms]").astype("int64") / (1000 * step)) * step
    wall = pd.DatetimeIndex((1000 * days).astype("int64").astype("datetime64[ms]"))
    local = wall.tz_localize(zone, ambiguous=np.ones(len(wall), bool), nonexistent="shift_forward")
    found = seconds.copy()
    found[here] = local.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ms]").astype("int64") / 1000
    return found


def ending_of(cells: Iterable[str]) -> str:
    """The time zone at the end of these dates; if there are several, UTC in the first one's style; if none, empty.

    >>> ending_of(["2024-05-01T10:00:00+02:00", "2024-12-01T10:00:00+01:00"])
    '+00:00'
    """
    found = list(dict.fromkeys(match[0] for cell in cells if (match := _ENDING.search(str(cell)))))
    if len(found) > 1:
        return "Z" if found[0] == "Z" else "+00:00" if ":" in found[0] else "+0000"
    return found[0] if found else ""


def from_seconds(seconds: np.ndarray, form: str = "", zone: str = "", ending: str = "") -> Any:
    """Convert seconds to dates: to text of a format, or to a pandas Series; in a time zone if one is given.

    Args:
        seconds: seconds since 1970.
        form: format for ``strftime``; without one the dates are a Series.
        zone: time zone of a Series.
        ending: the time zone that replaces ``%z`` in the format, as `ending_of` gives it.

    >>> from_seconds(np.array([86400.0]), "%d.%m.%Y").tolist()
    ['02.01.1970']
    >>> from_seconds(np.array([86400.0]), "%Y-%m-%dT%H:%M:%S%z", ending="+02:00").tolist()
    ['1970-01-02T02:00:00+02:00']
    """
    pd = pandas()

    stamps = (
        np.round(np.clip(seconds, FIRST, LAST) * 1000).astype("int64").astype("datetime64[ms]")
    )  # answers have a precision of a millisecond
    dates = pd.Series(pd.to_datetime(stamps))
    if zone or "%z" in form:
        own = datetime.strptime(ending, "%z").tzinfo if ending and form else zone or "UTC"
        dates = dates.dt.tz_localize("UTC").dt.tz_convert(own)
    if not form:
        return dates
    form = form.replace("%z", ending) if ending else form
    texts = dates.dt.strftime(form).copy()
    early = dates.dt.year < 1000  # the C library may write 1 for the year 0001
    texts[early] = [day.strftime(form.replace("%Y", f"{day.year:04}")) for day in dates[early]]
    return texts
