"""Recurrent networks for strings of tokens (App. A, Fig. 7: the digits of MultiMNIST).

With K symbols, tokens 0 … K−1 are the symbols themselves, K is stop and K + 1 is start: for digits these are the 12
tokens that Table 1 counts. A string is a row of tokens: its symbols, then stop in all remaining positions. Everything
after the first stop is padding, which the networks here never read.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvae.data.tokens import count_symbols
from mvae.networks import Shape

__all__ = ["BidirectionalGRU", "StringDecoder", "StringEncoder", "Strings"]


class BidirectionalGRU(nn.Module):
    """Read start, the symbols and stop in both directions, and concatenate the two states after the whole string.

    The backward half starts at the string's own stop: each row is reversed within its length and both halves run from
    the left, so that padding comes after the state that is used and cannot influence it.

    >>> BidirectionalGRU(10, 200, 256)(torch.tensor([[1, 7, 7, 3], [5, 10, 10, 10]])).shape
    torch.Size([2, 512])
    """

    def __init__(self, symbols: int, embedded: int, hidden: int):
        super().__init__()
        self.stop = symbols
        self.embedding = nn.Embedding(symbols + 2, embedded)
        self.rightward = nn.GRU(embedded, hidden, batch_first=True)
        self.leftward = nn.GRU(embedded, hidden, batch_first=True)

    def forward(self, x: Int[Tensor, "rows length"]) -> Float[Tensor, "rows states"]:
        """The last states of both directions, rightward first."""
        last = (count_symbols(x, self.stop) + 1)[:, None]  # position of the stop, after start and the symbols
        bare = nn.functional.pad(nn.functional.pad(x, (0, 1), value=self.stop), (1, 0), value=self.stop + 1)
        place = torch.arange(bare.shape[1], device=x.device)
        string = torch.where(place < last, bare, self.stop)
        turned = string.gather(1, (last - place).clamp(min=0))
        return torch.cat([self._read(self.rightward, string, last), self._read(self.leftward, turned, last)], dim=1)

    def _read(self, network: nn.GRU, string: Tensor, last: Tensor) -> Tensor:
        states, _ = network(self.embedding(string))
        return states.gather(1, last[..., None].expand(-1, 1, states.shape[-1])).squeeze(1)


class StringEncoder(nn.Module):
    """Embeddings of 200 → bidirectional GRU of 200 → sum of both directions → heads.

    525,000 parameters with 2·100 outputs.

    >>> StringEncoder(10, 2 * 100)(torch.tensor([[1, 7, 7, 3], [5, 10, 10, 10]])).shape
    torch.Size([2, 200])
    """

    def __init__(self, symbols: int, outputs: int, hidden: int = 200):
        super().__init__()
        self.read = BidirectionalGRU(symbols, hidden, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Int[Tensor, "rows length"]) -> Float[Tensor, "rows outputs"]:
        """The mean and log-variance."""
        rightward, leftward = self.read(x).chunk(2, dim=1)
        return self.head(rightward + leftward)


class StringDecoder(nn.Module):
    """Latents and the tokens so far → logits of the next token: two layers of GRU and a linear layer (App. A).

    The latents give the layers' initial state (through a linear layer), and are concatenated to every input and output.
    There are K + 1 logits: a symbol or stop may come next, but never start.

    >>> logits, state = StringDecoder(10, 100)(torch.zeros(3, 100), torch.full((3, 1), 11))
    >>> logits.shape
    torch.Size([3, 1, 11])
    """

    def __init__(self, symbols: int, latents: int, hidden: int = 200):
        super().__init__()
        self.embedding = nn.Embedding(symbols + 2, hidden)
        self.first_state = nn.Linear(latents, hidden)
        self.gru = nn.GRU(hidden + latents, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden + latents, symbols + 1)

    def forward(
        self, z: Float[Tensor, "n latents"], tokens: Int[Tensor, "n steps"], state: Tensor | None = None
    ) -> tuple[Float[Tensor, "n steps logits"], Tensor]:
        """The logits after each of these tokens, and the state to continue from (``state`` None: the initial one)."""
        if state is None:
            state = self.first_state(z).expand(self.gru.num_layers, -1, -1).contiguous()
        beside = z[:, None].expand(-1, tokens.shape[1], -1)
        outputs, last = self.gru(torch.cat([nn.functional.silu(self.embedding(tokens)), beside], -1), state)
        return self.head(torch.cat([outputs, beside], -1)), last


class Strings:
    """The network "gru", for strings over a given number of symbols."""

    @staticmethod
    def encoder(inputs: Shape, outputs: int, hidden: int = 200) -> nn.Module:
        """See `StringEncoder`."""
        return StringEncoder(inputs[0], outputs, hidden)

    @staticmethod
    def decoder(inputs: int, outputs: Shape, hidden: int = 200) -> nn.Module:
        """See `StringDecoder`."""
        return StringDecoder(outputs[0], inputs, hidden)

    @staticmethod
    def features(inputs: Shape, outputs: int) -> nn.Module:
        """Both directions concatenated, each with half of the outputs."""
        return BidirectionalGRU(inputs[0], 200, outputs // 2)
