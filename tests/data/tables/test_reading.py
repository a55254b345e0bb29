"""Reading files and data frames: cells as written, in parts, and errors that name the line."""

import contextlib
import gc
import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvae.data.tables.cells import factorized
from mvae.data.tables.frames import of_frame
from mvae.data.tables.opening import open_table
from mvae.data.tables.writing import WRITERS, write_frames
from mvae.errors import DataError

pd = pytest.importorskip("pandas")


def file(folder: Path, text: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        ("a,b\n1,x\n2,y\n", [["1", "x"], ["2", "y"]]),
        ("a;b\n1,5;x\n", [["1,5", "x"]]),
        ("a\tb\r\n1\tx\r\n", [["1", "x"]]),
        ("\ufeffa,b\n1,x\n", [["1", "x"]]),  # a byte-order mark
        ("a,b\n1,x\n".encode("utf-16"), [["1", "x"]]),
        ('a,b\n"1,234","say ""hi"",\nthen go"\n', [["1,234", 'say "hi",\nthen go']]),
        ("a,b\n\n1, x \n\n", [["1", " x "]]),  # empty lines are skipped, spaces are kept
        ('a\n"1"\n2', [["1"], ["2"]]),
    ],
)
def test_text_cells_are_read_as_written(tmp_path: Path, content: Any, cells: list[list[str]]) -> None:
    frames = open_table(file(tmp_path, content))
    assert frames.names == ("a", "b")[: len(cells[0])]
    assert frames.whole().to_numpy().tolist() == cells
    assert frames.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.filterwarnings("error")  # zipfile raises again when it is garbage-collected
def test_writing_excel_to_a_full_disk_raises_one_error(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        WRITERS[".xlsx"](tmp_path / "x.xlsx", iter([pd.DataFrame({"a": [1.5]})]), ",", "utf-8", ".")
    gc.collect()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_written_in_its_original_encoding(tmp_path: Path, encoding: str) -> None:
    """Without the byte-order mark Excel shows KÃ¶ln."""
    content = "Ort;Größe\nKöln;1,5\n".encode(encoding)
    frames = open_table(file(tmp_path, content))
    write_frames(tmp_path / "y.csv", frames.chunks(), frames.separator, frames.encoding)
    assert (tmp_path / "y.csv").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "has a header and no rows"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells, where the header has 2"),
        ("a,b\n1,2\n1\n", "line 3: 1 cells, where the header has 2"),
        ("a,a\n1,2\n", "has more than one column 'a'"),
        (b"a,b\n1,2\n3,caf\xe9\n", "line 3: byte 0xe9 is not UTF-8. Save the file as UTF-8"),
        ('a,b\n1,"2\n3,4\n', "is a quote not closed"),
    ],
)
def test_invalid_files_are_refused_with_their_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_table(file(tmp_path, content)).whole()
    assert "x.csv" in str(caught.value)


def test_absent_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        open_table(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"is none of \.csv"):
        open_table(file(tmp_path, "{}", "x.json"))
    with pytest.raises(DataError, match="not a int"):
        open_table(3)


def test_a_file_can_be_read_in_parts_repeatedly(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write("a,b\n" + "".join(f"{i},{2 * i}\n" for i in range(1000)))
    frames = open_table(path)
    for _ in range(2):
        parts = list(frames.chunks(300))
        assert [len(part) for part in parts] == [300, 300, 300, 100]
        assert pd.concat(parts)["b"].astype(int).tolist() == list(range(0, 2000, 2))
    assert frames.rows == 1000
    assert open_table(path.rename(tmp_path / "X.CSV.GZ")).rows == 1000


def test_parquet_and_arrow_keep_types_and_nullable_integers(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"n": pd.array([1, None, 2**60 + 1], "Int64"), "c": pd.Categorical(["x", None, "y"])})
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_feather(tmp_path / "x.feather")
    cells = arrow.Table.from_pandas(frame)
    with arrow.ipc.new_stream(tmp_path / "stream.arrow", cells.schema) as stream:
        stream.write_table(cells)
    for name in ("x.parquet", "x.feather", "stream.arrow"):
        frames = open_table(tmp_path / name)
        whole = frames.whole()
        assert whole["n"].dtype == "Int64"
        assert whole["n"][2] == 2**60 + 1  # never converted to a float
        assert whole["c"].tolist() == frame["c"].tolist()
        assert [len(part) for part in frames.chunks(2)] == [2, 1]
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        open_table(file(tmp_path, b"PAR1 no", "x.parquet"))
    for name, part in (("x.feather", -200), ("stream.arrow", -100)):  # copied in part
        with pytest.raises(DataError, match=f"{name} (cannot be read|is damaged)"):
            open_table(file(tmp_path, (tmp_path / name).read_bytes()[:part], f"half of {name}"))


def test_the_first_excel_sheet_is_read(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "x.xlsx") as writer:
        pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]}).to_excel(writer, sheet_name="one", index=False)
        pd.DataFrame({"z": [0]}).to_excel(writer, sheet_name="two", index=False)
    frames = open_table(tmp_path / "x.xlsx")
    assert frames.names == ("a", "b")
    assert frames.whole()["a"].dtype == float
    assert "1 more are not" in frames.notes[0]


def test_excel_integers_stay_integers_next_to_missing_cells(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    pd.DataFrame({"n": [1, None, 3], "x": [1.5, None, 3], "b": [True, None, False], "h": 1e20}, dtype=object).to_excel(
        tmp_path / "x.xlsx", index=False
    )
    whole = open_table(tmp_path / "x.xlsx").whole()
    assert whole["n"].dtype == "Int64"
    assert whole["n"].isna().tolist() == [False, True, False]
    assert whole["x"].dtype == float
    assert whole["b"].tolist()[::2] == [True, False]


def test_excel_words_such_as_none_are_not_missing(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    pd.DataFrame({"severity": ["None", "NA", "n/a", None, "mild"]}).to_excel(tmp_path / "x.xlsx", index=False)
    found = open_table(tmp_path / "x.xlsx").whole()["severity"]
    assert found.fillna("").tolist() == ["None", "NA", "n/a", "", "mild"]


def test_text_that_looks_like_a_formula_stays_text_in_excel(tmp_path: Path) -> None:
    """Such cells, and words that Excel uses for errors, were read back as missing."""
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame({"=a": ["=1+1", "#N/A", "-", "+1"], "n": [1, 2, 3, 4]})
    write_frames(tmp_path / "x.xlsx", iter([frame]))
    found = open_table(tmp_path / "x.xlsx").whole()
    assert found["=a"].tolist() == ["=1+1", "#N/A", "-", "+1"]
    assert found["n"].tolist() == [1, 2, 3, 4]


def test_npz_arrays_become_columns_with_their_masks(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=[1, 2], a__present=[True, False], m=[[1.0, 2.0], [3.0, 4.0]], t=["x", "y"])
    whole = open_table(tmp_path / "x.npz").whole()
    assert list(whole) == ["a", "m.0", "m.1", "t"]
    assert whole["a"].isna().tolist() == [False, True]


def test_nullable_integers_of_other_libraries_stay_integers() -> None:
    arrow = pytest.importorskip("pyarrow")
    found = open_table(arrow.table({"n": [1, None, 2**60 + 1], "b": [True, None, False]})).whole()
    assert found["n"].isna().tolist() == [False, True, False]
    assert found["n"][2] == 2**60 + 1  # never converted to a float
    assert found["b"].dtype == "boolean"


def test_frames_of_other_libraries_are_read_and_invalid_column_names_refused() -> None:
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    assert open_table(polars.DataFrame({"a": [1, 2]})).whole()["a"].tolist() == [1, 2]
    for columns, message in (
        (pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]), "several levels"),
        (["a", "a"], "more than one column 'a'"),
        (["a", 3], "a column named 3"),
    ):
        with pytest.raises(DataError, match=message):
            open_table(pd.DataFrame([[1, 2]], columns=columns))
    with pytest.raises(DataError, match="has no rows"):
        open_table(pd.DataFrame({"a": []}))


# Several files


def test_files_are_joined_by_a_key_and_absent_rows_are_missing(tmp_path: Path) -> None:
    one = file(tmp_path, "id,hb\n3,9.5\n1,8\n", "labs.csv")
    two = file(tmp_path, "size,id\n5,2\n6,1\n", "scans.csv")
    frames = open_table([one, two], "id")
    assert frames.groups == {"labs": ("hb",), "scans": ("size",)}
    whole = frames.whole()
    assert whole["id"].tolist() == ["3", "1", "2"]
    assert whole["hb"].fillna("-").tolist() == ["9.5", "8", "-"]
    assert whole["size"].fillna("-").tolist() == ["-", "6", "5"]


@pytest.mark.parametrize(
    ("second", "key", "message"),
    [
        ("id,size\n1,2\n", None, "joined by a column"),
        ("nr,size\n1,2\n", "id", "has no column 'id' (the key); it has nr, size"),
        ("ID,size\n1,2\n", "id", "has no column 'id' (the key); it has ID, size (did you mean 'ID'?)"),
        ("id,size\n1,2\n1,3\n", "id", "the key '1' names 2 rows (0, 1)"),
        ("id,size\n,2\n", "id", "row 0: its key 'id' is empty"),
        ("id,hb\n1,2\n", "id", "has a column 'hb', and so has an earlier file"),
    ],
)
def test_a_key_must_identify_one_row_in_each_file(tmp_path: Path, second: str, key: str | None, message: str) -> None:
    one, two = file(tmp_path, "id,hb\n3,9.5\n1,8\n", "labs.csv"), file(tmp_path, second, "scans.csv")
    with pytest.raises(DataError, match=re.escape(message)):
        open_table([one, two], key)


def test_integer_keys_match_in_any_notation(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,a\n1,5\n2,6\n")
    (tmp_path / "two.csv").write_text("id,b\n2.0,7\n3.0,8\n")
    (tmp_path / "three.csv").write_text("id,c\np1,7\n")
    of_numbers = pd.DataFrame({"id": [1.0, 4.0], "d": [5, 6]})
    of_numbers.to_parquet(tmp_path / "four.parquet")
    every = open_table([tmp_path / name for name in ("one.csv", "four.parquet", "two.csv")], "id").whole()
    assert every["id"].tolist() == ["1", "2", "4", "3"]
    assert every["d"].tolist()[:1] == [5]
    found = open_table([tmp_path / "one.csv", tmp_path / "two.csv"], "id")
    assert found.whole()["id"].tolist() == ["1", "2", "3"]
    assert not found.notes
    assert (
        "has a key 'id' that an earlier file has"
        in open_table([tmp_path / "one.csv", tmp_path / "three.csv"], "id").notes[0]
    )


@pytest.mark.parametrize(
    ("second", "note"),
    [
        ("id,b\n1,7\n002,8\na4,9\n", "its key '1' differs from '001' of an earlier file (2 such keys)"),
        ("id,b\n001,7\n002,8\n5,9\n", ""),
    ],
)
def test_keys_that_differ_in_leading_zeros_are_noted(tmp_path: Path, second: str, note: str) -> None:
    one, two = file(tmp_path, "id,a\n001,5\n002,6\nA4,7\n", "one.csv"), file(tmp_path, second, "two.csv")
    notes = open_table([one, two], "id").notes
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_file_suffix_may_have_capitals(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    for name in ("A.CSV", "A.Tsv", "A.PARQUET", "A.XLSX"):
        assert write_frames(tmp_path / name, iter([frame])) == 2
        assert open_table(tmp_path / name).whole()["b"].tolist() == ["x", "y"]
    assert (tmp_path / "A.Tsv").read_text().startswith("a\tb\n")


def test_a_dict_of_single_cells_is_refused() -> None:
    with pytest.raises(DataError, match="give each a list of as many cells"):
        of_frame({"a": 1.0, "b": 2.0})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """The errors of zipfile, zlib and an XML parser ended in tracebacks."""
    frame = pd.DataFrame({"a": np.arange(200) * 1.25, "b": [f"x{i * 7919 % 1000}" for i in range(200)]})
    frame.to_excel(tmp_path / "x.xlsx", index=False)
    frame.to_csv(tmp_path / "x.csv.gz", index=False)
    draw, refused = np.random.default_rng(0), {".xlsx": 0, ".gz": 0}
    for whole in (tmp_path / "x.xlsx", tmp_path / "x.csv.gz"):
        content = whole.read_bytes()
        for at in (0, 5, len(content) // 2, *draw.integers(0, len(content), 25).tolist()):
            flipped = content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]
            for damaged in (content[:at], flipped):
                try:
                    open_table(file(tmp_path, damaged, f"damaged-{whole.name}")).whole()
                except DataError:
                    refused[whole.suffix] += 1
    assert min(refused.values()) > 30
    frame.to_parquet(tmp_path / "x.parquet")
    damaged = (tmp_path / "x.parquet").read_bytes().replace(b'"pandas_type":', b'"pandas_type";')
    with pytest.raises(DataError, match=r"is damaged .*: give an intact copy"):
        open_table(file(tmp_path, damaged, "damaged.parquet"))
    intervals = pd.DataFrame({"x": pd.cut([1.0, 2.0], [0.0, 1.0, 2.0])})
    intervals.to_feather(tmp_path / "x.arrow")  # some versions of pandas cannot read it
    with contextlib.suppress(DataError):
        open_table(tmp_path / "x.arrow")
    with pytest.raises(DataError, match=r"cannot read .*page\.xlsx .*: give an Excel file"):
        open_table(file(tmp_path, "<html><table></table></html>", "page.xlsx"))


def test_numbers_of_another_byte_order_are_read_as_the_same_numbers(tmp_path: Path) -> None:
    numbers = np.array([[1.5, np.nan], [3.0, 4.25]])
    known = np.array([True, False])
    np.savez(tmp_path / "x.npz", m=numbers.astype(">f8"), k=np.array([7, 300], ">i4"), k__present=known)
    of_file = open_table(tmp_path / "x.npz").whole()
    of_pandas = of_frame({"m.0": numbers[:, 0].astype(">f4"), "m.1": numbers[:, 1].astype(">f8")}).whole()
    for whole in (of_file, of_pandas):
        np.testing.assert_array_equal(whole[["m.0", "m.1"]].to_numpy(np.float64), numbers)
        codes, uniques = factorized(whole["m.0"])  # pandas refuses to compare numbers of another byte order
        assert uniques[codes].tolist() == [1.5, 3.0]
    assert of_file["k"].tolist() == [7, pd.NA]
