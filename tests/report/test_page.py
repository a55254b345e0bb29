"""A page is one file that needs no network, and no text in it becomes markup."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.report import charts
from mvae.report.page import Chart, Grid, Page, Picture, Section, rendered, write_page

pytest.importorskip("plotly")
EVIL = "</script><script>alert(1)</script><b onclick='x'>&amp;\"</b>"


class Parsed(HTMLParser):
    """A page's tags in order, their attributes, and the text in each kind of tag."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append((self.tags[-1][0] if self.tags else "", data))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def every_chart(name: str) -> list[Chart]:
    rng = np.random.default_rng(0)
    return [
        charts.lines(name, {name: [(1.0, 2.0), (2.0, math.nan)]}, name, name, name),
        charts.bars(name, [name, "b"], {name: [0.5, math.inf]}, name),
        charts.histogram(name, {name: rng.normal(size=50), "none": np.zeros(0)}, name),
        charts.heat_map(name, [name], ["b", name], np.array([[1.0, math.nan]]), name),
        charts.points(
            name,
            rng.normal(size=(4, 2)),
            {name: [name, None, "b", name], "number": [1.0, 2.0, None, 4.0]},
            (name, name),
        ),
    ]


def page(name: str) -> Page:
    picture = Picture(name, torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 60, 60), 2, name)
    return Page(name, name, [Section(name, [name], [*every_chart(name), picture, Grid([name], [[name, 1.0]], name)])])


def test_no_name_becomes_markup() -> None:
    plain, evil = Parsed(rendered(page("name"))), Parsed(rendered(page(EVIL)))
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert not any(key.startswith("on") for _, attributes in evil.tags for key in attributes)
    assert evil.text.count(("h1", EVIL)) == 1
    assert ("td", EVIL) in evil.text


def test_names_in_charts_are_text_to_plotly_too() -> None:
    for chart in every_chart(EVIL):
        figure = json.loads(chart.figure)
        assert "<" not in chart.figure
        assert "<" not in json.dumps(figure)  # Plotly reads <b> as bold, and &lt; as <
        assert EVIL in [*map(str, chart.table.header), *(str(cell) for row in chart.table.rows for cell in row)]


def test_a_page_loads_nothing_from_a_network(tmp_path: Path) -> None:
    write_page(page("name"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 10 * 2**20
    parsed = Parsed(text)
    policy = next(a["content"] for tag, a in parsed.tags if tag == "meta" and "content" in a and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    links = [a.get(key) for _, a in parsed.tags for key in ("src", "href") if key in a]
    assert links
    assert all(link is not None and link.startswith(("data:image/png;base64,", "#section-")) for link in links)


def test_every_chart_has_a_table_and_every_picture_a_description() -> None:
    parsed = Parsed(rendered(page("name")))
    assert parsed.count("details") == 5 + 1
    assert parsed.count("table") == 6
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["name"]
    assert all(attributes.get("aria-label") for tag, attributes in parsed.tags if attributes.get("class") == "chart")


def test_a_picture_shows_its_pixels() -> None:
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 60, 60)
    source = Picture("", images, 2, "").source
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        pixels = np.asarray(picture)
    assert (pixels[2:62, 2:62] == 0).all()
    assert (pixels[2:62, 64:124] == 255).all()


def test_a_long_table_is_cut_with_a_note() -> None:
    text = rendered(Page("t", "s", [Section("x", [], [Grid(["a"], [[i] for i in range(250)])])]))
    assert len(re.findall("<td", text)) == 200
    assert "50 more rows are not shown" in text


def test_a_histogram_counts_shares_in_common_bins() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=4000), rng.normal(2, 1, size=1000)
    chart = charts.histogram("t", {"one": one, "other": other}, "x")
    centres, shares = np.array(chart.data[0]["x"]), np.array(chart.data[0]["y"])
    assert chart.data[1]["x"] == chart.data[0]["x"]
    assert shares.sum() == pytest.approx(np.mean((one >= centres[0] - 0.1) & (one <= centres[-1] + 0.1)), abs=0.01)
    assert float((centres * shares).sum()) == pytest.approx(0, abs=0.05)
    assert chart.table.rows[0][4] == pytest.approx(np.median(one))
