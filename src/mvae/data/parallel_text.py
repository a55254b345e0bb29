"""Two aligned text files: line n of one file is the translation of line n of the other."""

from pathlib import Path

from mvae.data.vocabulary import words_of
from mvae.errors import DataError
from mvae.files import read_regular

__all__ = ["read_aligned", "read_lines"]

Sentences = list[list[str]]


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file; only line feeds end a line, not Unicode's other separators.

    Raises:
        DataError: the file cannot be read, is empty, or is not UTF-8; the message names file and line.
    """
    try:
        content = read_regular(path).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8. Convert the file first: "
            f"iconv -f WINDOWS-1258 -t UTF-8, or whatever it was written in"
        ) from None
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # after the last line feed
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} holds no text: replace it by a file with a sentence on each line")
    return lines


def read_aligned(first: Path, second: Path) -> tuple[Sentences, Sentences]:
    """Read the words of each line of both files, which have the same number of lines; lines may be empty.

    Raises:
        DataError: a file cannot be read, or the files have different numbers of lines: it is then unknown which lines
            belong together, and the message says where the files may have diverged.
    """
    one, other = read_lines(first), read_lines(second)
    if len(one) != len(other):
        raise DataError(
            f"{first} has {len(one)} lines but {second} has {len(other)}, so their lines do not match; they may "
            f"diverge near line {_parting(one, other)}: look there for a line that is missing, empty or broken in two"
        )
    return [words_of(line) for line in one], [words_of(line) for line in other]


def _parting(one: list[str], other: list[str]) -> int:
    """The first line (from 1) with text in one file only, or three times as long as in the other; else the last one."""
    for number, (a, b) in enumerate(zip(one, other, strict=False), 1):
        lengths = sorted((len(a.strip()), len(b.strip())))
        if lengths[0] == 0 < lengths[1] or lengths[1] > 3 * lengths[0] + 10:
            return number
    return min(len(one), len(other)) + 1
