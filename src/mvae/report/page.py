"""A self-contained HTML page: sections of text, charts and pictures, each with a table of what it shows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mvae.data.tables.numbers import short
from mvae.errors import require_extra
from mvae.files import write_text
from mvae.report.grid import png_uri

__all__ = ["Chart", "Grid", "Page", "Picture", "Section", "require_pages", "write_page", "written"]

MOST_ROWS = 200  # the most rows of a table that are shown


@dataclass(frozen=True)
class Grid:
    """A table: a header, and rows of text or numbers; with a title in ``folded`` it opens on a click."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: str = ""

    @property
    def shown(self) -> list[list[str]]:
        """The first rows, as they are printed."""
        return [[written(value) for value in row] for row in self.rows[:MOST_ROWS]]

    @property
    def left_out(self) -> int:
        """The number of rows that are not shown."""
        return max(0, len(self.rows) - MOST_ROWS)


@dataclass(frozen=True)
class Chart:
    """An interactive figure of Plotly, and its numbers as a table.

    Args:
        title: one line on what the chart shows.
        data: Plotly's traces.
        layout: Plotly's layout.
        table: the same numbers as a table, for readers who cannot see the chart.
        note: how to read the chart.
    """

    title: str
    data: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    table: Grid
    note: str = ""

    @property
    def figure(self) -> str:
        """The figure as JSON that is safe inside a page: it cannot contain a tag."""
        text = json.dumps({"data": self.data, "layout": self.layout}, allow_nan=False)
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@dataclass(frozen=True)
class Picture:
    """Images side by side, and a description in words."""

    title: str
    images: Float[Tensor, "n channels height width"]
    columns: int
    words: str

    @property
    def source(self) -> str:
        """The grid as a PNG in a data URI."""
        return png_uri(self.images, self.columns, optimize=True)


@dataclass
class Section:
    """A heading, sentences, and what is shown below them.

    Attributes:
        title: the heading.
        text: the sentences.
        shown: charts, pictures and tables.
        faults: those of the sentences that say what is wrong with the model; the page's first section repeats them.
    """

    title: str
    text: list[str] = field(default_factory=list)
    shown: list[Chart | Picture | Grid] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class Page:
    """A page: its title, a first sentence, and sections."""

    title: str
    summary: str
    sections: list[Section] = field(default_factory=list)


def written(value: Any) -> str:
    """A cell's value as text: numbers with four significant digits, a missing value as a dash.

    >>> written(1234.5678), written(0.5), written(7), written(None), written("ward")
    ('1235', '0.5', '7', '–', 'ward')
    """
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return short(value)
    return str(value)


def write_page(page: Page, path: Path) -> None:
    """Write a page as one file that needs no network.

    Raises:
        MissingDependencyError: Jinja2 or Plotly is not installed. RunError: the file cannot be written.
    """
    write_text(path, rendered(page))


def rendered(page: Page) -> str:
    """A page as HTML; every text in it is escaped."""
    parts = [part for section in page.sections for part in section.shown]
    script = _plotly() if any(isinstance(part, Chart) for part in parts) else ""
    kinds = {id(part): type(part).__name__ for part in parts}
    return _template().render(page=page, kind=lambda part: kinds[id(part)], script=script)


def require_pages() -> tuple[Any, Any]:
    """Import Plotly and Jinja2; called before long work that ends in a page.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    return require_extra("plotly.offline", "report", "reports"), require_extra("jinja2", "report", "reports")


@cache
def _plotly() -> str:
    """The text of Plotly's script, which is embedded once per page."""
    return require_pages()[0].get_plotlyjs()


@cache
def _template() -> Any:
    jinja2 = require_pages()[1]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(files("mvae.report").joinpath("page.html").read_text(encoding="utf-8"))
