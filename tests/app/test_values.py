"""Values given by a visitor: valid ones are read, others are refused by name, and pictures have limits."""

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.app.drawing import drawing, read_drawing
from mvae.app.values import MOST_BYTES, parsed, summary
from mvae.data.codecs import class_names
from mvae.data.tables.column import TableColumn
from mvae.errors import QueryError
from mvae.report.views import View

PICTURE = View("image", "picture", (1, 8, 8), levels=255.0)
FLAGS = View("flags", "flags", (2,), columns=("smiles", "hat"))
NUMBERS = View("labs", "numbers", (2,), columns=("hb", "crp"))
CLASSES = View("ward", "classes", classes=("a", "b"))


def encoded(size: tuple[int, int], kind: str = "PNG", mode: str = "L", colour: str | float = "white") -> str:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def png_header_of(width: int, height: int) -> str:
    """A PNG whose header announces this many pixels but which holds none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))).decode()


def test_valid_values_are_read() -> None:
    assert parsed(CLASSES, "b").tolist() == [1]
    assert parsed(CLASSES, "b", class_names(["b", "a"])).tolist() == [0]
    assert parsed(FLAGS, ["hat"]).tolist() == parsed(FLAGS, [False, True]).tolist() == [[0.0, 1.0]]
    assert parsed(NUMBERS, "13.5, 2").tolist() == parsed(NUMBERS, [13.5, 2]).tolist() == [[13.5, 2.0]]
    assert parsed(PICTURE, [[0.0] * 8] * 8).shape == (1, 1, 8, 8)
    for text in (encoded((30, 50)), "data:image/png;base64," + encoded((1, 1)), encoded((8, 8), "JPEG", "RGB")):
        image = parsed(PICTURE, text)
        assert image.shape == (1, 1, 8, 8)
        assert float(image.min()) > 250
    assert parsed(PICTURE, encoded((8, 8), mode="I;16", colour=257 * 40)).unique().tolist() == [40]
    with pytest.raises(QueryError, match=r"image: .*its levels are real numbers; save it with 8 bits"):
        parsed(PICTURE, encoded((8, 8), "TIFF", "F", 0.5))


@pytest.mark.parametrize(
    ("view", "value", "message"),
    [
        (CLASSES, "c", "one of a, b is needed, not 'c'"),
        (CLASSES, 1, "one of a, b is needed, not '1'"),
        (CLASSES, True, "one of a, b is needed, not 'True'"),
        (CLASSES, None, "one of a, b is needed, not 'None'"),
        (View("ward", "classes"), "c", "a class by its number"),
        (View("ward", "classes"), True, "a class by its number"),
        (View("ward", "classes"), 10**30, "a class by its number"),
        (FLAGS, ["shoe"], "there is no 'shoe'"),
        (FLAGS, "hat", "a list is needed"),
        (NUMBERS, [1.0], "2 numbers are needed"),
        (NUMBERS, "1, nan", "must be finite"),
        (NUMBERS, "1, x", "a number with a decimal point, as 1234.5, is needed, not 'x'"),
        (NUMBERS, {"a": 1}, "2 numbers are needed"),
        (PICTURE, "no base64!", "base64"),
        (PICTURE, base64.b64encode(b"broken").decode(), "not an image"),
        (PICTURE, encoded((30, 30))[:60], "cannot be decoded|cannot read|no image"),
        (PICTURE, png_header_of(20_000, 20_000), "more than 16,000,000 pixels"),
        (PICTURE, base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").decode(), "is not read"),
        (PICTURE, [[0.0] * 8] * 7, "levels of shape 1×8×8"),
        (PICTURE, [[256.0] * 8] * 8, "levels from 0 to 255"),
        (PICTURE, None, "."),
        (View("text", "text"), "a b", "words are unknown"),
    ],
)
def test_invalid_values_are_refused_with_their_modality(view: View, value: Any, message: str) -> None:
    with pytest.raises(QueryError, match=f"^{view.name}: .*({message})"):
        parsed(view, value)


def test_a_large_file_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(QueryError, match="8 MB"):
        parsed(PICTURE, base64.b64encode(bytes(MOST_BYTES + 1)).decode())


def test_columns_are_given_by_name_and_the_others_are_missing() -> None:
    fields = (View("hb", "numbers", columns=("hb",)), View("ward", "classes", classes=("a", "b")))
    view = View("t", "table", (2,), ("hb", "ward"), fields=fields)
    row = parsed(view, {"ward": "b"})
    assert row.isnan().tolist() == [[True, False]]
    assert row[0, 1] == 1
    for wrong, message in (
        ({"x": 1}, "no column 'x'"),
        ({"ward": "c"}, "t: ward: one of a, b is needed, not 'c'"),
        ({"ward": 2}, "t: ward: one of a, b is needed, not '2'"),
        ({"hb": None}, "t: hb: a number with a decimal point, as 1234.5, is needed, not 'None'"),
        ({"hb": "1.234,50"}, "t: hb: a number with a decimal point, as 1234.5, is needed"),
        ({"hb": "inf"}, "finite"),
        ([], "NAME"),
    ):
        with pytest.raises(QueryError, match=message):
            parsed(view, wrong)
    found = summary(view, torch.tensor([[1.0, 1.0], [3.0, 1.0], [2.0, 0.0], [2.0, 1.0]]))["columns"]
    assert found["hb"]["median"] == 2
    assert found["ward"]["shares"] == {"b": 0.75, "a": 0.25}


@pytest.mark.parametrize(
    ("classes", "values", "refused"),
    [
        ((1.0, 2.0, 3.0), (1, 1.0, "1", "1.0", " 3", 3), (0, "0", 4, 1.5, "one", [1], None)),
        ((3, 4, 5, 6), (3, "4", 5.0, "6.0"), (0, 1, 2, "2", 7)),
        ((0.5, 1.5), (0.5, "0.5", 1.5), (0, 1, "5")),
        ((False, True), (True, False, "true", "False", 0, 1), (2, "yes")),
        (("I", "II", "III"), ("I", "III"), (0, 1, "2", True)),
    ],
)
def test_classes_are_read_as_in_their_table(
    classes: tuple[Any, ...], values: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    pd = pytest.importorskip("pandas")
    column = TableColumn("size", "categorical", classes=classes)
    view = View("t", "table", (1,), ("size",), fields=(View("size", "classes", classes=tuple(map(str, classes))),))
    for value in values:
        read = column.encode(pd.Series([value], dtype=object), strict=True)[0]
        assert parsed(view, {"size": value}).tolist() == [read.tolist()]
    for value in refused:
        with pytest.raises(QueryError, match=f"^t: size: one of {', '.join(map(str, classes))} is needed, not '"):
            parsed(view, {"size": value})


def test_a_class_without_a_name_is_given_by_its_number() -> None:
    assert [parsed(View("ward", "classes"), value).item() for value in (3, "12")] == [3, 12]
    smokes = View("smokes", "classes", classes=("no", "yes"))  # how a binary field without names is shown
    assert [parsed(smokes, value).item() for value in ("no", 0, "1", True, "yes")] == [0, 0, 1, 1, 1]


def test_dates_are_given_as_dates_or_years() -> None:
    view = View("t", "table", (1,), ("when",), fields=(View("when", "numbers", columns=("when",), date=True),))
    for value in ("2020-01-01", 2020, "2020.0"):
        assert parsed(view, {"when": value}).item() == pytest.approx(1_577_836_800, abs=86_400)
    for value in ("soon", 1_577_836_800, 0):
        with pytest.raises(QueryError, match="t: when: a date as 2020-01-31, or a year"):
            parsed(view, {"when": value})


def test_columns_are_read_and_written_in_the_formats_of_their_table() -> None:
    """Once, 04.03.2023 was read as the 3rd of April, 1.851,00 was refused, and an answer was the year 2023."""
    when = View("when", "numbers", columns=("when",), date=True, form="%d.%m.%Y")
    pay = View("pay", "numbers", columns=("pay",), style="1.234,5")
    view = View("t", "table", (2,), ("when", "pay"), fields=(when, pay))
    march = 1_677_888_000
    for day, number in (("04.03.2023", "1.851,00"), ("2023-03-04", 1851), (" 04.03.2023", "1851.0"), (None, "1.851")):
        row = parsed(view, {"pay": number} | ({"when": day} if day else {}))
        assert row[0, 1] == 1851
        assert day is None or row[0, 0] == march
    for wrong, message in (
        ({"when": "soon"}, "when: a date as 31.01.2020, or a year"),
        ({"pay": "much"}, "pay: a number as 1.234,5, is needed, not 'much'"),
    ):
        with pytest.raises(QueryError, match=message):
            parsed(view, wrong)
    rows = torch.tensor([[march, 20_000.0], [march + 30 * 86_400, 40_000.0]], dtype=torch.float64)
    found = summary(view, rows.repeat(20, 1))["columns"]
    assert found["when"]["5 %"] == "2023-03-04"
    assert found["when"]["draws"][:2] == ["2023-03-04", "2023-04-03"]
    assert found["pay"]["median"] == 30_000


def test_draws_are_listed_as_cells_and_all_of_them_are_summarised() -> None:
    when, day = TableColumn("when", "date", form="%d.%m.%Y", resolution=86_400.0), 1_677_888_000.0
    pay = TableColumn("pay", "real", dtype="text", style="1.234,5", resolution=0.01)
    visits, rain = TableColumn("visits", "count", resolution=1.0), TableColumn("rain", "real", resolution=0.1)
    fields = View("when", "numbers", date=True), *(View(name, "numbers") for name in ("pay", "visits", "rain", "raw"))
    view = View("t", "table", (5,), tuple(field.name for field in fields), fields=fields)
    rows = torch.arange(101, dtype=torch.float64)[:, None].repeat(1, 5) + 0.00123
    rows[:, 0], rows[:, 3] = day + 4000.0, (rows[:, 3] - 50).clamp(min=0)
    found = summary(view, rows, 2, {column.name: column for column in (when, pay, visits, rain)})["columns"]
    assert {name: own["draws"] for name, own in found.items()} == {
        "when": ["04.03.2023"] * 2,
        "pay": [0.0, 1.0],
        "visits": [0, 1],
        "rain": [0.0, 0.0],
        "raw": pytest.approx([0.00123, 1.00123]),
    }
    assert [found["visits"][key] for key in ("5 %", "median", "95 %")] == [5, 50, 95]
    assert isinstance(found["visits"]["median"], int)
    assert found["when"]["median"] == "04.03.2023"
    assert (found["rain"]["5 %"], found["rain"]["95 %"]) == (
        0.0,
        40.0,
    )  # all 10 % outside lie above, as in `mvae predict`


def test_summaries_match_the_draws() -> None:
    g = torch.Generator().manual_seed(0)
    numbers = torch.randn(2000, 2, generator=g)
    found = summary(NUMBERS, numbers)
    assert found["median"]["crp"] == pytest.approx(np.median(numbers[:, 1]))
    assert found["95 %"]["hb"] == pytest.approx(1.645, abs=0.15)
    assert summary(CLASSES, torch.tensor([1, 1, 0, 1]))["shares"] == {"b": 0.75, "a": 0.25}
    assert summary(FLAGS, torch.tensor([[0.0, 1.0], [1.0, 1.0]]))["shares"] == {"smiles": 0.5, "hat": 1.0}
    image = summary(PICTURE, 255 * torch.ones(1, 1, 8, 8))["draws"][0]
    with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as picture:
        assert np.asarray(picture).min() == 255
        assert picture.size == (8, 8)


def drawn(ink: int) -> str:
    """A drawing as the canvas sends it: transparent, with a vertical line of this opacity."""
    pixels = np.zeros((280, 280, 4), np.uint8)
    pixels[40:240, 130:150, 3] = ink
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_ink_is_bright_on_dark_and_an_empty_drawing_is_none() -> None:
    row = read_drawing(PICTURE, drawn(255))
    assert row is not None
    assert row.shape == (1, 1, 8, 8)
    assert row[0, 0, 4, 3:5].tolist() == pytest.approx([255 * 10 / 35] * 2, abs=2)  # 10 of 35 columns of each are ink
    assert row[0, 0, :, 0].max() == 0
    assert read_drawing(PICTURE, drawn(0)) is None
    assert read_drawing(PICTURE, "") is None
    assert read_drawing(PICTURE, None) is None


@pytest.mark.parametrize(
    "value",
    ["x", "data:image/png;base64,AAAA", encoded((281, 280)), png_header_of(20000, 20000), encoded((8, 8), "PPM")],
)
def test_images_that_are_not_drawings_are_refused(value: str) -> None:
    with pytest.raises(QueryError, match="image: this is not a drawing"):
        read_drawing(PICTURE, value)


def test_names_are_escaped_in_the_canvas_template() -> None:
    pytest.importorskip("gradio")
    template = drawing(View("${alert(1)} <b> {{x}}", "picture", (1, 8, 8), levels=255.0)).html_template
    assert not any(sign in template for sign in ("${", "{{", "<b>"))
