"""Subwords: joining the pieces restores the words, and the same sentences give the same pieces."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvae.data.subwords import Subwords
from mvae.data.vocabulary import STOP, UNKNOWN, Vocabulary
from mvae.errors import MissingDependencyError, SettingsError

sentencepiece = pytest.importorskip("sentencepiece")
SENTENCES = [["low", "lower", "newest", "wide"], ["cô", "ấy", "thấy", "wide", "."]] * 10
LEARNED = Subwords.of(SENTENCES, 40)
LETTERS = sorted({letter for sentence in SENTENCES for word in sentence for letter in word})


@given(st.lists(st.text(st.sampled_from(LETTERS), min_size=1, max_size=9), max_size=12))
def test_joined_pieces_give_the_original_words(words: list[str]) -> None:
    pieces = LEARNED.split(words)
    assert Subwords.join(pieces) == " ".join(words)
    assert sum(piece.startswith("▁") for piece in pieces) == len(words)
    whole = sentencepiece.SentencePieceProcessor(model_proto=LEARNED.model)
    assert pieces == whole.encode(" ".join(words), out_type=str)  # a word is split the same way wherever it stands


def test_frequent_words_are_whole_and_new_ones_have_several_pieces() -> None:
    assert LEARNED.split(["low", "wide"]) == ["▁low", "▁wide"]
    assert len(LEARNED.split(["lowest"])) > 1


def test_the_same_sentences_give_the_same_pieces() -> None:
    same, other = Subwords.of(SENTENCES, 40), Subwords.of(SENTENCES[:1] * 10, 40)
    assert LEARNED.fingerprint == same.fingerprint != other.fingerprint
    one, two = (Vocabulary.of(SENTENCES, 40, subwords=subwords) for subwords in (True, False))
    assert one.fingerprint != two.fingerprint
    assert one.fingerprint == Vocabulary.of(iter(SENTENCES), 40, subwords=True).fingerprint


def test_a_subword_vocabulary_covers_unseen_words() -> None:
    vocabulary = Vocabulary.of(SENTENCES, 40, subwords=True)
    assert len(vocabulary) <= 40
    assert set(LETTERS) <= set(vocabulary.words)
    row = vocabulary.row(["lowest", "thấy"], 12)
    assert vocabulary.sentence(row) == "lowest thấy"
    assert UNKNOWN not in row
    assert vocabulary.row(["lowest"] * 9, 6)[-1] == STOP  # cut at pieces, not at words
    assert vocabulary.unknown("lowest XL thấy XL") == ["XL"]
    assert vocabulary.row(["XL"], 6).tolist().count(UNKNOWN) > 0
    words = Vocabulary.of(SENTENCES, 40)
    assert words.unknown("lowest XL thấy XL") == ["lowest", "XL"]


def test_a_size_too_small_for_the_letters_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"size 10 is too small .* for subwords of these files: .*required_chars"):
        Subwords.of(SENTENCES, 10)


def test_a_missing_library_error_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mvae\[translation\]'"):
        Subwords.of(SENTENCES, 40)


def test_a_typed_word_that_is_one_piece_is_not_split() -> None:
    vocabulary = Vocabulary.of([["do", "--", "...", ","], ["--", "..."]] * 20, 40, subwords=True)
    assert {"▁--", "▁..."} <= set(vocabulary.words)
    assert vocabulary.typed("do -- do, ...") == ["do", "--", "do", ",", "..."]
