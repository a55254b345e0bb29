"""Words as numbers."""

import pytest
import torch

from mvae.data.vocabulary import Vocabulary, words_of, words_typed
from mvae.errors import SettingsError

SENTENCES = [["b", "a", "c"], ["b", "c"], ["b", "</s>", "<unk>", "<s>"]]


def test_words_are_numbered_by_frequency_then_alphabet_and_markup_is_no_word() -> None:
    assert Vocabulary.of(SENTENCES, 100).words == ("</s>", "<unk>", "b", "c", "a")
    assert Vocabulary.of(SENTENCES, 4).words == ("</s>", "<unk>", "b", "c")
    with pytest.raises(SettingsError, match="more than 2 numbers, not 2"):
        Vocabulary.of(SENTENCES, 2)


def test_rows_are_cut_at_their_length_and_end_with_the_stop_token() -> None:
    vocabulary = Vocabulary.of(SENTENCES, 4)
    assert vocabulary.row(["b", "a", "c"], 6).tolist() == [2, 1, 3, 0, 0, 0]
    assert vocabulary.row(["b"] * 9, 6).tolist() == [2, 2, 2, 2, 2, 0]
    assert vocabulary.row([], 3).tolist() == [0, 0, 0]
    assert vocabulary.row(["</s>", "b"], 4).tolist() == [1, 2, 0, 0]  # markup in a text ends nothing


def test_a_row_is_read_up_to_its_stop_token_whatever_numbers_it_holds() -> None:
    vocabulary = Vocabulary.of(SENTENCES, 4)
    assert vocabulary.sentence(torch.tensor([2, 3, 1, 99, 0, 2])) == "b c <unk> <unk>"
    assert vocabulary.sentence([0, 2]) == ""


def test_a_fingerprint_is_of_the_words_in_their_order() -> None:
    one, same, other = (Vocabulary(("</s>", "<unk>", *words)) for words in (("a", "b"), ("a", "b"), ("b", "a")))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_entities_are_decoded_before_words_are_told_apart() -> None:
    assert words_of("&quot; a&nbsp;b &amp;\r") == ['"', "a", "b", "&"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("tôi có một ý tưởng.", ["tôi", "có", "một", "ý", "tưởng", "."]),
        ("a <unk> b", ["a", "<unk>", "b"]),
        ("3.50 well-known", ["3.50", "well-known"]),
        ("  ", []),
    ],
)
def test_what_a_person_types_is_taken_apart_as_corpora_are(text: str, words: list[str]) -> None:
    assert words_typed(text) == words


def test_a_typed_text_is_read_and_its_unknown_words_are_said_once() -> None:
    written = Vocabulary.of(SENTENCES, 4).codec(6)
    assert written.unknown is not None
    assert written.parse("b, c x").tolist() == [2, 1, 3, 1, 0, 0]
    assert written.unknown("b, c x, x") == [",", "x"]
    with pytest.raises(ValueError, match="a sentence"):
        written.parse(" ")


def test_a_typed_sentence_is_read_as_training_read_it_and_what_is_written_is_read_back() -> None:
    lines = ["I do n't like the U.S. -- 10% ...", "don't &quot; e.g. x.y.z a&nbsp;b !?", "<unk> </s> it 's 3.50 ,"]
    vocabulary = Vocabulary.of([words_of(line) for line in lines], 100)
    written = vocabulary.codec(12)
    assert written.unknown is not None
    for line in lines:
        row = vocabulary.row(words_of(line), 12)
        read = written.parse(line.replace("</s>", "rare"))  # which is written nowhere
        assert read.tolist() == row.tolist()
        assert written.parse(written.format(read)).tolist() == row.tolist()
    assert written.unknown(" ".join(lines[:2])) == []
    assert written.format(written.parse("I don't like it, U.S.")) == "I don't like it , U.S."
    assert written.unknown("don't, 20%.") == ["don", "'t", "20", "%", "."]
