"""Sequences: a modality with an autoregressive decoder, p(x | z) = Π p(x_t | x_1 … x_{t−1}, z) (Sec. 7).

A row holds tokens up to a stop token, which is scored like the others; whatever follows is padding (more stop
tokens), which is never scored and costs no work.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mvae.data.tokens import lengths_to_stop
from mvae.errors import DataError, QueryError
from mvae.likelihoods import Categorical
from mvae.likelihoods.classes import draw
from mvae.modality.base import Context, Modality
from mvae.networks.packing import Packed, pack

__all__ = ["SentenceDecoder", "SentenceModality"]

State = tuple[Tensor, ...]


@runtime_checkable
class SentenceDecoder(Protocol):
    """A recurrent network that predicts a sequence's next token (such as `mvae.networks.lstm.LSTMDecoder`)."""

    vocabulary: int  #: tokens are 0 … vocabulary − 1; ``vocabulary`` precedes the first one

    def __call__(self, target: Tensor, before: Tensor, packed: Packed, z: Tensor) -> Tensor:
        """log p of every element given the one before it and each of its sequence's z.

        From ``elements`` and z ``samples N latent`` to ``elements samples``.
        """
        ...

    def begin(self, z: Tensor) -> State:
        """The state before the first token, a tuple of ``N …``."""
        ...

    def advance(self, before: Tensor, state: State) -> tuple[Tensor, State]:
        """log p of each next token (``N vocabulary``) after the tokens ``before`` (``N``), and the next state."""
        ...


class SentenceModality(Modality):
    """Sequences of tokens, of any length up to a limit.

    Columns are integers ``rows length``. `log_prob` feeds the decoder the true tokens.

    Args:
        encoder: ``rows length`` → ``rows 2·latent``; it must ignore what follows the stop token.
        decoder: see `SentenceDecoder`.
        length: the length of the rows that `generate` makes, stop token included.
        stop: the token that ends a sequence.
        weight: λ, as for `Modality`.

    >>> from mvae.networks.lstm import LSTMDecoder, LSTMEncoder
    >>> text = SentenceModality(LSTMEncoder(10, 2 * 3), LSTMDecoder(10, 3), length=5)
    >>> x = torch.tensor([[7, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
    >>> text.encode(x).mean.shape, text.log_prob(x, torch.zeros(4, 2, 3)).shape, text.generate(torch.zeros(4, 3)).shape
    (torch.Size([2, 3]), torch.Size([4, 2]), torch.Size([4, 5]))
    """

    decoder: SentenceDecoder  # pyright: ignore

    def __init__(
        self, encoder: nn.Module, decoder: SentenceDecoder, length: int, stop: int = 0, weight: float = 1.0
    ) -> None:
        super().__init__(encoder, decoder, Categorical(), weight)  # pyright: ignore
        self.decoder_takes_context = False  # its second argument is the tokens so far
        self.length, self.stop = length, stop

    fixed_shapes = False

    @property
    def is_discrete(self) -> bool:
        """False: no whole sentence is predicted confidently, and writing one per step would cost more than training."""
        return False

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Not available: each token depends on those before it.

        Raises:
            QueryError: always.
        """
        raise QueryError("each token of a sequence depends on those before it: use log_prob or generate")

    def assess(
        self, x: Shaped[Tensor, "rows *event"], z: Float[Tensor, "*samples rows latent"], context: Context = None
    ) -> tuple[Float[Tensor, "*samples rows"], None]:
        """log p(x | z) in nats, the sum over a row's tokens and its stop token; no parameters."""
        lengths = lengths_to_stop(x, self.stop)
        x = x[:, : int(lengths.max()) if len(x) else 0]
        before = torch.cat([torch.full_like(x[:, :1], self.decoder.vocabulary), x[:, :-1]], 1)
        packed = pack(lengths)  # the rows are the last leading axis of z
        samples = z.to(self.dtype).reshape(z.shape[:-2].numel(), *z.shape[-2:])
        found = self.decoder(packed.of(x), packed.of(before), packed, samples)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        return found.new_zeros(len(x), len(samples)).index_add(0, packed.row, found).T.reshape(z.shape[:-1]), None

    def tokens(self, x: Shaped[Tensor, "rows *event"]) -> Int[Tensor, "rows"]:
        """How many tokens each row has, the stop token included: the divisor of a likelihood per token."""
        return lengths_to_stop(x, self.stop)

    @torch.no_grad()
    def generate(
        self,
        z: Float[Tensor, "*lead latent"],
        context: Context = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
        never: int | None = None,
        temperature: float = 1.0,
    ) -> Int[Tensor, "*lead length"]:
        """x ~ p(x | z), token after token; with ``mean=True`` greedily, the most probable token each time.

        ``never`` is a token that is never written: the others keep their proportions. With a ``temperature`` T, each
        token has a probability proportional to p^(1/T).
        """
        flat = self._flat(z)
        found = torch.full((len(flat), self.length), self.stop, device=z.device)
        state = self.decoder.begin(flat)
        before = torch.full((len(flat),), self.decoder.vocabulary, device=z.device)
        going = torch.arange(len(flat), device=z.device)  # those that have not stopped
        for step in range(self.length - 1):
            log_p, state = self.decoder.advance(before, state)
            log_p = _without(log_p, never)
            before = log_p.argmax(1) if mean else draw((log_p / temperature).softmax(1), generator)
            found[going, step] = before
            on = (before != self.stop).nonzero().flatten()
            if not len(on):
                break
            if len(on) < len(going):
                going, before, state = going[on], before[on], tuple(part[on] for part in state)
        return found.reshape(*z.shape[:-1], self.length)

    @torch.no_grad()
    def beam(
        self, z: Float[Tensor, "N latent"], width: int = 5, never: int | None = None
    ) -> tuple[Int[Tensor, "N width length"], Float[Tensor, "N width"]]:
        """The most probable sequences that a beam of ``width`` finds, and their log p(x | z), the best first.

        Each step continues the ``width`` best unfinished prefixes. A sequence is found if it ends among the ``width``
        best continuations of a step, or at the last position; the ``width`` best of those found are kept, separately
        from the prefixes. If fewer are found, the rest have log p −∞.

        log p is of the whole sequence, not per token: short ones have the advantage that the model gives them.
        ``never`` is a token that is never written.

        Raises:
            QueryError: width < 1, or more than there are tokens.
        """
        vocabulary = self.decoder.vocabulary
        if not 1 <= width <= vocabulary:
            raise QueryError(f"the beam's width must be between 1 and {vocabulary} (the tokens), not {width}")
        n = len(z)
        state = self.decoder.begin(self._flat(z).repeat_interleave(width, 0))
        begun = torch.full((n, width, self.length), self.stop, device=z.device)
        before = torch.full((n * width,), vocabulary, device=z.device)
        score = torch.full((n, width), -torch.inf, device=z.device)
        best, found = score, begun  # of the sequences that have ended
        score = score.index_fill(1, torch.tensor([0], device=z.device), 0.0)  # at first, all prefixes are the same
        first = torch.arange(n, device=z.device)[:, None] * width
        for step in range(self.length):
            log_p, state = self.decoder.advance(before, state)
            every = score[..., None] + _without(log_p, never).reshape(n, width, -1)
            ended = every[..., self.stop].clone()
            if step < self.length - 1:  # the last position has room for the stop token only
                least = every.flatten(1).topk(width, 1).values[:, -1:]
                ended = ended.masked_fill(ended < least, -torch.inf)
            best, place = torch.cat([best, ended], 1).topk(width, 1)
            found = torch.cat([found, begun], 1).take_along_dim(place[..., None], 1)
            every[..., self.stop] = -torch.inf
            score, place = every.flatten(1).topk(width, 1)
            if (best[:, -1] >= score[:, 0]).all():  # continuing makes none more probable
                break
            chosen = (first + place // vocabulary).flatten()
            before = (place % vocabulary).flatten()
            begun, state = begun.flatten(0, 1)[chosen], tuple(part[chosen] for part in state)
            begun[:, step] = before
            begun = begun.reshape(n, width, -1)
        return found, best

    def invalid_values(
        self, x: Shaped[Tensor, "rows *event"], latent_dim: int, context_dim: int = 0
    ) -> tuple[Shaped[Tensor, "rows *event"], str]:
        """Tokens outside the vocabulary, rows without a stop token, and anything but stop tokens after it.

        Raises:
            DataError: the column is not ``rows length``.
        """
        z = torch.zeros(1, latent_dim, device=x.device, dtype=self.dtype)
        if x.dim() != 2 or not 1 <= x.shape[1] <= self.length:
            raise DataError(
                f"sequences are rows of at most {self.length} tokens, not of shape {tuple(x.shape[1:])} each"
            )
        behind = torch.arange(x.shape[1], device=x.device) >= lengths_to_stop(x, self.stop)[:, None]
        bad = (x < 0) | (x >= self.decoder.vocabulary) | (behind & (x != self.stop))
        bad[:, -1] |= x[:, -1] != self.stop
        self.decoder.begin(z)
        most = self.decoder.vocabulary - 1
        return bad, f"tokens 0 to {most}, then a stop token ({self.stop}), then nothing but stop tokens"

    def correct(
        self,
        x: Shaped[Tensor, "rows *event"],
        z: Float[Tensor, "rows latent"],
        context: Tensor | None = None,
        params: Tensor | None = None,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Empty: a sentence's accuracy word by word says little."""
        return {}


def _without(log_p: Float[Tensor, "N vocabulary"], never: int | None) -> Float[Tensor, "N vocabulary"]:
    return log_p if never is None else log_p.index_fill(1, torch.tensor([never], device=log_p.device), -torch.inf)
