"""English and Vietnamese: tiny files, and the real ones if present."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mvae.errors import DataError
from mvae.paper.datasets import translation
from tests import corpus

needs_data = pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs en-vi in $MVAE_DATA")


def test_rows_pair_sentences_with_translations_and_none_is_lost(tmp_path: Path) -> None:
    corpus.write(tmp_path, other=True)
    splits = translation.load(tmp_path)
    texts = translation.sentences(tmp_path)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    assert {part: len(table) for part, table in parts.items()} == {"train": 96, "validation": 12, "test": 12}
    assert len(splits.others["tst2012"]) == 5
    numbers = set()
    for part, table in parts.items():
        for row in range(len(table)):
            en, vi = (texts[part][language][row] for language in ("en", "vi"))
            assert " ".join(corpus.VI.get(word, word) for word in en.split()) == vi
            numbers.add(en.split()[-2])
            for language, text in (("en", en), ("vi", vi)):
                read = splits.codecs[language].format(torch.as_tensor(table[language][row]))
                assert len(read.split()) == len(text.split())
                assert all(a in (b, "<unk>") for a, b in zip(read.split(), text.split(), strict=True))
    assert len(numbers) == 120


def test_splits_and_vocabularies_are_reproducible(tmp_path: Path) -> None:
    corpus.write(tmp_path / "a")
    corpus.write(tmp_path / "b", seed=1)
    one, same = (translation.load(tmp_path / "a") for _ in range(2))
    assert np.array_equal(np.asarray(one.train["vi"]), np.asarray(same.train["vi"]))
    assert one.vocabulary_id == same.vocabulary_id
    assert one.vocabulary_id != translation.load(tmp_path / "b").vocabulary_id
    assert one.vocabulary_id != translation.load(tmp_path / "a", vocabulary=8).vocabulary_id


def test_held_out_words_are_not_in_the_vocabulary(tmp_path: Path) -> None:
    corpus.write(tmp_path)
    splits, texts = translation.load(tmp_path), translation.sentences(tmp_path)
    unknown = splits.codecs["en"].unknown
    assert unknown is not None
    assert all(unknown(text) == [text.split()[-2]] for text in texts["test"]["en"])  # each sentence's own number


def test_empty_line_is_a_missing_language(tmp_path: Path) -> None:
    folder = corpus.write(tmp_path)
    lines = (folder / "train.vi").read_text(encoding="utf-8").split("\n")
    english = (folder / "train.en").read_text(encoding="utf-8").split("\n")
    lines[3] = lines[7] = ""
    english[7] = " "
    (folder / "train.vi").write_text("\n".join(lines), encoding="utf-8")
    (folder / "train.en").write_text("\n".join(english), encoding="utf-8")
    splits = translation.load(tmp_path)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 119  # both were empty: no row
    assert splits.validation.complete
    assert splits.test.complete
    assert splits.train.present.sum(0).tolist() == [len(splits.train), len(splits.train) - 1]


def test_repeated_sentences_are_not_held_out(tmp_path: Path) -> None:
    folder = corpus.write(tmp_path)
    for language, text in (("en", "thank you ."), ("vi", "cảm ơn .")):
        with (folder / f"train.{language}").open("a", encoding="utf-8") as file:
            file.write(f"{text}\n" * 400)
    texts = translation.sentences(tmp_path)
    assert len(texts["train"]["en"]) == 520 - 24
    assert not {"thank you ."} & {*texts["test"]["en"], *texts["validation"]["en"]}


def test_long_sentences_are_cut_to_seventy_words(tmp_path: Path) -> None:
    folder = corpus.write(tmp_path)
    for language in ("en", "vi"):
        with (folder / f"train.{language}").open("a", encoding="utf-8") as file:
            file.write(" ".join(["word"] * 90) + "\n")
    columns = [table.columns["en"] for table in (lambda s: (s.train, s.validation, s.test))(translation.load(tmp_path))]
    longest = max(int((torch.as_tensor(column) != 0).sum(1).max()) for column in columns)
    assert longest == 70
    assert all((torch.as_tensor(column)[:, 70] == 0).all() for column in columns)


def test_absent_or_small_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MVAE_DATA", raising=False)
    with pytest.raises(DataError, match=r"not downloaded: make a folder en-vi"):
        translation.load()
    with pytest.raises(DataError, match=r"not found: looked in .*two aligned text files there, train.en and train.vi"):
        translation.load(tmp_path)
    corpus.write(tmp_path, pairs=9)
    with pytest.raises(DataError, match=r"has 9 pairs .* at least 10 are needed"):
        translation.load(tmp_path)


@needs_data
def test_real_files_have_known_sizes_and_few_unknown_words() -> None:
    splits = translation.load()
    assert (len(splits.validation), len(splits.test), len(splits.others["tst2012"])) == (1500, 1500, 1553)
    assert len(splits.train) == 45_308 - 3000
    for language, known in (("en", 0.92), ("vi", 0.98)):
        column = torch.as_tensor(splits.test.columns[language])
        assert float((column > 1).sum() / (column > 0).sum()) > known
    assert "&quot;" not in splits.codecs["en"].format(torch.as_tensor(splits.others["tst2012"]["en"][0]))
