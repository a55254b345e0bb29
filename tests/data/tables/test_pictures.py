"""Picture columns: how files of any mode are read, and where they are looked up."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvae
from mvae.data.picture import read_picture, shape_of
from mvae.data.tables.infer import infer
from mvae.data.tables.opening import open_table
from mvae.data.tables.schema import TableSchema
from mvae.errors import DataError

pandas = pytest.importorskip("pandas")
Image = pytest.importorskip("PIL.Image")

LEVELS = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def table(folder: Path, *cells: Any) -> Path:
    """A CSV file with these picture paths."""
    path = folder / "x.csv"
    path.write_text("hb,scan\n" + "".join(f"{i}.5,{cell}\n" for i, cell in enumerate(cells)))
    return path


def read(folder: Path, *cells: Any) -> np.ndarray:
    frames = open_table(table(folder, *cells))
    schema = TableSchema.learn(frames, kinds={"scan": "picture"})
    return schema.encode(frames.whole())[0]["scan"]


def test_16_bit_pictures_are_scaled_and_transparent_pixels_are_white(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "8.png")
    Image.fromarray(LEVELS.astype(np.uint16) * 257).save(tmp_path / "16.png")
    clear = np.stack([LEVELS, np.where(LEVELS < 100, 255, 0).astype(np.uint8)], -1)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = read(tmp_path, "8.png", "16.png", "clear.png")[:, 0]
    assert np.array_equal(found[0], LEVELS)
    assert np.array_equal(found[1], LEVELS)
    assert np.array_equal(found[2], np.where(LEVELS < 100, LEVELS, 255))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(LEVELS).save(tmp_path / "a.png", exif=turned)
    assert np.array_equal(read(tmp_path, "a.png")[0, 0], np.rot90(LEVELS, -1))


def test_pictures_are_in_colour_if_any_of_the_first_is(tmp_path: Path) -> None:
    colours = np.stack([LEVELS, LEVELS // 2, 255 - LEVELS], -1)
    Image.fromarray(LEVELS).save(tmp_path / "grey.png")
    Image.fromarray(colours).save(tmp_path / "colours.png")
    found = read(tmp_path, "grey.png", "colours.png")
    assert np.array_equal(found[0], np.stack([LEVELS] * 3))
    assert np.array_equal(found[1], colours.transpose(2, 0, 1))


def test_one_shape_is_the_median_of_the_whole_table(tmp_path: Path) -> None:
    """A first picture of another form does not decide: all others would be cropped to it."""
    for i in range(41):
        size = (20, 90) if i == 0 else (96, 72) if i % 3 == 0 else (48, 36)
        Image.new("RGB" if i == 40 else "L", size).save(tmp_path / f"{i}.png")
    assert read(tmp_path, *(f"{i}.png" for i in range(41))).shape[1:] == (3, 36, 48)


def test_a_turned_picture_counts_with_its_turned_size(tmp_path: Path) -> None:
    for code in range(1, 9):
        turned = Image.Exif()
        turned[0x0112] = code
        Image.new("L", (20, 10)).save(tmp_path / f"{code}.png", exif=turned)
        expected = (1, 20, 10) if code >= 5 else (1, 10, 20)
        assert shape_of(tmp_path / f"{code}.png") == expected
        assert read_picture(tmp_path / f"{code}.png", *expected).shape == (*expected[1:], 1)


@pytest.mark.parametrize(
    ("cells", "kind", "reason"),
    [
        ([f"{i}.png" for i in range(20, 30)], "picture", "paths of pictures"),
        ([f"{i}.png" for i in range(-5, 30)], "picture", "paths of pictures"),  # the first 25 are not there
        (
            [*(f"{i}.png" for i in range(30)), "31.heic", "none"],
            "picture",
            "paths of pictures, except 2 such as '31.heic'",
        ),
        ([f"no{i}.png" for i in range(12)], "ignored", "paths of pictures, which are not there"),
        ([*(f"{i}.png" for i in range(4)), "a", "b"], "categorical", "text with 6 different values"),
    ],
)
def test_a_column_of_paths_is_proposed_as_pictures(cells: list[str], kind: str, reason: str, tmp_path: Path) -> None:
    for i in range(20, 30):
        Image.fromarray(LEVELS).save(tmp_path / f"{i}.png")
    found = infer("scan", pandas.Series([*cells, cells[0]]), folder=tmp_path)
    assert (found.kind, found.reason) == (kind, reason)


def test_a_column_with_files_that_are_no_pictures_is_ignored(tmp_path: Path) -> None:
    """As pictures, it would be refused in training."""
    for i in range(20):
        Image.fromarray(LEVELS).save(tmp_path / f"{i}.png")
    (tmp_path / "20.pdf").write_bytes(b"%PDF")
    cells = [*(f"{i}.png" for i in range(20)), "20.pdf"]
    found = infer("scan", pandas.Series(cells), folder=tmp_path)
    assert (found.kind, found.reason) == (
        "ignored",
        "paths of pictures and of other files, such as '20.pdf'",
    )


def test_a_text_too_long_for_a_file_name_is_no_file(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "0.png")
    cells = [*(f"{i}.png" for i in range(20)), "long " * 100]
    assert infer("scan", pandas.Series(cells), folder=tmp_path).kind == "picture"


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read the picture .*b\.png: image file is truncated"):
        read(tmp_path, "a.png", "b.png")


def test_all_damaged_pictures_are_named_at_once(tmp_path: Path) -> None:
    """One error lists all of them and the alternatives."""
    Image.fromarray(LEVELS).save(tmp_path / "a.png")
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"\x89PNG and no more")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "b.png", "a.png", "c.png")
    said = str(caught.value)
    assert said.startswith("column 'scan', row 0: cannot read the picture ")
    assert "b.png: it is not an image;" in said
    assert said.endswith(f"or delete the file: an absent picture is missing (and 1 more: {tmp_path / 'c.png'})")


def test_windows_paths_are_found_and_absent_files_are_reported(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "scans").mkdir()
    Image.fromarray(LEVELS).save(tmp_path / "scans" / "a.png")
    with caplog.at_level(logging.WARNING, "mvae.data"):
        found = read(tmp_path, "scans\\a.png", "scans/a.png", "scans/b.png", tmp_path / "scans" / "a.png")
    assert found.any((1, 2, 3)).tolist() == [True, True, False, True]
    assert "column 'scan': 1 cell is treated as missing; " in caplog.text
    assert "b.png is not there" in caplog.text


def test_pictures_are_looked_up_next_to_their_table(tmp_path: Path) -> None:
    """A new table in another folder never gets the pictures of the same names next to the training table."""
    random = np.random.default_rng(0)
    for folder in (tmp_path / "old", tmp_path / "new"):
        folder.mkdir()
        for i in range(12):
            Image.fromarray(random.integers(0, 256, (4, 4), np.uint8)).save(folder / f"{i}.png")
        table(folder, *(f"{i}.png" for i in range(12)))
    few = {"training": {"epochs": 1, "anneal_epochs": 0}}
    model = mvae.fit_table(tmp_path / "old" / "x.csv", changes=few, callbacks=[])
    found = model.embed(tmp_path / "new" / "x.csv")
    expected = model.embed(open_table(table(tmp_path, *(tmp_path / "new" / f"{i}.png" for i in range(12)))))
    assert np.array_equal(found, expected)
