"""Sentences in a table: a column of text, read as rows of words by number, a modality by itself."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from mvae.data.tables.cells import factorized, missing_cells
from mvae.data.tables.column import TableColumn
from mvae.data.tables.frames import Frames
from mvae.data.vocabulary import Vocabulary, words_typed
from mvae.errors import DataError

__all__ = ["read_texts", "text_shape", "vocabulary_of", "words_in"]

log = logging.getLogger("mvae.data")

WORDS = 10_000  # that have a number, the most frequent ones; others are one unknown word
LONGEST = 64  # words that are read of a text, and the stop token, where nothing else is declared


def words_in(cells: Sequence[str]) -> tuple[str, ...]:
    """The vocabulary of different texts, by frequency.

    >>> words_in(["no fever", "fever, cough"])
    ('</s>', '<unk>', 'fever', ',', 'cough', 'no')
    """
    return Vocabulary.of((words_typed(str(cell)) for cell in cells), WORDS).words


def vocabulary_of(column: TableColumn) -> Vocabulary:
    """The words of a column of text."""
    return Vocabulary(tuple(map(str, column.classes)))


def text_shape(frames: Frames, column: TableColumn, longest: int | None = None) -> tuple[int]:
    """How many numbers a text has: the words of the longest one, and the stop token.

    At most ``longest`` (default 64): other texts are cut, which is logged as a warning.

    Raises:
        DataError: no row of it has a text.
    """
    longest = longest or LONGEST
    numbers: list[int] = []
    for part in frames.chunks():
        cells = part[column.name][column.present(part[column.name])]
        numbers += [1 + len(words_typed(str(cell))) for cell in cells.tolist()]
        if numbers and max(numbers) > longest:
            break
    if not numbers:
        raise DataError(f"column {column.name!r} has no text")
    if long := sum(number > longest for number in numbers):
        said = "column %r: of a text the first %d words are read; %d of the first %d are longer (length says how many)"
        log.warning(said, column.name, longest - 1, long, len(numbers))
    return (min(longest, max(numbers)),)


def read_texts(column: TableColumn, cells: Any, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A column's texts as ``rows length`` numbers, and which are there."""
    values, here = np.zeros((rows, length), np.int32), np.zeros(rows, bool)
    if cells is None:
        return values, here
    codes, uniques = factorized(cells)
    gone, vocabulary = missing_cells(uniques, column.missing), vocabulary_of(column)
    made = [vocabulary.row([] if gone[i] else words_typed(str(cell)), length) for i, cell in enumerate(uniques)]
    there = np.append(~gone, False)[codes]
    values[there], here = np.stack(made)[codes[there]] if there.any() else values[there], there
    return values, here
