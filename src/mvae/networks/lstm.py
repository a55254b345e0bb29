"""LSTM encoder and decoder of sentences: the sequence VAE of Bowman et al. (2016), used in Sec. 7.

The paper gives no sizes. Ours are chosen for a CPU: embeddings of 128, one layer of 192, and an adaptive softmax (Grave
et al. 2017), which is exact and normalised: frequent words take one step in a softmax of 1,000, rare words two steps.
At 10,000 words it costs a fifth of a full softmax, which would be nine tenths of all computation.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvae.data.tokens import lengths_to_stop
from mvae.networks import Shape
from mvae.networks.packing import Packed, pack

__all__ = ["LSTM", "LSTMDecoder", "LSTMEncoder", "Sentences"]

State = tuple[Tensor, Tensor]
EMBEDDING, HIDDEN = 128, 192
SOFTMAX = 4096  # elements at once, so that without gradients memory does not grow with their number
FREQUENT = (1_000, 4_000)  # where the adaptive softmax divides the words; rarer words have smaller features


class LSTM(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997) over packed sequences; short sequences take less time.

    PyTorch's own packed LSTM takes two to three times as long on a CPU.
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        self.inward = nn.Linear(inputs, 4 * hidden)
        self.onward = nn.Linear(hidden, 4 * hidden, bias=False)
        nn.init.orthogonal_(self.onward.weight)
        with torch.no_grad():
            self.inward.bias.zero_()[hidden : 2 * hidden] = 1.0  # remember initially (Jozefowicz et al. 2015)

    def advance(self, gates: Float[Tensor, "N gates"], state: State) -> State:
        """Compute one step: (h, c), ``N hidden`` each, from the inputs' contribution to the gates."""
        h, c = state
        take, keep, new, give = torch.addmm(gates, h, self.onward.weight.t()).chunk(4, 1)
        c = keep.sigmoid() * c + take.sigmoid() * new.tanh()
        return give.sigmoid() * c.tanh(), c

    def forward(
        self, x: Float[Tensor, "elements inputs"], counts: list[int], state: State, bias: Tensor | None = None
    ) -> tuple[Float[Tensor, "elements_samples hidden"], Float[Tensor, "N_samples hidden"]]:
        """Return h of every element, and h at the true end of every sequence (in packed order).

        Each sequence may be read from several initial states. These are ``N·samples`` in all: those of the first
        sequence, then those of the second, and so on; the results for the elements have the same order. ``bias``,
        ``N·samples gates``, is added to the gates at every step.
        """
        gates, (h, c) = self.inward(x), state
        if bias is None:
            bias = gates.new_zeros(len(h), gates.shape[1])
        return cast("tuple[Tensor, Tensor]", _Recurrence.apply(gates, bias, self.onward.weight, h, c, counts))


class _Recurrence(torch.autograd.Function):
    """`LSTM.advance` at every step, and its gradient.

    Everything that does not depend on the previous step is computed for all elements at once, both forward and
    backward; automatic differentiation would also add up a separate weight gradient for each step. The elements'
    contribution to the gates is computed once for all initial states of a sequence.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, bias: Tensor, weight: Tensor, h: Tensor, c: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor]:
        hidden, first_c, first_h = h.shape[1], c, h
        samples = len(h) // max(counts[0] if counts else 0, 1)
        opened = gates.new_empty(len(gates) * samples, 4 * hidden)
        every_h, every_c = gates.new_empty(2, len(opened), hidden)
        last, start = torch.empty_like(h), 0
        inward = gates[:, None].expand(-1, samples, -1).split(counts)
        counts = [n * samples for n in counts]
        for own, n, following in zip(inward, counts, [*counts[1:], 0][: len(counts)], strict=True):
            end = start + n
            a = torch.addmm(bias[:n], h[:n], weight.t(), out=opened[start:end])
            a.view(own.shape).add_(own)
            a[:, : 2 * hidden].sigmoid_()
            a[:, 2 * hidden : 3 * hidden].tanh_()
            a[:, 3 * hidden :].sigmoid_()
            take, keep, new, give = a.chunk(4, 1)
            c = torch.addcmul(keep * c[:n], take, new, out=every_c[start:end])
            h = torch.mul(give, c.tanh(), out=every_h[start:end])
            last[following:n] = h[following:]
            start = end
        ctx.counts, ctx.samples = counts, samples
        ctx.save_for_backward(opened, every_h, every_c, weight, first_h, first_c)
        return every_h, last

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        every, last = grad_outputs
        opened, every_h, every_c, weight, first_h, first_c = ctx.saved_tensors
        counts, hidden = ctx.counts, first_h.shape[1]
        take, keep, new, give = opened.chunk(4, 1)
        h_before, c_before = (_before(first, x, counts) for first, x in ((first_h, every_h), (first_c, every_c)))
        bent = every_c.tanh()
        of_give, to_c = bent * give * (1 - give), give * (1 - bent.square())
        others = torch.stack([new * take * (1 - take), c_before * keep * (1 - keep), take * (1 - new.square())], 1)
        grad = torch.empty_like(opened)
        bias = opened.new_zeros(len(first_h), 4 * hidden)
        h, c = opened.new_zeros(2, 0, hidden)
        end = len(opened)
        for n in reversed(counts):
            start, later = end - n, len(h)
            own = every[start:end].clone()
            own[:later] += h
            own[later:] += last[later:n]
            of_c = own * to_c[start:end]
            of_c[:later] += c
            torch.mul(others[start:end], of_c[:, None], out=grad[start:end, : 3 * hidden].view(n, 3, hidden))
            torch.mul(of_give[start:end], own, out=grad[start:end, 3 * hidden :])
            bias[:n] += grad[start:end]
            h, c = grad[start:end] @ weight, of_c * keep[start:end]
            end = start
        gates = grad.view(-1, ctx.samples, 4 * hidden).sum(1)
        return gates, bias, grad.t() @ h_before, h, c, None


def _before(first: Tensor, x: Tensor, counts: list[int]) -> Tensor:
    """The value that every element's step starts from: ``first``, then x of the previous step."""
    parts = [first, *x.split(counts)[:-1]]
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])


class LSTMEncoder(nn.Module):
    """``N length`` tokens → ``N outputs``, from the mean state up to the stop token; later tokens have no influence.

    With the last state alone, the posterior collapses before the LSTM has learned to carry information over a whole
    sentence; the mean of all states depends on every word from the start of training (Long et al. 2019). Also, the
    initial weights make the means of different sentences differ by as much as the noise of z. With smaller weights they
    would differ by a two-hundredth of it, no gradient would amplify that before β suppresses it, and the posterior
    would collapse, too.

    >>> encoder = LSTMEncoder(vocabulary=10, outputs=6)
    >>> encoder(torch.tensor([[3, 4, 0, 0], [5, 0, 0, 0]])).shape
    torch.Size([2, 6])
    """

    def __init__(self, vocabulary: int, outputs: int, embedding: int = EMBEDDING, hidden: int = HIDDEN, stop: int = 0):
        super().__init__()
        self.stop = stop
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = LSTM(embedding, hidden)
        self.heads = nn.Linear(hidden, outputs)
        with torch.no_grad():
            mean, _ = self.heads.weight.chunk(2)
            mean.normal_(std=0.7)
            self.heads.bias[outputs // 2 :] = -2.0

    def forward(self, tokens: Int[Tensor, "N length"]) -> Float[Tensor, "N outputs"]:
        """The mean and log-variance of each row."""
        packed = pack(lengths_to_stop(tokens, self.stop))
        x = self.embedding(packed.of(tokens))
        zeros = x.new_zeros(len(tokens), self.lstm.hidden)
        states, _ = self.lstm(x, packed.counts, (zeros, zeros))
        number = torch.bincount(packed.row, minlength=len(tokens))[:, None]
        return self.heads(zeros.index_add(0, packed.row, states) / number)


class LSTMDecoder(nn.Module):
    """p(token | tokens before it, z): z sets the initial state, enters every step, and predicts the words directly.

    This direct connection, around the LSTM, is that of a generative skip model (Dieng et al. 2019): z says which words
    to expect before the LSTM has learned their order, which keeps z in use.

    Args:
        vocabulary: the number of tokens, each of which may come next. The token ``vocabulary`` stands for the start of
            a sentence.
        latents: the number of latents.
        embedding, hidden: widths.
        unknown: the token for an unknown word.
        word_dropout: probability that a previous word is replaced by ``unknown`` in training, so that the decoder must
            use z (Bowman et al., Sec. 3.1). With 0.6 instead of 0.25, z of one language carried 16 % more nats about
            the other after the same number of epochs (docs/research/translation.md).
    """

    def __init__(
        self,
        vocabulary: int,
        latents: int,
        embedding: int = EMBEDDING,
        hidden: int = HIDDEN,
        unknown: int = 1,
        word_dropout: float = 0.6,
    ):
        super().__init__()
        self.vocabulary, self.unknown, self.word_dropout = vocabulary, unknown, word_dropout
        self.embedding = nn.Embedding(vocabulary + 1, embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.first = nn.Linear(latents, 2 * hidden)
        self.from_z = nn.Linear(latents, 4 * hidden, bias=False)
        self.skip = nn.Linear(latents, hidden, bias=False)
        self.lstm = LSTM(embedding, hidden)
        divisions = [place for place in FREQUENT if place < vocabulary] or [vocabulary - 1]
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden, vocabulary, divisions, div_value=2.0, head_bias=True)

    def begin(self, z: Float[Tensor, "N latent"]) -> tuple[Tensor, ...]:
        """The state before the first step: h, c, and z's contributions to the gates and to the words; ``N …`` each."""
        h, c = self.first(z).chunk(2, 1)
        return h.tanh(), c, self.from_z(z), self.skip(z)

    def advance(
        self, before: Int[Tensor, "N"], state: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "N vocabulary"], tuple[Tensor, ...]]:
        """Compute log p of every possible next token, and the state after this step."""
        h, c, bias, words = state
        h, c = self.lstm.advance(self.lstm.inward(self.embedding(before)) + bias, (h, c))
        return self.softmax.log_prob(h + words), (h, c, bias, words)

    def forward(
        self,
        target: Int[Tensor, "elements"],
        before: Int[Tensor, "elements"],
        packed: Packed,
        z: Float[Tensor, "samples N latent"],
    ) -> Float[Tensor, "elements samples"]:
        """Compute log p of each token given those before it and each z of its sequence.

        The same words are dropped for all samples of z.
        """
        if self.training and self.word_dropout:
            dropped = torch.rand(before.shape, device=before.device) < self.word_dropout
            before = torch.where(dropped & (before != self.vocabulary), self.unknown, before)
        samples = len(z)
        h, c, bias, words = self.begin(z[:, packed.order].transpose(0, 1).flatten(0, 1))
        features, _ = self.lstm(self.embedding(before), packed.counts, (h, c), bias)
        words = words.unflatten(0, (z.shape[1], samples)).index_select(0, packed.place)
        features, target = features + words.flatten(0, 1), target.repeat_interleave(samples)
        parts = zip(features.split(SOFTMAX), target.split(SOFTMAX), strict=True)
        return torch.cat([self.softmax(some, targets).output for some, targets in parts]).view(len(before), samples)


class Sentences:
    """The network "lstm", for sentences over a vocabulary of a given size."""

    @staticmethod
    def encoder(
        inputs: Shape, outputs: int, embedding: int = EMBEDDING, hidden: int = HIDDEN, stop: int = 0
    ) -> nn.Module:
        """See `LSTMEncoder`."""
        return LSTMEncoder(inputs[0], outputs, embedding, hidden, stop)

    @staticmethod
    def decoder(
        inputs: int,
        outputs: Shape,
        embedding: int = EMBEDDING,
        hidden: int = HIDDEN,
        unknown: int = 1,
        word_dropout: float = 0.6,
    ) -> nn.Module:
        """See `LSTMDecoder`."""
        return LSTMDecoder(outputs[0], inputs, embedding, hidden, unknown, word_dropout)
