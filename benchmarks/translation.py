"""Training on sentences: `mvae` compared with the same model in a plain PyTorch loop with padding to 70 words.

    python benchmarks/translation.py [--rounds 5] [--steps 3] [--threads 1]

Both take the same Adam steps of the recipe `coupled` (5 terms, of which 4 score each language) on the same batches of
50 pairs, with the same networks: embeddings, an LSTM encoder and decoder, an adaptive softmax. Seconds are CPU time on
one thread (wall-clock time on more), because other work on the machine would hide the differences. Tokens are the words
and stop tokens of the batch, each counted once.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import cast

import timing
import torch
from torch import Tensor, nn

from mvae import Table
from mvae.errors import DataError
from mvae.models.mvae import MVAE
from mvae.networks.lstm import EMBEDDING, FREQUENT, HIDDEN
from mvae.paper.datasets import translation
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step

BATCH, VOCABULARY, LENGTH, LATENTS = 50, translation.VOCABULARY, translation.LENGTH, 100


class Language(nn.Module):
    """Encoder and decoder of one language on padded rows, in the usual implementation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.encoder = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)
        self.heads = nn.Linear(HIDDEN, 2 * LATENTS)
        self.decoder_embedding = nn.Embedding(VOCABULARY + 1, EMBEDDING)
        self.first = nn.Linear(LATENTS, 2 * HIDDEN)
        self.decoder = nn.LSTM(EMBEDDING + LATENTS, HIDDEN, batch_first=True)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, VOCABULARY, FREQUENT, div_value=2.0, head_bias=True)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        every, _ = self.encoder(self.encoder_embedding(x))
        last = every[torch.arange(len(x)), (x != 0).sum(1).clamp(max=LENGTH - 1)]
        mean, log_var = self.heads(last).chunk(2, 1)
        return mean, log_var

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(x[:, :1], VOCABULARY), x[:, :-1]], 1)
        before = torch.where((torch.rand(before.shape) < 0.6) & (before != VOCABULARY), 1, before)
        h, c = self.first(z).chunk(2, 1)
        inputs = torch.cat([self.decoder_embedding(before), z[:, None].expand(-1, LENGTH, -1)], 2)
        every, _ = self.decoder(inputs, (h.tanh()[None].contiguous(), c[None].contiguous()))
        log_p = self.softmax(every.reshape(-1, HIDDEN), x.reshape(-1)).output.reshape(x.shape)
        counted = torch.arange(LENGTH) <= (x != 0).sum(1, keepdim=True)
        return (log_p * counted).sum(1)


class Plain:
    """Eq. 5 and the two terms from one language to both, computed in a loop."""

    def __init__(self) -> None:
        self.languages = nn.ModuleDict({"en": Language(), "vi": Language()})
        self.optimizer = torch.optim.Adam(self.languages.parameters(), lr=1e-3)

    def step(self, x: dict[str, Tensor]) -> None:
        self.optimizer.zero_grad()
        experts = {name: cast("Language", self.languages[name]).encode(x[name]) for name in x}
        loss = torch.zeros(())
        for given, of in ((("en", "vi"), ("en", "vi")), (("en",), ("en",)), (("vi",), ("vi",))):
            loss = loss - self.elbo(x, experts, given, of)
        for given in ("en", "vi"):
            loss = loss - self.elbo(x, experts, (given,), ("en", "vi"))
        loss.backward()
        self.optimizer.step()

    def elbo(self, x: dict[str, Tensor], experts: dict, given: tuple[str, ...], of: tuple[str, ...]) -> Tensor:
        precisions = torch.stack([torch.exp(-experts[name][1]) for name in given])
        means = torch.stack([experts[name][0] for name in given])
        precision = 1 + precisions.sum(0)
        mean = (means * precisions).sum(0) / precision
        z = mean + torch.randn_like(mean) * precision.rsqrt()
        kl = 0.5 * (mean.square() + 1 / precision - 1 + precision.log()).sum(1)
        log_p = torch.stack([cast("Language", self.languages[name]).log_prob(x[name], z) for name in of])
        return (log_p.sum(0) - kl).mean()


def sentences() -> Table:
    """Training rows from $MVAE_DATA; if there are none, random sentences of similar lengths."""
    try:
        return translation.load().train
    except DataError as error:
        print(f"random sentences are used: {error}", file=sys.stderr)
    generator = torch.Generator().manual_seed(0)

    def noise(mean: float, spread: float) -> Tensor:
        lengths = (mean + spread * torch.randn(5000, generator=generator)).clamp(1, LENGTH - 1).long()
        ranks = torch.rand(5000, LENGTH, generator=generator).mul(9).exp().long() + 1  # P(rank) ∝ 1 / rank
        return torch.where(torch.arange(LENGTH) < lengths[:, None], ranks.clamp(2, VOCABULARY - 1), 0).int()

    return Table({"en": noise(19, 11), "vi": noise(26, 15)})


def main() -> None:
    parser = timing.parser(__doc__, "--rounds")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    table = sentences()
    model = cast("MVAE", timing.built("translation")).train()
    ours, plain = Step(model, table, TrainingSettings()), Plain()
    chosen = torch.randperm(len(table))[: BATCH * options.steps].split(BATCH)
    tokens = sum(
        int((torch.as_tensor(table.take(rows)[name]) != 0).sum()) + BATCH for rows in chosen for name in table.names
    )

    def timed(steps: Callable[[], Iterator[None]]) -> Callable[[], float]:
        def work() -> float:
            start = clock()
            for _ in steps():
                pass
            return clock() - start

        return work

    def ours_steps() -> Iterator[None]:
        for rows in chosen:
            yield ours(rows, 1.0, 1e-3)

    def plain_steps() -> Iterator[None]:
        for rows in chosen:
            batch = table.take(rows).columns
            yield plain.step({name: cast("Tensor", column).long() for name, column in batch.items()})

    contenders: dict[str, timing.Contender] = {
        "plain loop": (timed(plain_steps), tokens),
        "mvae": (timed(ours_steps), tokens),
    }
    rates = timing.interleaved(contenders, options.rounds)
    timing.show("training on sentences (tokens/s for rows/s)", rates, "plain loop")


if __name__ == "__main__":
    main()
