"""Table schemas: learned in parts from training rows only, grouped into modalities, encoded in bounded memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvae.data import columns as arrays
from mvae.data.tables import frames as tables
from mvae.data.tables.describe import describe
from mvae.data.tables.frames import CHUNK, of_frame
from mvae.data.tables.opening import open_table
from mvae.data.tables.schema import TableSchema
from mvae.data.tables.tensors import encoded_parts
from mvae.errors import DataError, SettingsError
from tests.patients import csv_of, patients

pd = pytest.importorskip("pandas")


def long(folder: Path, last: dict[str, str]) -> Path:
    """A file with more rows than one part holds, whose last row is given."""
    path = folder / "long.csv"
    rows = np.random.default_rng(0).normal(size=CHUNK + 20).round(3)
    frame = pd.DataFrame({"x": rows.astype(str), "kind": "a", "only": "x", "two": "m"}, dtype=object)
    frame.loc[::3, "kind"] = "b"
    frame.loc[::2, "two"] = "f"
    frame.loc[len(frame) - 1, list(last)] = list(last.values())
    frame.to_csv(path, index=False)
    return path


def test_values_late_in_a_long_file_are_learned(tmp_path: Path) -> None:
    frames = open_table(long(tmp_path, {"kind": "c", "only": "y", "two": "d"}))
    schema = TableSchema.learn(frames)
    assert schema.named["kind"].classes == ("a", "b", "c")
    assert schema.named["only"].classes == ("x", "y")
    assert (schema.named["two"].kind, schema.named["two"].classes) == ("categorical", ("d", "f", "m"))
    with pytest.raises(DataError, match="holds numbers, except 'word'"):
        TableSchema.learn(open_table(long(tmp_path, {"x": "word"})))


@pytest.mark.parametrize("text", [False, True])
def test_learning_in_parts_gives_the_schema_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, text: bool
) -> None:
    """The rows are sorted, so the first part alone would mislead."""
    random, half = np.random.default_rng(0), 100
    columns = {
        "fractions": [*random.integers(-50, 50, half), *random.normal(0, 30, half).round(2)],
        "negative": [*random.integers(20, 80, half), *random.integers(-80, 80, half)],
        "levels": [*random.integers(1, 9, half), *random.integers(1, 5000, half)],
        "flags": [*random.integers(0, 2, half), *random.normal(0, 30, half).round(1)],
        "share": [*random.random(half).round(3), *(9 * random.random(half)).round(3)],
        "numbered": [*range(half), *range(half)],
        "names": [*random.choice(["a", "b", "c"], half), *(f"w{i}" for i in range(half))],
        "words": ["few words"] * half + ["many more words than in the first part"] * half,
    }
    frames = of_frame(columns)
    if text:
        frames = open_table(csv_of(frames.whole(), tmp_path))
    kinds = {"words": "text"}
    whole = TableSchema.learn(frames, kinds=kinds)
    monkeypatch.setattr(tables, "CELLS", len(columns) * half)
    parts = TableSchema.learn(frames, kinds=kinds)
    assert frames.at_once == half
    assert [(c.name, c.kind, c.low, c.resolution) for c in parts.columns] == [
        (c.name, c.kind, c.low, c.resolution) for c in whole.columns
    ]
    assert parts.shapes == whole.shapes


def test_parts_are_encoded_in_order_and_memory_mapped_if_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = open_table(long(tmp_path, {}))
    schema = TableSchema.learn(frames)
    part_of = np.random.default_rng(1).integers(0, 2, frames.rows)
    monkeypatch.setattr(arrays, "LARGE", 1 << 18)
    parts = encoded_parts(frames, schema, part_of, 2)
    expected = pd.read_csv(tmp_path / "long.csv")
    for number, table in enumerate(parts):
        column = table.columns["long"]
        assert isinstance(column, np.memmap)
        np.testing.assert_array_equal(column[:, 0], expected["x"][part_of == number])
        np.testing.assert_array_equal(column[:, 1], expected["kind"][part_of == number] == "b")


def test_only_training_rows_are_learned_from() -> None:
    frame = patients(missing=0.0)
    frame.loc[:9, "city"] = "Paris"
    frame.loc[:9, "share"] = 0.0
    training = np.arange(len(frame)) >= 10
    schema = TableSchema.learn(of_frame(frame), training=lambda start, end: training[start:end])
    assert "Paris" not in schema.named["city"].classes
    _, present = schema.encode(frame)
    assert not present["table"][:10, schema.home_of("city")[1]].any()
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_leaks_patterns_and_empty_rows_are_described() -> None:
    frame = patients(missing=0.1)
    frame["town"] = frame["city"].map({"Oslo": "O", "Bergen": "B", "Hamar": "H"})
    frame["again"] = frame["share"]
    frame.loc[0] = None
    found = describe(of_frame(frame))
    assert ("city", "town", "each value of one goes with one value of the other") in found.leaks
    assert ("share", "again", "equal in every row that has both") in found.leaks
    assert len(found.leaks) == 2
    assert found.empty_rows == 1
    counts = frame.isna().value_counts()
    assert found.patterns[0][0] == counts.iloc[0]
    assert sum(rows for rows, _ in describe(of_frame(frame), most=10_000).patterns) == len(frame)


def test_the_width_of_a_row_counts_its_classes_and_words() -> None:
    """The width bounds the memory of a part: a column of 10,000 categories is not a single number."""
    columns = {"a": [0.5, 1.5, 2.5] * 400, "k": [f"class {i}" for i in range(1200)]}
    schema = TableSchema.learn(of_frame(columns), kinds={"k": "categorical"})
    assert schema.width == 1201
    columns["k"] = ["some words here", "and others", "four words and more"] * 400
    assert TableSchema.learn(of_frame(columns), kinds={"k": "text"}).width == 1 + 64 * 5


def test_cutting_long_texts_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    frame = {"t": ["a " * 64, "a " * 63, "b c"], "x": [1.5, 2.5, 4.0]}
    schema = TableSchema.learn(of_frame(frame), kinds={"t": "text"}, modalities={"t": ["t"], "x": ["x"]})
    assert schema.shapes == {"t": (64,)}
    assert "column 't': only the first 63 words of a text are read; 1 of the first 3 are longer" in caplog.text
    caplog.clear()
    for length, found in ((100, 65), (65, 65), (3, 3)):
        schema = TableSchema.learn(
            of_frame(frame), kinds={"t": "text"}, modalities={"t": ["t"], "x": ["x"]}, lengths={"t": length}
        )
        assert schema.shapes == {"t": (found,)}
    assert caplog.messages[0].startswith("column 't': only the first 2 words of a text are read; 2 of the first 3")


@pytest.mark.parametrize(
    ("cells", "far"),
    [
        ([120, 141, 99, 133, 999, 999, -9, -9], ["-9", "999"]),
        ([1, 2, 3, 4, 5, 9, 9, 5], ["9"]),
        ([1.5, 2.25, 3.5, 9.75, 99.9, 99.9, 4.5, 8.5], ["99.9"]),
        ([20, 31, 42, 53, 99, 99, 64, 75], []),  # ages
        ([5, 7, 7, 8, 8, 9, 9, 11], []),
        ([-9, -9, -5, -2, -1, 3, 8, 9], []),  # temperatures
        ([-31, 12, 28, -2, -999, -999, 5, 17], ["-999"]),
        ([12, 28, 2, 9999999, 9999999, 5, 17, 4], ["9999999"]),
        (["2024-01-05", "2024-02-11", "9999-12-31", "2024-05-30"] * 2, ["9999-12-31"]),
        (["2024-01-05", "2024-02-11", "2024-03-31", "2024-05-30"] * 2, []),
    ],
)
def test_values_far_from_all_others_are_noted(cells: list[Any], far: list[str]) -> None:
    found = describe(of_frame(pd.DataFrame({"x": cells * 3})))
    assert found.notes == tuple(
        f"x: {cell} is far from all other values; if it means missing, name it as missing" for cell in far
    )


def test_the_index_that_pandas_stores_in_a_file_is_not_modelled(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = np.random.default_rng(0).choice(10_000, 50, replace=False)  # a random sample of a larger table
    pd.DataFrame({"x": np.sqrt(rows)}, index=rows).to_parquet(tmp_path / "x.parquet")
    frames = open_table(tmp_path / "x.parquet")
    assert frames.whole()["__index_level_0__"].tolist() == rows.tolist()
    assert TableSchema.learn(frames).seen == ["x"]
    assert TableSchema.learn(frames, kinds={"__index_level_0__": "real"}).seen == ["x", "__index_level_0__"]


def test_large_numbers_are_described_without_exponents() -> None:
    (column,) = describe(of_frame(pd.DataFrame({"pay": [12_000.5, 52_300.25, 1_250_000.75] * 5}))).columns
    assert column.values == "12000 … 52300 … 1250001"
    (column,) = describe(of_frame(pd.DataFrame({"stage": [1.0, 2.0, None, 3.0, 1.0] * 5}))).columns
    assert column.values == "1 (50%), 2 (25%), 3 (25%)"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["yes", "Y", "TRUE", "1", "no", "N", "FALSE", "0"], ["'FALSE' and 'N' and 'no', 'TRUE' and 'Y' and 'yes' "]),
        (["north", "North", "south ", "south", "east"], ["'North' and 'north' are categories of their own"]),
        (["TV;Web", "Web", "TV", "TV;Radio", "Radio"], ["'TV;Radio' is one category, no list"]),
        (["north", "south", "east"], []),
        (["yes", "no"], []),
        (["t", "f"], []),
        (["1", "2", "3"], []),
        (["Oslo, Norway", "Bergen, Norway", "Rome, Italy"], []),
        (["n/a", "mild", "severe"], ["'n/a' is read as a category; if it means missing, name it as missing"]),
    ],
)
def test_similar_categories_and_lists_are_noted(cells: list[str], said: list[str]) -> None:
    notes = describe(of_frame(pd.DataFrame({"x": cells * 6}))).notes
    assert len(notes) == len(said)
    for note, part in zip(notes, said, strict=True):
        assert note.startswith(f"x: {part}")


def test_a_text_column_named_like_the_table_hides_no_columns() -> None:
    frame = pd.DataFrame({"age": np.arange(100) / 7, "hb": np.arange(100) / 9, "mcv": np.arange(100) / 8})
    frame["table"] = ["few words", "more words than these"] * 50
    schema = TableSchema.learn(of_frame(frame), kinds={"table": "text"})
    assert schema.modalities == {"table and others": ("age", "hb", "mcv"), "table": ("table",)}


def test_a_text_column_named_like_a_joined_file_hides_no_columns(tmp_path: Path) -> None:
    for name, columns in {"labs": ["hb", "mcv"], "notes": ["size", "labs"]}.items():
        frame = pd.DataFrame({"id": np.arange(30), **{c: np.arange(30) / 7 for c in columns}})
        if "labs" in columns:
            frame["labs"] = ["few words", "more words than these"] * 15
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    frames = open_table([tmp_path / "labs.csv", tmp_path / "notes.csv"], "id")
    schema = TableSchema.learn(frames, kinds={"labs": "text"})
    assert schema.modalities == {"labs and others": ("hb", "mcv"), "notes": ("size",), "labs": ("labs",)}


@pytest.mark.parametrize("start", [-5, 0, 5])
def test_rows_of_a_data_frame_keep_their_labels_in_parts(start: int) -> None:
    frame = pd.DataFrame({"x": np.arange(20.0)}, index=pd.RangeIndex(start, start + 20))
    labels = [label for part in of_frame(frame).chunks(5) for label in part.index]
    assert labels == list(frame.index)


@pytest.mark.parametrize("dtype", ["str", "category"])
def test_text_dates_are_read_the_same_way_in_all_parts(dtype: str, tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("2021-01-01", periods=60))
    schema = TableSchema.learn(of_frame({"day": days, "x": np.arange(60) / 7}))
    text = pd.DataFrame({"day": days.dt.strftime("%m/%d/%Y"), "x": np.arange(60) / 7})
    text.loc[::7, "day"] = None
    frames = open_table(csv_of(text, tmp_path)) if dtype == "str" else of_frame(text.astype({"day": dtype}))
    seconds, filled = [], []
    for part, values, present in schema.encoded(frames, 5):
        seconds += values["table"][present["table"][:, 0], 0].tolist()
        filled += schema.named["day"].filled(part["day"], np.full(len(part), 86_400.0 * 5)).tolist()
    assert seconds == days[text["day"].notna()].map(pd.Timestamp.timestamp).tolist()
    assert dtype == "category" or filled == text["day"].fillna("01/06/1970").tolist()


def test_a_modality_asked_for_as_a_column_and_a_long_list_of_columns_make_short_messages() -> None:
    numbers = np.random.default_rng(0).normal(size=(20, 500))
    schema = TableSchema.learn(of_frame(pd.DataFrame(numbers, columns=[f"x{i}" for i in range(500)])))
    (modality,) = schema.modalities
    with pytest.raises(SettingsError, match=f"'{modality}' is a modality: name one of its columns, x0, .* 490 more"):
        schema.home_of(modality)
    with pytest.raises(SettingsError, match=r"no column 'hb'; there are x0, x1, .*, x9 and 490 more"):
        schema.home_of("hb")
