"""A modality of strings, whose decoder writes one token after the other, until it writes stop (App. A).

A string of at most L symbols is a row of L tokens: its symbols, 0 … K−1, then stop (K) in every remaining place. A
string of L symbols has no stop in its row and needs none, as nothing could follow. So

    log p(x | z) = Σ_t log p(x_t | x_1 … x_{t−1}, z)    over the symbols and, where there is one, the first stop,

is a distribution over the strings of at most L symbols, the empty one included: their probabilities sum to 1. Whatever
follows the first stop is padding and is never scored.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mvae.data.tokens import count_symbols
from mvae.errors import DataError, SettingsError
from mvae.likelihoods import Categorical
from mvae.likelihoods.classes import draw, log_softmax, softmax
from mvae.modality.base import Context, Modality

__all__ = ["StringModality", "compared"]


class StringModality(Modality):
    """Strings of up to ``length`` symbols: an autoregressive `Modality`.

    ``log_prob`` feeds the decoder the string's own tokens (teacher forcing, all positions in one call); ``generate``
    feeds it what it has written itself.

    Args:
        encoder: ``rows length`` of tokens → ``rows 2·latent``. It must ignore what follows the first stop.
        decoder: ``(z, tokens, state)`` → ``(logits, state)``: for latents ``N latent`` and the tokens so far
            ``N steps`` (the first is start, K + 1), the K + 1 logits of each next token (stop last; start cannot be
            written), and a state of any type to continue from; None is the initial one.
        symbols: K.
        length: L, the largest number of symbols in a string.
        weight: λ, as for `Modality`.

    Raises:
        SettingsError: no symbol, a length < 1, or a weight that is negative or not finite.

    >>> from mvae.networks.gru import StringDecoder, StringEncoder
    >>> string = StringModality(StringEncoder(10, 4), StringDecoder(10, 2), symbols=10, length=4)
    >>> x = torch.tensor([[1, 7, 7, 3], [10, 10, 10, 10]])  # "1773" and ""
    >>> string.log_prob(x, torch.zeros(5, 2, 2)).shape, string.generate(torch.zeros(5, 2, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 2, 4]))
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, symbols: int, length: int, weight: float = 1.0):
        super().__init__(encoder, decoder, Categorical(), weight)
        self.decoder_takes_context = False  # its second argument is the symbols so far
        if symbols < 1 or length < 1:
            raise SettingsError(f"strings need ≥ 1 symbol and a length ≥ 1, not {symbols} and {length}")
        self.stop, self.start, self.length = symbols, symbols + 1, length

    def decode(self, z: Float[Tensor, "*lead latent"], context: Context = None) -> Tensor:
        """Not available: parameters depend on the tokens so far; see `log_prob` and `generate`.

        Raises:
            TypeError: always.
        """
        raise TypeError("an autoregressive decoder needs the tokens so far: use log_prob or generate")

    def assess(
        self, x: Int[Tensor, "rows length"], z: Float[Tensor, "*samples rows latent"], context: Context = None
    ) -> tuple[Float[Tensor, "*samples rows"], None]:
        """log p(x | z) in nats of every row under each of its samples of z, by teacher forcing; no parameters.

        Raises:
            DataError: strings of another length.
        """
        if x.shape[1] != self.length:
            raise DataError(f"strings are rows of {self.length} tokens, not of {x.shape[1]}")
        place = torch.arange(self.length, device=x.device)
        counted = place <= count_symbols(x, self.stop)[:, None]
        x = torch.where(counted, x, self.stop)  # padding is not scored, and may be outside the vocabulary
        before = torch.cat([torch.full_like(x[:, :1], self.start), x[:, :-1]], 1).expand(*z.shape[:-1], -1)
        logits, _ = self._next(z, before.reshape(-1, self.length), None)
        scores = log_softmax(logits).unflatten(0, z.shape[:-1])
        scores = scores.gather(-1, x.expand(*z.shape[:-1], -1)[..., None]).squeeze(-1)
        return torch.where(counted, scores, 0.0).sum(-1), None

    def generate(
        self,
        z: Float[Tensor, "*lead latent"],
        context: Context = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "*lead length"]:
        """x ~ p(x | z), one token after the other; with ``mean=True``, greedily the most probable one."""
        token = torch.full((z[..., 0].numel(), 1), self.start, device=z.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        state, written = None, []
        for _ in range(self.length):
            logits, state = self._next(z, token, state)
            logits = logits.squeeze(1)
            drawn = logits.argmax(-1, True) if mean else draw(softmax(logits), generator)[:, None]
            token = torch.where(ended, self.stop, drawn)
            ended = token == self.stop
            written.append(token)
        return torch.cat(written, 1).reshape(*z.shape[:-1], self.length)

    def mode_with_log_prob(self, z: Float[Tensor, "rows latent"]) -> tuple[Tensor, Float[Tensor, "rows"]]:
        """The string that is written greedily, and its log p."""
        x = self.generate(z, mean=True)
        return x, self.log_prob(x, z)

    def correct(
        self,
        x: Int[Tensor, "rows length"],
        z: Float[Tensor, "rows latent"],
        context: Context = None,
        params: Tensor | None = None,
    ) -> dict[str, tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]]:
        """The string is written freely, then compared. ``""``: how many of its symbols were written in their places.

        Table 10 averages over single digits, "at most 4" per string. Here all symbols of all rows count the same, so
        the empty string does not count, and surplus symbols cost nothing. They do under ``" whole"``: 1 if exactly the
        string was written.
        """
        right, symbols, whole = compared(x, self.generate(z, context, mean=True), self.stop)
        return {"": (right, symbols), " whole": (whole.long(), torch.ones_like(symbols))}

    def invalid_values(
        self, x: Shaped[Tensor, "rows *event"], latent_dim: int, context_dim: int = 0
    ) -> tuple[Shaped[Tensor, "rows *event"], str]:
        """Tokens that are neither a symbol nor stop, and anything but stop after a stop.

        Raises:
            DataError: rows of another length, or a decoder of another vocabulary.
        """
        if x.shape[1:] != (self.length,):
            raise DataError(f"strings are rows of {self.length} tokens, not of shape {tuple(x.shape[1:])}")
        start = torch.full((1, 1), self.start, device=x.device)
        logits, _ = self._next(torch.zeros(1, latent_dim, device=x.device), start, None)
        if logits.shape != (1, 1, self.stop + 1):
            raise DataError(
                f"the decoder gives shape {tuple(logits.shape)} after one token; {self.stop + 1} logits are needed, "
                f"for {self.stop} symbols and stop"
            )
        padding = torch.arange(self.length, device=x.device) > count_symbols(x, self.stop)[:, None]
        bad = (x < 0) | (x > self.stop) | (padding & (x != self.stop))
        return bad, f"symbols 0 to {self.stop - 1}, and only stop ({self.stop}) after them,"

    def _next(self, z: Tensor, tokens: Tensor, state: object) -> tuple[Tensor, object]:
        """The decoder on a flat batch, in its own dtype; logits in float32 at least."""
        logits, state = self.decoder(self._flat(z), tokens, state)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), state


def compared(
    x: Int[Tensor, "rows length"], written: Int[Tensor, "rows length"], stop: int
) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """How many symbols of each string were written in their places, how many it has, and whether all of it is correct.

    >>> compared(torch.tensor([[1, 7, 10, 10]]), torch.tensor([[1, 4, 4, 10]]), stop=10)
    (tensor([1]), tensor([2]), tensor([False]))
    """
    symbols = count_symbols(x, stop)
    here = torch.arange(x.shape[1], device=x.device) < symbols[:, None]
    whole = ((written == x) | ~here).all(1) & (count_symbols(written, stop) == symbols)
    return ((written == x) & here).sum(1), symbols, whole
