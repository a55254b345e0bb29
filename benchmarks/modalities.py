"""Time per step for growing numbers of modalities, and for CelebA19 with and without batching of equal networks.

    python benchmarks/modalities.py [--most 64] [--rounds 5] [--threads 2] [--cpu]

First, M modalities of one attribute each (CelebA's perceptrons with batch norm), one random subset, so M + 2 terms, and
batch size 100: seconds per step must grow no faster than M. Then CelebA19 with the paper's settings (21 terms):
forward, backward and Adam on one prepared batch of noise, which takes the same time as photographs. ``--cpu`` measures
processor time instead of wall-clock time; on a busy machine, with ``--threads 1``, that is more stable.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import timing
import torch

import mvae
from mvae.modality import bank
from mvae.models.base import MultimodalVAE
from mvae.networks.mlp import mlp
from mvae.paper.attributes import ATTRIBUTES
from mvae.paper.show import show_values

BATCH, LATENTS = 100, 100


@contextmanager
def taken_apart() -> Iterator[None]:
    """A context in which no networks are batched."""
    before = bank.banks_of_encoders, bank.banks_of_decoders
    bank.banks_of_encoders = bank.banks_of_decoders = lambda modalities, x: []
    try:
        yield
    finally:
        bank.banks_of_encoders, bank.banks_of_decoders = before


def attributes(count: int) -> dict[str, torch.Tensor]:
    """Random columns, one per attribute."""
    return {f"attribute {i}": torch.rand(BATCH, 1) < 0.3 for i in range(count)}


def model_of(count: int) -> MultimodalVAE:
    """An MVAE of ``count`` attributes and nothing else."""
    networks = {
        name: mvae.Modality(
            mlp(1, 2 * LATENTS, batch_norm=True), mlp(LATENTS, 1, batch_norm=True), mvae.likelihoods.Bernoulli()
        )
        for name in attributes(count)
    }
    return mvae.MVAE(networks, LATENTS, random_subsets=1, cross_from=())


def steps_of(model: MultimodalVAE, columns: dict[str, torch.Tensor], steps: int, clock: Callable[[], float]):
    """A function that returns the seconds of some steps; all contenders use the same random subsets in a round."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    batch = mvae.Table(columns)

    def run() -> float:
        generator = torch.Generator().manual_seed(0)
        start = clock()
        for _ in range(steps):
            optimizer.zero_grad()
            model(batch, generator=generator).loss.backward()
            optimizer.step()
        return clock() - start

    return run


def main() -> None:
    """Measure and print both tables."""
    parser = timing.parser(__doc__, "--rounds", "--threads", "--cpu")
    parser.add_argument("--steps", type=int, default=4, help="steps of each contender in a round")
    parser.add_argument("--most", type=int, default=64, help="largest number of modalities; 2, 4, 8 … up to this")
    arguments = parser.parse_args()
    timing.begin(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    steps = arguments.steps

    counts = [2**i for i in range(1, 12) if 2**i <= arguments.most]
    grown: dict[str, timing.Contender] = {
        str(n): (steps_of(model_of(n), attributes(n), steps, clock), steps) for n in counts
    }
    rates = timing.interleaved(grown, arguments.rounds)
    milliseconds = {n: 1000 / statistics.median(rates[str(n)]) for n in counts}
    lines = []
    for n in counts:
        ratio = f"{milliseconds[n] / milliseconds[n // 2]:.2f}" if n // 2 in milliseconds else ""
        lines.append((str(n), f"{milliseconds[n]:.1f}", f"{milliseconds[n] / n:.2f}", ratio))
    headings = ("modalities", "ms a step", "ms a modality", "ratio to half as many")
    show_values("single-attribute modalities, k = 1, batch 100", headings, lines, left=())

    columns = {"image": torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8)}
    columns |= {name: torch.rand(BATCH, 1) < 0.3 for name in ATTRIBUTES}
    together, apart = (
        steps_of(timing.built("celeba19", "paper"), columns, steps, clock) for _ in ("together", "apart")
    )

    def one_after_the_other() -> float:
        with taken_apart():
            return apart()

    rows = steps * BATCH
    contenders: dict[str, timing.Contender] = {
        "one after the other": (one_after_the_other, rows),
        "together": (together, rows),
    }
    rates = timing.interleaved(contenders, arguments.rounds)
    timing.show("CelebA19, 21 terms, batch 100", rates, "one after the other")
    print(f"matrix products: {timing.gemm_rate() / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
