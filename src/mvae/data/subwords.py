"""Subwords by byte-pair encoding (Sennrich et al. 2016) with SentencePiece, so that hardly any word is unknown."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

from mvae.errors import SettingsError, require_extra

__all__ = ["Subwords"]

BEGINS = "▁"  # marks the space before a word in a piece


class Subwords:
    """The division of words into pieces: frequent words stay whole, rare ones are split, names perhaps into letters.

    Args:
        model: the model learned by `of`, as SentencePiece serialises it.

    Raises:
        MissingDependencyError: sentencepiece is not installed.

    >>> subwords = Subwords.of([["low", "lower", "newer", "slow"]] * 5, size=20)
    >>> subwords.split(["slower", "new"])
    ['▁slow', 'er', '▁n', 'ew']
    """

    def __init__(self, model: bytes):
        self.model = model
        self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        self._divided: dict[str, list[str]] = {}

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], size: int) -> "Subwords":
        """Learn a division with at most ``size`` pieces from the words of these sentences.

        Every letter of the sentences is a piece; other letters are unknown. Nothing is normalised, and the same
        sentences give the same pieces.

        Raises:
            MissingDependencyError: sentencepiece is not installed. SettingsError: fewer pieces than there are letters.
        """
        library, written = _sentencepiece(), io.BytesIO()
        try:
            library.SentencePieceTrainer.train(
                sentence_iterator=(" ".join(words) for words in sentences),
                model_writer=written,
                vocab_size=size,
                model_type="bpe",
                character_coverage=1.0,
                normalization_rule_name="identity",
                max_sentence_length=2**20,
                hard_vocab_limit=False,  # a small corpus has fewer pieces
                num_threads=1,
                minloglevel=2,
                **{"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1},  # so that pieces begin at 2
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SettingsError(f"size {size} is too small (or large) for subwords of these files: {reason}") from None
        return cls(written.getvalue())

    def split(self, words: Sequence[str]) -> list[str]:
        """Split words into pieces, in order; the first piece of a word starts with ▁.

        No piece spans two words, so that each different word is split only once.
        """
        found: list[str] = []
        for word in words:
            if word not in self._divided:
                self._divided[word] = self._processor.encode(word, out_type=str)
            found += self._divided[word]
        return found

    @property
    def pieces(self) -> list[str]:
        """All pieces, including those that occur only inside other pieces."""
        return [self._processor.id_to_piece(number) for number in range(2, self._processor.vocab_size())]

    @staticmethod
    def join(pieces: Sequence[str]) -> str:
        """Join pieces to words, separated by spaces.

        >>> Subwords.join(["▁low", "er", "▁cat"])
        'lower cat'
        """
        return "".join(pieces).replace(BEGINS, " ").strip()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that determines how words are divided."""
        return hashlib.sha256(self.model).hexdigest()[:16]


def _sentencepiece() -> Any:
    return require_extra("sentencepiece", "translation", "subwords")
