"""Two aligned text files are never read with their lines shifted."""

import re
from pathlib import Path

import pytest

from mvae.data.parallel_text import read_aligned, read_lines
from mvae.errors import DataError


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    """str.splitlines also splits at Unicode separators, which may occur in only one of the files."""
    path = tmp_path / "a"
    path.write_bytes("\ufeffone\u2028still one\x0b\x85\r\n\ntwo &#10; still two".encode())
    assert len(read_lines(path)) == 3
    (tmp_path / "b").write_text("eins\n\nzwei\n")
    first, second = read_aligned(path, tmp_path / "b")
    assert first == [["one", "still", "one"], [], ["two", "still", "two"]]
    assert second == [["eins"], [], ["zwei"]]


def test_invalid_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"good\nbad \xff\n")
    with pytest.raises(DataError, match=r"a, line 2: the byte 0xff is not UTF-8"):
        read_lines(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_file_without_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="holds no text"):
        read_lines(tmp_path / "a")
    with pytest.raises(DataError, match=r"cannot read .*absent: No such file"):
        read_lines(tmp_path / "absent")


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("một\n\nba\n", 2),  # an empty line
        ("một\nmột câu dài hơn nhiều so với câu kia , nên chúng không thể là một cặp\nba\n", 2),
        ("một\nhai\nba\n", 4),  # no sign of a shift: the end is missing
    ],
)
def test_files_of_different_lengths_are_refused_with_a_likely_line(second: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo\nthree\nfour\n")
    (tmp_path / "b").write_text(second, encoding="utf-8")
    message = f"{tmp_path / 'a'} has 4 lines but {tmp_path / 'b'} has 3"
    with pytest.raises(DataError, match=re.escape(message) + f".*near line {line}:"):
        read_aligned(tmp_path / "a", tmp_path / "b")
