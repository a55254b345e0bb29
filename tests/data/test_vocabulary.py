"""Vocabularies: words as numbers."""

import pytest
import torch

from mvae.data.vocabulary import Vocabulary, words_of, words_typed
from mvae.errors import SettingsError

SENTENCES = [["b", "a", "c"], ["b", "c"], ["b", "</s>", "<unk>", "<s>"]]


def test_words_are_numbered_by_frequency_then_alphabet_without_markup() -> None:
    assert Vocabulary.of(SENTENCES, 100).words == ("</s>", "<unk>", "b", "c", "a")
    assert Vocabulary.of(SENTENCES, 4).words == ("</s>", "<unk>", "b", "c")
    with pytest.raises(SettingsError, match="more than 2 numbers, not 2"):
        Vocabulary.of(SENTENCES, 2)


def test_rows_are_cut_at_their_length_and_end_with_the_stop_token() -> None:
    vocabulary = Vocabulary.of(SENTENCES, 4)
    assert vocabulary.row(["b", "a", "c"], 6).tolist() == [2, 1, 3, 0, 0, 0]
    assert vocabulary.row(["b"] * 9, 6).tolist() == [2, 2, 2, 2, 2, 0]
    assert vocabulary.row([], 3).tolist() == [0, 0, 0]
    assert vocabulary.row(["</s>", "b"], 4).tolist() == [1, 2, 0, 0]  # a stop token in the text does not end the row


def test_a_row_is_read_up_to_its_stop_token() -> None:
    vocabulary = Vocabulary.of(SENTENCES, 4)
    assert vocabulary.sentence(torch.tensor([2, 3, 1, 99, 0, 2])) == "b c <unk> <unk>"
    assert vocabulary.sentence([0, 2]) == ""


def test_a_fingerprint_depends_on_the_words_and_their_order() -> None:
    one, same, other = (Vocabulary(("</s>", "<unk>", *words)) for words in (("a", "b"), ("a", "b"), ("b", "a")))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_entities_are_decoded_before_words_are_split() -> None:
    assert words_of("&quot; a&nbsp;b &amp;\r") == ['"', "a", "b", "&"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("tôi có một ý tưởng.", ["tôi", "có", "một", "ý", "tưởng", "."]),
        ("a <unk> b", ["a", "<unk>", "b"]),
        ("3.50 well-known", ["3.50", "well-known"]),
        ("  ", []),
        ("हिन्दी में लिखो।", ["हिन्दी", "में", "लिखो", "।"]),  # vowel signs belong to their letters
        ("ไปที่นั่น", ["ไปที่นั่น"]),
        ("cafe\u0301, ỹ", ["café", ",", "ỹ"]),  # an accent by itself is composed with its letter
        ("می\u200cخواهم ❤\ufe0f", ["می\u200cخواهم", "❤\ufe0f"]),
    ],
)
def test_typed_text_is_split_like_the_corpora(text: str, words: list[str]) -> None:
    assert words_typed(text) == words


def test_unknown_words_of_a_typed_text_are_listed_once() -> None:
    written = Vocabulary.of(SENTENCES, 4).codec(6)
    assert written.unknown is not None
    assert written.parse("b, c x").tolist() == [2, 1, 3, 1, 0, 0]
    assert written.unknown("b, c x, x") == [",", "x"]
    with pytest.raises(ValueError, match="a sentence"):
        written.parse(" ")


def test_typed_sentences_are_encoded_as_in_training() -> None:
    lines = ["I do n't like the U.S. -- 10% ...", "don't &quot; e.g. x.y.z a&nbsp;b !?", "<unk> </s> it 's 3.50 ,"]
    vocabulary = Vocabulary.of([words_of(line) for line in lines], 100)
    written = vocabulary.codec(12)
    assert written.unknown is not None
    for line in lines:
        row = vocabulary.row(words_of(line), 12)
        read = written.parse(line.replace("</s>", "rare"))  # a word outside the vocabulary
        assert read.tolist() == row.tolist()
        assert written.parse(written.format(read)).tolist() == row.tolist()
    assert written.unknown(" ".join(lines[:2])) == []
    assert written.format(written.parse("I don't like it, U.S.")) == "I don't like it , U.S."
    assert written.unknown("don't, 20%.") == ["don", "'t", "20", "%", "."]
