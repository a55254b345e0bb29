"""Training throughput on MNIST at the paper's settings (three ELBO terms, batches of 100), against multivae's.

    python benchmarks/train_mnist.py [--rounds 5] [--threads 2]

Four pieces of work take turns: multivae's bare step (forward, backward, Adam, one ready batch), its trainer's
epoch, our bare step, and our `fit` with everything included: data, shuffling, logging, validation at the end of
every epoch on a fifth as many rows, metrics on disk.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import peer
import timing
import torch

import mvae
from mvae import steps
from mvae.experiments import build, experiment
from mvae.models.base import MultimodalVAE
from mvae.progress import Silent

BATCH = 100
# Multiplications and additions of one step's matrix products; backward costs a product for the weights and one for
# the inputs, which the image encoder's first layer does not need. Labels are encoded once a class.
IMAGE_ENCODER, IMAGE_FIRST = 784 * 512 + 512 * 512 + 512 * 128, 784 * 512
LABEL_ENCODER = 512 * 512 + 512 * 128
IMAGE_DECODER, LABEL_DECODER = 64 * 512 + 512 * 512 + 512 * 784, 64 * 512 + 512 * 512 + 512 * 10
STEP_FLOP = 2 * (
    BATCH * (3 * IMAGE_ENCODER - IMAGE_FIRST) + 10 * 3 * LABEL_ENCODER + 2 * BATCH * 3 * (IMAGE_DECODER + LABEL_DECODER)
)


def our_bare_step(model: MultimodalVAE, table: mvae.Table) -> Callable[[], None]:
    """Forward, backward and Adam on one ready batch."""
    rows = torch.arange(BATCH)
    batch = mvae.Table({"image": table.select_rows("image", rows) / 255, "label": table.select_rows("label", rows)})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(batch, generator=generator).loss.backward()
        optimizer.step()

    return step


class Clock(Silent):
    """Notes when each epoch has ended, validation and its line of metrics included."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[float] = []

    def epoch(self, values: dict[str, float]) -> None:
        """The moment."""
        self.ended.append(time.perf_counter())

    def warn(self, message: str) -> None:
        """A few epochs teach the modalities nothing; that need not be said."""


def our_fit(model: MultimodalVAE, table: mvae.Table, validation: mvae.Table, epochs: int) -> Callable[[], float]:
    """Seconds of some epochs of `fit` with everything that happens in them.

    One more epoch comes before them. So what happens once a run (looking at every value of the table, compiling) or
    once a minute (a checkpoint), and would weigh too much in a few seconds, is left out. Steps are compiled, as in a
    long run.
    """
    steps.COMPILED_STEPS = 0

    def run() -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            mvae.fit(model, table, epochs=epochs + 1, validation=validation, run_dir=folder, reporter=clock)
        return clock.ended[-1] - clock.ended[0]

    return run


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    """The same step several times."""

    def run() -> None:
        for _ in range(times):
            step()

    return run


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="of each bare step in a round")
    parser.add_argument("--rows", type=int, default=5_000, help="in an epoch of fit")
    parser.add_argument("--epochs", type=int, default=2, help="of fit in a round")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    splits, what = timing.mnist_or_noise(), experiment("mnist")
    train = splits.train.take(slice(0, arguments.rows))
    validation = splits.validation.take(slice(0, arguments.rows // 5))
    rows, epochs = arguments.steps * BATCH, arguments.epochs
    contenders: dict[str, timing.Contender] = {}
    multivae = peer.load()
    if multivae is not None:
        few = train.take(slice(0, rows))
        other = peer.Peer(multivae, few)
        contenders["multivae, bare step"] = repeated(other.bare_step(BATCH), arguments.steps), rows
        contenders["multivae, its trainer"] = other.trainer_epoch(BATCH), len(few)
    contenders["ours, bare step"] = repeated(our_bare_step(build(what, "paper"), train), arguments.steps), rows
    contenders["ours, fit with everything"] = (
        our_fit(build(what, "paper"), train, validation, epochs),
        epochs * len(train),
    )
    rates = timing.interleaved(contenders, arguments.rounds)
    timing.show("MNIST, 3 terms, batch 100", rates, next(iter(contenders)))
    gemm = timing.gemm_rate()
    floor = BATCH * gemm / STEP_FLOP
    print(f"floor: {STEP_FLOP / 1e9:.2f} GFLOP a step at {gemm / 1e9:.0f} GFLOP/s are {floor:,.0f} rows/s")


if __name__ == "__main__":
    main()
