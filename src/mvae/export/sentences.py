"""Sentences in graphs: all rows have the longest length, and what follows a stop token is masked.

In Python only the tokens before it are computed, in an order that depends on the values, which no graph can hold.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mvae.data.tokens import lengths_to_stop
from mvae.modality.sentences import SentenceModality
from mvae.models.base import MultimodalVAE
from mvae.networks.lstm import LSTMEncoder

__all__ = ["PaddedLSTMEncoder", "SentenceDecoder", "with_padded_sentences"]


class PaddedLSTMEncoder(nn.Module):
    """An `LSTMEncoder` that also reads the padding of its rows, and leaves it out of the mean.

    >>> encoder = LSTMEncoder(vocabulary=10, outputs=6)
    >>> x = torch.tensor([[3, 4, 0, 0], [0, 0, 0, 0], [1, 2, 3, 0]])
    >>> torch.allclose(PaddedLSTMEncoder(encoder)(x), encoder(x), atol=1e-6)
    True
    """

    @torch.no_grad()
    def __init__(self, packed: LSTMEncoder):
        super().__init__()
        own = packed.lstm
        self.stop, self.embedding, self.heads = packed.stop, packed.embedding, packed.heads
        self.lstm = nn.LSTM(packed.embedding.embedding_dim, own.hidden, batch_first=True).to(own.inward.weight)
        copied = {"weight_ih_l0": own.inward.weight, "bias_ih_l0": own.inward.bias, "weight_hh_l0": own.onward.weight}
        for name, value in (copied | {"bias_hh_l0": torch.zeros_like(own.inward.bias)}).items():
            self.lstm.get_parameter(name).copy_(value)

    def forward(self, tokens: Tensor) -> Tensor:
        """As `LSTMEncoder.forward`."""
        states, _ = self.lstm(self.embedding(tokens))
        number = lengths_to_stop(tokens, self.stop)[:, None]
        here = torch.arange(tokens.shape[1], device=tokens.device) < number
        return self.heads((states * here[..., None]).sum(1) / number)


def with_padded_sentences(model: MultimodalVAE) -> MultimodalVAE:
    """A copy of a model whose LSTM encoders read padded rows; a model without sentences is returned as it is."""
    read = {id(part): PaddedLSTMEncoder(part) for part in model.modules() if isinstance(part, LSTMEncoder)}
    return copy.deepcopy(model, dict(read)).eval() if read else model  # replaced in the copy


class SentenceDecoder(nn.Module):
    """Latents ``n latent`` and noise ``n length`` → a sentence written greedily, and one that is drawn.

    Both are tokens ``n length``, generated one after the other; the noise is a uniform number for each place.
    """

    noise = "uniform"

    def __init__(self, modality: SentenceModality):
        super().__init__()
        self.network: Any = copy.deepcopy(modality.decoder).requires_grad_(False)  # pyright: ignore[reportAttributeAccessIssue]
        self.length, self.stop, self.dtype = modality.length, modality.stop, modality.dtype

    def forward(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `SentenceModality.generate`, with draws by the given noise."""
        return self._written(z, noise, lambda log_p, _: log_p.argmax(1)), self._written(z, noise, _drawn)

    def _written(self, z: Tensor, noise: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        from torch._higher_order_ops.scan import scan  # a loop in the graph: unrolled, it would have 60 nodes per word

        def write(carried: list[Tensor], uniform: Tensor) -> tuple[list[Tensor], Tensor]:
            before, *state = carried
            log_p, after = self.network.advance(before, tuple(state))
            token = torch.where(before == self.stop, self.stop, choose(log_p, uniform))
            return [token, *(part.clone() for part in after)], token.clone()

        start = torch.full_like(z[:, 0], self.network.vocabulary, dtype=torch.int64)
        first = [start, *(part.contiguous() for part in self.network.begin(z.to(self.dtype)))]
        _, written = scan(write, first, noise[:, : self.length - 1].t().contiguous())
        return torch.cat([written.t(), torch.full_like(start, self.stop)[:, None]], 1)

    def noise_shape(self, latents: int) -> tuple[int]:
        """The shape of the noise for one example."""
        return (self.length,)


def _drawn(log_p: Tensor, uniform: Tensor) -> Tensor:
    """One token of each row, by inverting its distribution function."""
    reached = log_p.softmax(1).cumsum(1, dtype=torch.float64)
    return (reached <= uniform[:, None] * reached[:, -1:]).sum(1).clamp(max=log_p.shape[1] - 1)
