"""Words as numbers: a vocabulary of the most frequent words, and sentences as rows that end with a stop token."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from html import unescape

import numpy as np
import torch
from torch import Tensor

from mvae.data.codecs import Codec
from mvae.data.subwords import Subwords
from mvae.errors import SettingsError

__all__ = ["SPECIAL", "STOP", "UNKNOWN", "Vocabulary", "words_of", "words_typed"]

STOP, UNKNOWN = 0, 1
SPECIAL = ("</s>", "<unk>")  # the first entries of every vocabulary
RESERVED = {*SPECIAL, "<s>", "<pad>"}  # in a text these are markup, not words


def words_of(line: str) -> list[str]:
    """The words of a line that is already tokenised and separated by spaces; HTML entities are decoded.

    >>> words_of("life &apos;s work")
    ['life', "'s", 'work']
    """
    return unescape(line).split()


def words_typed(text: str) -> list[str]:
    """Tokenise text that a person types: punctuation is separated, as in tokenised corpora; é is always one character.

    >>> words_typed("Today's price is 3.50, isn't it?")
    ['Today', "'s", 'price', 'is', '3.50', ',', 'isn', "'t", 'it', '?']
    """
    return _parts(unescape(text))


def _parts(text: str) -> list[str]:
    return _typed().findall(unicodedata.normalize("NFC", text))


@cache
def _typed() -> re.Pattern[str]:
    """Words with the accents, vowel signs and joiners that belong to their letters, and other signs one by one."""
    marks = "".join(chr(n) for n in range(0x300, 0x20000) if unicodedata.category(chr(n))[0] == "M")
    marks += "\u200c\u200d"
    word = rf"\w[\w{marks}]*"
    return re.compile(rf"<unk>|{word}(?:[.,\-]{word})*|['’]{word}|[^\w\s][{marks}]*")


@dataclass(frozen=True)
class Vocabulary:
    """Words, or pieces of words, by number.

    Number 0 is the stop token (and also the padding after it), 1 stands for unknown words.

    >>> vocabulary = Vocabulary.of([["a", "cat"], ["a", "dog"]], size=3)
    >>> vocabulary.words
    ('</s>', '<unk>', 'a')
    >>> vocabulary.row(["a", "dog"], length=4)
    array([2, 1, 0, 0], dtype=int32)
    """

    words: tuple[str, ...]
    subwords: Subwords | None = None
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Not the stop token: a text that contains it in writing does not end there.
        object.__setattr__(self, "_numbers", {word: n for n, word in enumerate(self.words) if n != STOP})

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], size: int, *, subwords: bool = False) -> "Vocabulary":
        """The most frequent words of these sentences, ``size`` numbers in all; ties are in alphabetical order.

        With ``subwords`` the vocabulary has all pieces that are learned from them (`mvae.data.subwords`).

        Raises:
            SettingsError: no room for a word, or for every letter. MissingDependencyError: subwords without
                sentencepiece.
        """
        if size <= len(SPECIAL):
            raise SettingsError(f"a vocabulary needs more than {len(SPECIAL)} numbers, not {size}")
        pieces = None
        if subwords:
            sentences = list(sentences)
            pieces = Subwords.of(sentences, size)
            sentences = map(pieces.split, sentences)
        counts = Counter(word for sentence in sentences for word in sentence)
        counts.update(dict.fromkeys(pieces.pieces if pieces else (), 0))  # a letter may occur only inside longer pieces
        ranked = sorted((-count, word) for word, count in counts.items() if word not in RESERVED)
        return cls((*SPECIAL, *(word for _, word in ranked[: size - len(SPECIAL)])), pieces)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the words in their order: equal for vocabularies that give every word the same number."""
        said = self.words if self.subwords is None else (*self.words, self.subwords.fingerprint)
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]

    def row(self, words: Sequence[str], length: int) -> np.ndarray:
        """A sentence as ``length`` numbers: its first ``length − 1`` words, then the stop token, also as padding."""
        words = words if self.subwords is None else self.subwords.split(words)
        numbers = [self._numbers.get(word, UNKNOWN) for word in words[: length - 1]]
        row = np.full(length, STOP, dtype=np.int32)
        row[: len(numbers)] = numbers
        return row

    def sentence(self, row: Tensor | np.ndarray | Sequence[int]) -> str:
        """The words of a row up to its stop token, separated by spaces; a number without a word is unknown, too."""
        words = []
        for number in row.tolist() if isinstance(row, Tensor | np.ndarray) else row:
            if number == STOP:
                break
            words.append(self.words[number] if number < len(self.words) else SPECIAL[UNKNOWN])
        return " ".join(words) if self.subwords is None else self.subwords.join(words)

    def typed(self, text: str) -> list[str]:
        """Tokenise text that a person types: split at spaces, and where a part has no number, as `words_typed`.

        So a sentence is read as in training, which splits at spaces only. With subwords, a word has a number if it is a
        single piece.

        >>> Vocabulary.of([["do", "n't", "U.S."]], size=9).typed("do n't, U.S. don't")
        ['do', 'n', "'t", ',', 'U.S.', 'don', "'t"]
        """
        return [word for token in words_of(text) for word in self._divided(token)]

    def unknown(self, text: str) -> list[str]:
        """The words of a typed text that have no number (or a piece that has none), each once."""
        return [word for word in dict.fromkeys(self.typed(text)) if UNKNOWN in self.row([word], len(word) + 2)]

    def codec(self, length: int) -> Codec:
        """How rows of this length are parsed and printed."""

        def read(text: str) -> Tensor:
            words = self.typed(text)
            if not words:
                raise ValueError('a sentence, such as "this is a sentence ."')
            return torch.from_numpy(self.row(words, length))

        return Codec(read, self.sentence, self.unknown)

    def _divided(self, token: str) -> list[str]:
        """A token itself if it has a number, otherwise its parts with punctuation separated."""
        pieces = [token] if self.subwords is None else self.subwords.split([token])
        return [token] if len(pieces) == 1 and pieces[0] in self._numbers else _parts(token)
