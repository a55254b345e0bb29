"""Sequences as a modality, against a naive loop over tokens and against the sum over all sequences."""

import itertools
import re
from typing import cast

import pytest
import torch

from mvae import Table, log_likelihood
from mvae.errors import DataError, QueryError
from mvae.evaluation.validation import validate
from mvae.modality.sentences import SentenceModality
from mvae.models.mvae import MVAE
from mvae.models.plan import scores
from mvae.models.terms import Terms
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder


def modality(vocabulary: int = 8, latents: int = 3, length: int = 6, seed: int = 0) -> SentenceModality:
    torch.manual_seed(seed)
    encoder = LSTMEncoder(vocabulary, 2 * latents, embedding=5, hidden=7)
    return SentenceModality(encoder, LSTMDecoder(vocabulary, latents, embedding=5, hidden=7), length).eval()


ROWS = torch.tensor([[5, 2, 7, 0, 0, 0], [0, 0, 0, 0, 0, 0], [3, 3, 4, 1, 6, 0]])


@torch.no_grad()
def naive(text: SentenceModality, row: list[int], z: torch.Tensor) -> float:
    """Log p summed token by token up to the stop token."""
    state, before, total = text.decoder.begin(z[None]), text.decoder.vocabulary, 0.0
    for token in row:
        log_p, state = text.decoder.advance(torch.tensor([before]), state)
        total, before = total + float(log_p[0, token]), token
        if token == text.stop:
            return total
    raise AssertionError("no stop token")


def test_log_prob_is_the_sum_over_tokens_for_each_sample() -> None:
    text, z = modality(), torch.randn(4, 3, 3)
    found = text.log_prob(ROWS, z)
    expected = [[naive(text, ROWS[b].tolist(), z[s, b]) for b in range(3)] for s in range(4)]
    torch.testing.assert_close(found, torch.tensor(expected))
    torch.testing.assert_close(text.log_prob(ROWS, z[0]), found[0])
    assert text.tokens(ROWS).tolist() == [4, 1, 6]


def test_empty_batches_are_scored_and_gains_may_use_fewer_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = modality()
    assert text.log_prob(ROWS[:0], torch.randn(4, 0, 3)).shape == (4, 0)
    monkeypatch.setattr("mvae.evaluation.coupling.SCORED", 2)
    model = MVAE({"en": text, "vi": modality(seed=1)}, 3)
    assert {"log p en->vi", "coupling"} <= validate(model, Table({"en": ROWS, "vi": ROWS.flip(0)}), chunk=2).keys()


def test_tokens_after_the_stop_token_are_ignored() -> None:
    text, z = modality(), torch.randn(3, 3)
    spoilt = ROWS.clone()
    spoilt[0, 4:], spoilt[1, 1:] = 7, 3
    torch.testing.assert_close(text.log_prob(spoilt, z), text.log_prob(ROWS, z))
    torch.testing.assert_close(text.log_prob(ROWS[:1, :4], z[:1]), text.log_prob(ROWS, z)[:1])


@torch.no_grad()
def test_probabilities_of_all_sequences_sum_to_one() -> None:
    """There are 1 + 2 + 4 + 8 + 16 sequences of at most 4 of two words; all others are longer."""
    text, z = modality(3, length=5), torch.randn(3)
    rows = [[*words, *[0] * (5 - n)] for n in range(5) for words in itertools.product((1, 2), repeat=n)]
    ended = text.log_prob(torch.tensor(rows), z.expand(len(rows), -1)).exp().sum()
    going = 0.0
    for words in itertools.product((1, 2), repeat=5):
        state, before, p = text.decoder.begin(z[None]), 3, 0.0
        for token in words:
            log_p, state = text.decoder.advance(torch.tensor([before]), state)
            p, before = p + float(log_p[0, token]), token
        going += torch.tensor(p).exp()
    torch.testing.assert_close(ended + going, torch.tensor(1.0))


def test_scoring_some_rows_equals_masking_the_whole() -> None:
    text, z = modality(), torch.randn(2, 3, 3)
    whole = text.log_prob(ROWS, z)
    for of in (torch.tensor([[True, False, True], [False, False, True]]), torch.tensor([[False], [True]])):
        terms = Terms.symmetric(("a", "b"), of[..., None])
        torch.testing.assert_close(scores({"text": text}, {"text": ROWS}, z, terms)[0], whole * of)


@torch.no_grad()
def test_samples_have_the_probabilities_of_log_prob() -> None:
    text, z = modality(3, length=4), torch.randn(3)
    drawn = text.generate(z.expand(20_000, -1), generator=torch.Generator().manual_seed(0))
    kinds, counts = drawn.unique(dim=0, return_counts=True)
    for row, count in zip(kinds, counts / len(drawn), strict=True):
        if row[2] == 0:  # longer ones are cut at the limit
            expected = text.log_prob(row[None], z[None]).exp()
            assert abs(float(count - expected)) < 4 * float((expected * (1 - expected) / len(drawn)).sqrt()) + 1e-9
    assert (drawn[:, -1] == 0).all()


def test_a_temperature_sharpens_each_step() -> None:
    """The first token has probabilities p^(1/T), normalised; near T = 0 decoding is greedy."""
    text, z = modality(seed=4), torch.randn(3)
    log_p, _ = text.decoder.advance(torch.tensor([text.decoder.vocabulary]), text.decoder.begin(z[None]))
    expected = log_p[0].exp() ** 2 / (log_p[0].exp() ** 2).sum()
    generator = torch.Generator().manual_seed(0)
    drawn = text.generate(z.expand(20_000, -1), generator=generator, temperature=0.5)
    found = torch.bincount(drawn[:, 0], minlength=len(expected)) / len(drawn)
    assert ((found - expected).abs() < 4 * (expected * (1 - expected) / len(drawn)).sqrt() + 1e-9).all()
    cold = text.generate(z.expand(9, -1), generator=generator, temperature=1e-4)
    assert torch.equal(cold, text.generate(z.expand(9, -1), mean=True))


@torch.no_grad()
def test_greedy_decoding_takes_the_most_probable_token() -> None:
    text, z = modality(seed=2), torch.randn(5, 3)
    found = text.generate(z, mean=True)
    assert found.shape == (5, 6)
    for row, of in zip(found.tolist(), z, strict=True):
        state, before = text.decoder.begin(of[None]), text.decoder.vocabulary
        for step, token in enumerate(row):
            log_p, state = text.decoder.advance(torch.tensor([before]), state)
            if step < 5:
                assert token == int(log_p.argmax())
            if token == 0:
                assert row[step:] == [0] * (6 - step)
                break
            before = token


@torch.no_grad()
def test_an_excluded_token_keeps_the_proportions_of_the_others() -> None:
    text, z = modality(3, length=4), torch.randn(3)
    log_p, _ = text.decoder.advance(torch.tensor([text.decoder.vocabulary]), text.decoder.begin(z[None]))
    drawn = text.generate(z.expand(20_000, -1), generator=torch.Generator().manual_seed(0), never=1)
    assert not (drawn == 1).any()
    expected = log_p[0].exp().index_fill(0, torch.tensor([1]), 0.0)
    expected /= expected.sum()
    found = drawn[:, 0].bincount(minlength=len(expected)) / len(drawn)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert not (text.generate(z.expand(1, -1), mean=True, never=1) == 1).any()
    rows, scores = text.beam(z[None], 3, never=1)
    assert not (rows == 1).any()
    torch.testing.assert_close(text.log_prob(rows[0], z.expand(3, -1)), scores[0])


def test_a_beam_is_sorted_and_at_least_as_good_as_greedy() -> None:
    text, z = modality(4, length=4), torch.randn(2, 3)
    rows = [[*words, *[0] * (4 - n)] for n in range(4) for words in itertools.product((1, 2, 3), repeat=n)]
    every = torch.tensor(rows)
    # A beam as wide as the vocabulary is not exhaustive. What must hold: its scores are log p, in falling order ...
    found, log_p = text.beam(z, 4)
    for i in range(2):
        torch.testing.assert_close(text.log_prob(found[i], z[i].expand(4, -1)), log_p[i])
        assert log_p[i].tolist() == sorted(log_p[i].tolist(), reverse=True)
        assert len(found[i].unique(dim=0)) == 4
        # ... and its best is at least greedy's, at most the best of all.
        greedy = text.log_prob(text.generate(z[i : i + 1], mean=True), z[i : i + 1])
        best = text.log_prob(every, z[i].expand(len(every), -1)).max()
        assert greedy[0] - 1e-5 <= log_p[i, 0] <= best + 1e-5
    one, _ = text.beam(z, 1)
    assert torch.equal(one[:, 0], text.generate(z, mean=True))
    with pytest.raises(QueryError, match=r"between 1 and 4 \(the tokens\), not 5"):
        text.beam(z, 5)


@torch.no_grad()
def of_few_words(seed: int) -> SentenceModality:
    """Only tokens 0 to 3 of 64 are ever generated, so there are 40 sequences of at most 4 tokens."""
    text = modality(64, length=4, seed=seed)
    head = cast("LSTMDecoder", text.decoder).softmax.head
    head.weight[:4] *= 5.0  # so that a likely first token is not always the best in the end
    head.bias[4:] = -1000.0
    return text


@torch.no_grad()
def seen_by_a_beam(text: SentenceModality, z: torch.Tensor, width: int) -> list[tuple[float, list[int]]]:
    """All sequences that end among the ``width`` best continuations of a step, best first, found one at a time."""
    unfinished, seen = [(0.0, [])], []
    for step in range(text.length):
        every = []
        for score, words in unfinished:
            log_p, state = text.decoder.advance(torch.tensor([text.decoder.vocabulary]), text.decoder.begin(z[None]))
            for before in words:
                log_p, state = text.decoder.advance(torch.tensor([before]), state)
            every += [(score + float(log_p[0, token]), [*words, token]) for token in range(4)]
        every.sort(reverse=True)
        best = every if step == text.length - 1 else every[:width]
        seen += [(score, words) for score, words in best if words[-1] == 0]
        unfinished = [one for one in every if one[1][-1] != 0][:width]
    return sorted(seen, reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_returns_the_best_finished_sequences(seed: int) -> None:
    text, z = of_few_words(seed), 3 * torch.randn(2, 3)
    every = torch.tensor([[*w, *[0] * (4 - n)] for n in range(4) for w in itertools.product((1, 2, 3), repeat=n)])
    for width in (1, 2, 3, 5, 64):
        found, log_p = text.beam(z, width)
        for i in range(2):
            seen = seen_by_a_beam(text, z[i], width)[:width]
            assert seen
            torch.testing.assert_close(log_p[i, : len(seen)], torch.tensor([score for score, _ in seen]))
            rows = [[*words, *[0] * (4 - len(words))] for _, words in seen]
            assert found[i, : len(seen)].tolist() == rows
            if width == 64:  # more than there are sequences: the exact order
                exact = text.log_prob(every, z[i].expand(40, -1)).sort(descending=True)
                torch.testing.assert_close(log_p[i, :40], exact.values)
                assert found[i, :40].tolist() == every[exact.indices].tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2, 3]], "modality 'text', row 0: tokens 0 to 7, then a stop token"),
        ([[1, 0, 0], [1, 0, 3]], "row 1"),
        ([[1, 8, 0]], "row 0"),
        ([[-1, 0, 0]], "row 0"),
        ([1], "rows of at most 6 tokens, not of shape ()"),
        ([[0] * 7], "rows of at most 6 tokens, not of shape (7,)"),
        ([[0.5, 0.0]], "integers"),
    ],
)
def test_invalid_sequences_are_refused(rows: list, message: str) -> None:
    model = MVAE({"text": modality()}, 3, cross_from=())
    with pytest.raises(DataError, match=re.escape(message)):
        model.check(Table({"text": torch.tensor(rows)}))


def test_a_decoder_for_another_number_of_latents_is_refused() -> None:
    with pytest.raises(DataError, match="4 latents"):
        MVAE({"text": modality()}, 4, cross_from=()).check(Table({"text": ROWS}))


def test_decode_is_refused_for_sequences() -> None:
    text, z = modality(), torch.zeros(3, 3)
    with pytest.raises(QueryError, match="log_prob or generate"):
        text.decode(z)


def test_validation_and_estimators_accept_sequences() -> None:
    """Log p by importance sampling against brute force with many draws from the prior."""
    text = modality()
    heads = cast("LSTMEncoder", text.encoder).heads
    torch.nn.init.zeros_(heads.weight)  # a posterior almost as wide as the prior: no weight is large
    torch.nn.init.constant_(heads.bias, 2.0)
    model = MVAE({"text": text, "other": modality(seed=1)}, 3, cross_from=())
    table = Table({"text": ROWS.int(), "other": ROWS.flip(0).int()})
    measured = validate(model, table)
    assert {"objective", "log p text->other", "active units", "kl/text"} <= measured.keys()
    assert "accuracy text->other" not in measured
    q = model.posterior(table, ["text"])
    with torch.no_grad():
        expected = model.modalities["other"].log_prob(ROWS.flip(0), q.mean).mean()
        assert measured["log p text->other"] == pytest.approx(float(expected), rel=1e-5)
        prior = text.log_prob(ROWS, torch.randn(20_000, 3)[:, None].expand(-1, 3, -1))
    exact = prior.logsumexp(0) - torch.tensor(20_000.0).log()
    estimate = log_likelihood(model, table, ["text"], samples=2000)
    torch.testing.assert_close(estimate.values.float(), exact, atol=0.02, rtol=0)
