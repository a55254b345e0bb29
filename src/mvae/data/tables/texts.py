"""Sentences in a table: a column of text, read as rows of word numbers, which is a modality by itself."""

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

WORDS = 10_000  # size of the vocabulary of most frequent words; all others are unknown words
LONGEST = 64  # tokens that are read of a text by default, including the stop token


def words_in(cells: Sequence[str]) -> tuple[str, ...]:
    """The vocabulary of the given texts, ordered by frequency.

    >>> words_in(["no fever", "fever, cough"])
    ('</s>', '<unk>', 'fever', ',', 'cough', 'no')
    """
    return Vocabulary.of((words_typed(str(cell)) for cell in cells), WORDS).words


def vocabulary_of(column: TableColumn) -> Vocabulary:
    """The vocabulary of a column of text."""
    return Vocabulary(tuple(map(str, column.classes)))


def text_shape(frames: Frames, column: TableColumn, longest: int | None = None) -> tuple[int]:
    """The number of tokens of a text: the words of the longest one and the stop token, at most ``longest``.

    The default of ``longest`` is 64. Longer texts are cut, which is logged as a warning.

    Raises:
        DataError: no row of the column has a text.
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
        said = "column %r: only the first %d words of a text are read; %d of the first %d are longer (set length)"
        log.warning(said, column.name, longest - 1, long, len(numbers))
    return (min(longest, max(numbers)),)


def read_texts(column: TableColumn, cells: Any, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode a column's texts as ``rows length`` numbers; return them with the mask of present texts."""
    codes, uniques = factorized(cells)
    gone, vocabulary = missing_cells(uniques, column.missing), vocabulary_of(column)
    texts = [[] if gone[i] else words_typed(str(cell)) for i, cell in enumerate(uniques)]
    rows = np.stack([vocabulary.row(words, length) for words in (*texts, [])])  # the last one is for the code −1
    return rows[codes], np.append(~gone, False)[codes]
