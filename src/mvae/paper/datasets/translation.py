"""English and Vietnamese sentences (Sec. 7, App. K): any two aligned text files in place of IWSLT'15's."""

from collections import Counter
from os import PathLike
from pathlib import Path

import numpy as np

from mvae.data.dataset import Dataset
from mvae.data.download import data_directory
from mvae.data.parallel_text import Sentences, read_aligned
from mvae.data.table import Table
from mvae.data.vocabulary import STOP, Vocabulary
from mvae.errors import DataError

LANGUAGES = ("en", "vi")
FOLDER = "en-vi"
OTHER = "tst2012"  # talks; if the training files are news, these are another domain
LONGEST = 70  # words of a sentence (Sec. 7)
LENGTH = LONGEST + 1  # with the stop token
VOCABULARY = 10_000  # entries per language; none in the paper. It covers 93 % of our English words, 99 % of Vietnamese
HELD_OUT = 1_500  # pairs each for test and validation
SEED = 28_06_2018


def load(data_dir: str | PathLike[str] | None = None, vocabulary: int = VOCABULARY, subwords: bool = False) -> Dataset:
    """Load the pairs of ``train.en`` and ``train.vi``: 1,500 each held out for validation and test, the rest to train.

    Columns: ``en``, ``vi`` int32 ``rows 71``: at most 70 words (longer sentences are cut), a stop token, and more of
    them as padding. Vocabularies are the most frequent words of the training rows. A line that is empty in one file is
    a row without that language; one that is empty in both is left out. Held-out pairs have both languages, and no
    training row has the same sentence in either. Training rows are in random order, so that the first n are a random
    sample; all draws have a fixed seed. A small corpus holds out a tenth of its pairs for each.

    ``others`` has ``tst2012`` if the files ``tst2012.en`` and ``tst2012.vi`` are present.

    Args:
        data_dir: a directory that holds the files, or has a folder ``en-vi`` that does; default ``$MVAE_DATA``.
        vocabulary: its size per language, including the stop and unknown tokens.
        subwords: encode pieces of words instead of words (`mvae.data.subwords`); a sentence then has at most 70 pieces.

    Raises:
        DataError: the files are absent, of different length, not UTF-8, or hold too few pairs. SettingsError: the
            vocabulary is too small. MissingDependencyError: subwords without sentencepiece.
    """
    folder = _folder(data_dir)
    en, vi = read_aligned(*(folder / f"train.{language}" for language in LANGUAGES))
    train, validation, test = _split(folder, en, vi)
    vocabularies = {
        language: Vocabulary.of((sentences[row] for row in train), vocabulary, subwords=subwords)
        for language, sentences in zip(LANGUAGES, (en, vi), strict=True)
    }
    others = {}
    if all((folder / f"{OTHER}.{language}").is_file() for language in LANGUAGES):
        texts = read_aligned(*(folder / f"{OTHER}.{language}" for language in LANGUAGES))
        others[OTHER] = _table(vocabularies, *texts, np.arange(len(texts[0])))
    return Dataset(
        "translation",
        train=_table(vocabularies, en, vi, train),
        validation=_table(vocabularies, en, vi, validation),
        test=_table(vocabularies, en, vi, test),
        codecs={language: each.codec(LENGTH) for language, each in vocabularies.items()},
        others=others,
        vocabulary_id="+".join(f"{language}:{each.fingerprint}" for language, each in vocabularies.items()),
    )


def sentences(data_dir: str | PathLike[str] | None = None) -> dict[str, dict[str, list[str]]]:
    """The text of the same rows in the same order, uncut and without unknown words: the references of translations.

    Returns:
        ``train``, ``validation``, ``test`` → language → sentences (words with spaces between).

    Raises:
        DataError: as `load`.
    """
    folder = _folder(data_dir)
    texts = read_aligned(*(folder / f"train.{language}" for language in LANGUAGES))
    return {
        part: {name: [" ".join(text[row]) for row in rows] for name, text in zip(LANGUAGES, texts, strict=True)}
        for part, rows in zip(("train", "validation", "test"), _split(folder, *texts), strict=True)
    }


def _folder(data_dir: str | PathLike[str] | None) -> Path:
    directory = data_directory(data_dir)
    needed = [f"train.{language}" for language in LANGUAGES]
    remedy = (
        f"put two aligned text files there, {' and '.join(needed)}, one tokenised sentence per line "
        "(IWSLT'15 English-Vietnamese is at https://nlp.stanford.edu/projects/nmt/)"
    )
    if directory is None:
        raise DataError(f"translation is not downloaded: make a folder {FOLDER}, {remedy}, and name it by --data-dir")
    for folder in (directory / FOLDER, directory):
        if any((folder / file).is_file() for file in needed):
            return folder
    raise DataError(f"translation not found: looked in {directory / FOLDER} and in {directory}: {remedy}")


def _split(folder: Path, en: Sentences, vi: Sentences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line numbers (from 0) of the training, validation and test rows, in random order."""
    # RandomState, not default_rng: NumPy promises its stream never changes, so the split never does.
    order = np.random.RandomState(SEED).permutation(len(en))
    counts = [Counter(map(tuple, sentences)) for sentences in (en, vi)]
    single = [
        row
        for row in order
        if en[row] and vi[row] and counts[0][tuple(en[row])] == 1 and counts[1][tuple(vi[row])] == 1
    ]
    held = min(HELD_OUT, len(single) // 10)
    if held < 1:
        raise DataError(
            f"{folder} has {len(single)} pairs of sentences that both occur only once; at least 10 are needed to "
            "hold some out for validation and test"
        )
    test, validation = np.array(single[:held]), np.array(single[held : 2 * held])
    out = {*test.tolist(), *validation.tolist()}
    train = np.array([row for row in order.tolist() if row not in out and (en[row] or vi[row])])
    return train, validation, test


def _table(vocabularies: dict[str, Vocabulary], en: Sentences, vi: Sentences, rows: np.ndarray) -> Table:
    kept = [row for row in rows if en[row] or vi[row]]
    columns, present = {}, {}
    for (language, vocabulary), sentences in zip(vocabularies.items(), (en, vi), strict=True):
        columns[language] = np.stack([vocabulary.row(sentences[row], LENGTH) for row in kept])
        present[language] = columns[language][:, 0] != STOP
    return Table(columns, None if all(mask.all() for mask in present.values()) else present)
