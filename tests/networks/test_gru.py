"""Recurrent networks compared with PyTorch's bidirectional GRU on each row alone; padding is never read."""

import torch
from torch import Tensor, nn

from mvae.data.tokens import count_symbols
from mvae.networks.gru import BidirectionalGRU, StringDecoder, StringEncoder

STOP, START = 10, 11
STRINGS = torch.tensor([[1, 7, 7, 3], [0, 5, 9, 10], [4, 4, 10, 10], [8, 10, 10, 10], [10, 10, 10, 10]])
LENGTHS = [4, 3, 2, 1, 0]


def test_symbols_are_counted_up_to_first_stop() -> None:
    assert count_symbols(STRINGS, STOP).tolist() == LENGTHS
    assert count_symbols(torch.tensor([[3, 10, 3, 10]]), STOP).tolist() == [1]


def one_by_one(network: BidirectionalGRU, x: Tensor) -> Tensor:
    """Each row alone, at its own length, through a bidirectional GRU with the same weights."""
    embedded, hidden = network.embedding.weight.shape[1], network.rightward.hidden_size
    both = nn.GRU(embedded, hidden, bidirectional=True).to(x.device, network.embedding.weight.dtype)
    state = dict(network.rightward.state_dict())
    state |= {f"{name}_reverse": value for name, value in network.leftward.state_dict().items()}
    both.load_state_dict(state)
    rows = []
    for row in x:
        symbols = row.tolist()
        symbols = symbols[: symbols.index(STOP)] if STOP in symbols else symbols
        _, last = both(network.embedding(torch.tensor([START, *symbols, STOP]))[:, None])
        rows.append(torch.cat([last[0, 0], last[1, 0]]))
    return torch.stack(rows)


def test_bidirectional_gru_matches_pytorch_at_any_length() -> None:
    torch.manual_seed(0)
    network = BidirectionalGRU(10, 6, 5).double()
    torch.testing.assert_close(network(STRINGS), one_by_one(network, STRINGS))


def test_encoder_adds_both_directions() -> None:
    torch.manual_seed(0)
    encoder = StringEncoder(10, 8, hidden=6).double()
    rightward, leftward = one_by_one(encoder.read, STRINGS).chunk(2, 1)
    torch.testing.assert_close(encoder(STRINGS), encoder.head(rightward + leftward))


def test_padding_is_never_read() -> None:
    """Values after the first stop, even outside the vocabulary, change no bit of output or gradients."""
    torch.manual_seed(0)
    encoder = StringEncoder(10, 8, hidden=6)
    changed = STRINGS.clone()
    for row, n in enumerate(LENGTHS):
        changed[row, n + 1 :] = torch.tensor([3, -5, 99])[: max(3 - n, 0)]
    assert not torch.equal(changed, STRINGS)
    found = []
    for x in (STRINGS, changed):
        encoder.zero_grad()
        output = encoder(x)
        output.square().sum().backward()
        found.append((output, [p.grad.clone() for p in encoder.parameters() if p.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert len(found[0][1]) == len(list(encoder.parameters()))
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(one, other)


def test_row_output_is_independent_of_batch() -> None:
    torch.manual_seed(0)
    encoder = StringEncoder(10, 8, hidden=6).double()
    together = encoder(STRINGS)
    for row in range(len(STRINGS)):
        torch.testing.assert_close(encoder(STRINGS[row : row + 1])[0], together[row])


def test_text_encoder_parameters_match_table_1() -> None:
    """525,000 = 12·200 + 2·3·(2·200² + 2·200) + 200·200 + 200."""
    assert sum(p.numel() for p in StringEncoder(10, 2 * 100).parameters()) == 1_841_936 - 1_316_936


def test_decoder_by_token_matches_decoder_at_once() -> None:
    torch.manual_seed(0)
    decoder, z = StringDecoder(10, 3, hidden=6).double(), torch.randn(5, 3).double()
    tokens = torch.cat([torch.full((5, 1), START), STRINGS], 1)
    whole, _ = decoder(z, tokens)
    state, steps = None, []
    for t in range(tokens.shape[1]):
        logits, state = decoder(z, tokens[:, t : t + 1], state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    assert whole.shape == (5, 5, 11)


def test_decoder_depends_on_z_and_previous_tokens() -> None:
    torch.manual_seed(0)
    decoder, z = StringDecoder(10, 3, hidden=6), torch.randn(1, 3)
    assert decoder.gru.num_layers == 2
    tokens = torch.tensor([[START, 1, 2, 3]])
    before, _ = decoder(z, tokens)
    assert ((decoder(z + 1, tokens)[0] - before).abs().amax(-1) > 1e-4).all()
    changed = tokens.clone()
    changed[0, 1] = 5
    difference = (decoder(z, changed)[0] - before).abs().amax(-1)[0]
    assert difference[0] == 0  # outputs do not depend on later tokens
    assert (difference[1:] > 1e-5).all()
