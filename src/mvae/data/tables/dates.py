"""Dates and times: as seconds since 1970, and back as they were written."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mvae.data.tables.frames import pandas
from mvae.errors import DataError

__all__ = ["FORMATS", "as_seconds", "format_of", "from_seconds"]

FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S%z", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
MICROSECONDS = 1_000_000  # nanoseconds would end in 2262
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 to 9999, which have a text


def as_seconds(values: Any, form: str = "") -> np.ndarray:
    """Dates as float64 seconds since 1970 (of UTC, where they have a time zone); NaN for each that is no date.

    Args:
        values: text, or dates of Python, NumPy or pandas.
        form: how text is written, as of ``strftime``.

    >>> as_seconds(["1970-01-02", "x"], "%Y-%m-%d")
    array([86400.,    nan])
    """
    pd = pandas()

    read = pd.to_datetime(pd.Series(values, dtype=object), format=form or None, errors="coerce", utc=True)
    numbers = read.astype("datetime64[us, UTC]").astype("int64").to_numpy().astype(np.float64) / MICROSECONDS
    return np.where(read.isna(), np.nan, numbers)


def format_of(name: str, values: Sequence[str]) -> tuple[str, str] | None:
    """How all of these are written as dates, and a reason; None where they are no dates.

    Raises:
        DataError: all are dates, in more than one format.

    >>> format_of("x", ["31.12.2020", "01.02.2021"])
    ('%d.%m.%Y', 'dates as 31.12.2020')
    >>> format_of("x", ["01/02/2021"])[1]
    'dates as 01/02/2021, read day first (month first fits, too)'
    """
    fits: dict[str, np.ndarray] = {}
    for form in FORMATS:
        if not np.isnan(as_seconds(values[:1], form)[0]) or fits:
            good = ~np.isnan(as_seconds(values, form))
            if good.all():
                other = form.replace("%d/%m", "%m/%d")
                both = other != form and not np.isnan(as_seconds(values, other)).any()
                return form, f"dates as {values[0]}" + (", read day first (month first fits, too)" if both else "")
            if good.any():
                fits[form] = good
    if fits and np.logical_or.reduce(list(fits.values())).all():
        first = next(iter(fits.values()))
        odd = int((~first).argmax())
        raise DataError(
            f"column {name!r} has dates in two formats, such as {values[int(first.argmax())]!r} and {values[odd]!r}: "
            "write all in one, or declare the column as categorical"
        )
    return None


def from_seconds(seconds: np.ndarray, form: str = "", zone: str = "") -> Any:
    """The dates of these seconds: as text of that format, or as a Series of pandas, in a time zone where one is named.

    >>> from_seconds(np.array([86400.0]), "%d.%m.%Y").tolist()
    ['02.01.1970']
    """
    pd = pandas()

    stamps = (
        np.round(np.clip(seconds, FIRST, LAST) * 1000).astype("int64").astype("datetime64[ms]")
    )  # a millisecond is what an answer has
    dates = pd.Series(pd.to_datetime(stamps))
    if zone or "%z" in form:
        dates = dates.dt.tz_localize("UTC").dt.tz_convert(zone or "UTC")
    return dates.dt.strftime(form) if form else dates
