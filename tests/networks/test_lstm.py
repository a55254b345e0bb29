"""The LSTM compared with PyTorch's, sequence by sequence; tokens after the stop token have no influence."""

import pytest
import torch
from torch import nn

from mvae.networks.lstm import LSTM, LSTMDecoder, LSTMEncoder
from mvae.networks.packing import pack


def test_packed_layer_matches_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM(3, 4), nn.LSTM(3, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "weight_ih_l0": ours.inward.weight,
            "weight_hh_l0": ours.onward.weight,
            "bias_ih_l0": ours.inward.bias,
            "bias_hh_l0": torch.zeros(16),
        }
    )
    lengths = torch.tensor([2, 5, 1, 5, 3])
    x, h, c = torch.randn(5, 5, 3), torch.randn(5, 4), torch.randn(5, 4)
    packed = pack(lengths)
    every, last = ours(x[packed.row, packed.step], packed.counts, (h[packed.order], c[packed.order]))
    for row, n in enumerate(lengths.tolist()):
        expected, (end, _) = theirs(x[row : row + 1, :n], (h[None, row : row + 1], c[None, row : row + 1]))
        torch.testing.assert_close(every[packed.row == row], expected[0])
        torch.testing.assert_close(last[packed.order == row], end[0])


@pytest.mark.parametrize("samples", [1, 3])
def test_gradients_match_finite_differences(samples: int) -> None:
    torch.manual_seed(0)
    layer, packed = LSTM(2, 3).double(), pack(torch.tensor([2, 4, 1, 4]))

    def of(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, bias: torch.Tensor, *_: torch.Tensor) -> tuple:
        return layer(x, packed.counts, (h, c), bias)

    shapes = (11, 2), (4 * samples, 3), (4 * samples, 3), (4 * samples, 12)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(of, (*inputs, *layer.parameters()))


def test_many_states_at_once_match_each_alone() -> None:
    torch.manual_seed(0)
    layer, packed = LSTM(2, 3), pack(torch.tensor([4, 1, 2]))
    x, h, c, bias = torch.randn(7, 2), torch.randn(3, 5, 3), torch.randn(3, 5, 3), torch.randn(3, 5, 12)
    every, last = layer(x, packed.counts, (h.flatten(0, 1), c.flatten(0, 1)), bias.flatten(0, 1))
    for i in range(5):
        alone, end = layer(x, packed.counts, (h[:, i], c[:, i]), bias[:, i])
        torch.testing.assert_close(every.view(7, 5, 3)[:, i], alone)
        torch.testing.assert_close(last.view(3, 5, 3)[:, i], end)


def test_encoder_ignores_padding_and_batch() -> None:
    torch.manual_seed(0)
    encoder = LSTMEncoder(10, 6, embedding=5, hidden=7)
    rows = torch.tensor([[3, 4, 0, 0, 0, 0], [9, 8, 7, 6, 5, 0], [0, 0, 0, 0, 0, 0]])
    found = encoder(rows)
    spoilt = rows.clone()
    spoilt[0, 3:] = 9
    torch.testing.assert_close(encoder(spoilt), found)
    torch.testing.assert_close(encoder(rows[:1, :3]), found[:1])
    torch.testing.assert_close(encoder(rows[2:]), found[2:])
    assert not torch.equal(encoder(torch.tensor([[4, 3, 0]])), found[:1])  # the order of tokens matters


def test_decoding_by_step_matches_teacher_forcing() -> None:
    torch.manual_seed(0)
    decoder = LSTMDecoder(12, 3, embedding=5, hidden=8).eval()
    z, tokens = torch.randn(4, 2, 3), torch.tensor([[7, 0, 0], [5, 2, 0]])
    packed = pack(torch.tensor([2, 3]))
    before = torch.cat([torch.full((2, 1), 12), tokens[:, :-1]], 1)
    forced = decoder(packed.of(tokens), packed.of(before), packed, z)
    assert forced.shape == (5, 4)
    for sample in range(4):
        state = decoder.begin(z[sample])
        for step in range(3):
            log_p, state = decoder.advance(before[:, step], state)
            torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2))
            here = packed.step == step
            row = packed.row[here]
            torch.testing.assert_close(forced[here, sample], log_p[row, tokens[row, step]])


def test_word_dropout_hides_words_in_training_only() -> None:
    torch.manual_seed(0)
    decoder = LSTMDecoder(12, 3, embedding=5, hidden=8, word_dropout=1.0)
    z, packed = torch.zeros(1, 1, 3), pack(torch.tensor([3]))

    def of(row: list[int]) -> torch.Tensor:
        tokens = torch.tensor([row])
        return decoder(torch.tensor([5, 5, 5]), packed.of(tokens), packed, z)

    assert torch.equal(of([12, 3, 4]), of([12, 7, 8]))  # every word is unknown; the start is not
    assert not torch.equal(of([12, 3, 4]), of([2, 3, 4]))
    decoder.eval()
    assert not torch.equal(of([12, 3, 4]), of([12, 7, 8]))


def test_samples_of_a_row_share_word_dropout() -> None:
    torch.manual_seed(0)
    decoder, packed = LSTMDecoder(12, 3, embedding=5, hidden=8, word_dropout=0.5), pack(torch.tensor([9]))
    found = decoder(torch.arange(9), torch.arange(9), packed, torch.ones(2, 1, 3))
    torch.testing.assert_close(found[:, 0], found[:, 1])


def test_initial_means_spread_like_noise_of_z() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(4, 40, (200, 1))
    rows = torch.where(torch.arange(41) < lengths, torch.randint(2, 1_000, (200, 41)), 0)
    mean, log_variance = LSTMEncoder(1_000, 2 * 20)(rows).chunk(2, 1)
    assert 0.5 < mean.std(0).mean() / (0.5 * log_variance).exp().mean() < 5
