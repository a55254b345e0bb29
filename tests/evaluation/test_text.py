"""Translation metrics against values worked out by hand and against known properties."""

import sys

import pytest
import torch

from mvae import Table
from mvae.errors import DataError, MissingDependencyError
from mvae.evaluation.text import bleu, chrf, nearest_neighbours, source_gap
from mvae.modality.sentences import SentenceModality
from mvae.models import queries
from mvae.models.mvae import MVAE
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder


def test_bleu_is_the_geometric_mean_of_precisions() -> None:
    pytest.importorskip("sacrebleu")
    # a b c d e against a b c d f: 4/5, 3/4, 2/3, 1/2 of 1- to 4-grams, and no penalty for length.
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu(["a b c d e"], ["a b c d f"]) == pytest.approx(expected)
    assert bleu(["a b , c d"], ["a b , c d"]) == pytest.approx(100)


def test_chrf_gives_credit_for_similar_words() -> None:
    pytest.importorskip("sacrebleu")
    assert chrf(["con mèo"], ["con mèo"]) == pytest.approx(100)
    assert 0 == chrf(["xyz"], ["con mèo"]) < chrf(["con mẻo"], ["con mèo"]) < 100
    # "ab" against "ac": 1 of 2 characters and 0 of 1 bigrams; here F is the precision; mean over orders.
    assert chrf(["ab"], ["ac"]) == pytest.approx(100 * (1 / 2 + 0) / 2, abs=0.5)
    for found, gold in ((["a"], []), ([], [])):
        with pytest.raises(DataError, match="one for each"):
            chrf(found, gold)


def test_a_missing_sacrebleu_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mvae\[translation\]'"):
        chrf(["a"], ["a"])


def test_the_nearest_neighbour_shares_the_rarest_words() -> None:
    known = ["the cat .", "the dog .", "a x ."]
    assert nearest_neighbours(["the dog runs .", "x"], known, ["1", "2", "3"]) == ["2", "3"]
    assert nearest_neighbours(["the"] * 300, known, ["1", "2", "3"]) == ["1"] * 300


def test_the_source_gap_compares_a_rows_own_source_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "ROWS", 3)
    torch.manual_seed(0)

    def text() -> SentenceModality:
        encoder = LSTMEncoder(8, 6, embedding=5, hidden=7)
        return SentenceModality(encoder, LSTMDecoder(8, 3, embedding=5, hidden=7), 4)

    model = MVAE({"a": text(), "b": text()}, 3, cross_from=()).eval()
    a, b = (torch.randint(1, 8, (5, 4)).index_fill(1, torch.tensor([3]), 0) for _ in range(2))
    table = Table({"a": a, "b": b}, {"b": torch.tensor([True, True, False, True, True])})
    found = source_gap(model, table, "a", "b")
    rows = [0, 1, 3, 4]
    with torch.no_grad():
        z = model.posterior(table, ["a"]).mean
        for place, row in enumerate(rows):
            own = model.modalities["b"].log_prob(b[row : row + 1], z[row : row + 1])
            other = model.modalities["b"].log_prob(b[row : row + 1], z[rows[place - 1]][None])
            torch.testing.assert_close(found[place], (own - other)[0])
    with pytest.raises(DataError, match="1 rows have both a and b"):
        source_gap(model, table.take([1, 2]), "a", "b")
