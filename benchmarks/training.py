"""Training throughput at the paper's settings, compared with multivae's with the same networks.

    python benchmarks/training.py [mnist | fashion-mnist | celeba19] [--rounds 5] [--threads 2]

Five contenders take turns: multivae's bare step (forward, backward, Adam, one prepared batch) with networks written in
the usual way, the same with our networks, its trainer's epoch with our networks, our bare step, and our `fit` with
everything included: data, shuffling, logging, validation on a fifth as many rows after every epoch, metrics on disk.
"""

import tempfile
import time
from collections.abc import Callable

import peer
import timing
import torch

import mvae
from mvae.models.base import MultimodalVAE
from mvae.networks import products
from mvae.training import step as steps
from mvae.training.callbacks import Callback

BATCH = 100


def our_bare_step(model: MultimodalVAE, table: mvae.Table, learning_rate: float) -> Callable[[], None]:
    """Forward, backward and Adam on one prepared batch."""
    batch = table.first(BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        model.batch_objective(batch, generator=generator).loss.backward()
        optimizer.step()

    return step


class Clock(Callback):
    """Records when each epoch has ended, including validation and its line of metrics."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_epoch(self, values: dict[str, float]) -> None:
        """Record the time."""
        self.ended.append(time.perf_counter())


def our_fit(
    model: MultimodalVAE, table: mvae.Table, validation: mvae.Table, epochs: int, learning_rate: float
) -> Callable[[], float]:
    """A function that returns the seconds of some epochs of `fit` with everything that happens in them.

    One additional epoch comes first and is not timed. This excludes what happens once per run (checking every value of
    the table, compiling) or once per minute (a checkpoint), which would weigh too much in a few seconds. Steps are
    compiled and products are chosen, as in a long run.
    """
    steps.COMPILED_STEPS = products.WORK = 0

    def run() -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            mvae.fit(
                model,
                table,
                epochs=epochs + 1,
                learning_rate=learning_rate,
                validation=validation,
                run_dir=folder,
                callbacks=[clock],
            )
        return clock.ended[-1] - clock.ended[0]

    return run


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    """A function that takes the same step several times."""

    def run() -> None:
        for _ in range(times):
            step()

    return run


def main() -> None:
    """Measure and print the table."""
    parser = timing.parser(__doc__, "--rounds", "--threads", "--json")
    parser.add_argument("dataset", nargs="?", default="mnist", choices=["mnist", "fashion-mnist", "celeba19"])
    parser.add_argument("--steps", type=int, default=50, help="bare steps of each contender in a round")
    parser.add_argument("--rows", type=int, default=5_000, help="rows in an epoch of fit")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of fit in a round")
    arguments = parser.parse_args()
    timing.begin(arguments.threads)
    what = arguments.dataset
    model = timing.built(what, "paper")
    train = timing.rows_or_noise(what, arguments.rows)
    validation = train.first(arguments.rows // 5)
    rows, epochs, rate = arguments.steps * BATCH, arguments.epochs, timing.declared(what).training.learning_rate
    contenders: dict[str, timing.Contender] = {}
    multivae = peer.load()
    if multivae is not None:
        few = train.first(rows)
        plain, other = peer.Peer(multivae, model, few, plain=True), peer.Peer(multivae, model, few)
        contenders["multivae, plain networks"] = repeated(plain.bare_step(BATCH, rate), arguments.steps), rows
        contenders["multivae, our networks"] = repeated(other.bare_step(BATCH, rate), arguments.steps), rows
        contenders["multivae, its trainer"] = other.trainer_epoch(BATCH, rate), len(few)
    contenders["ours, bare step"] = repeated(our_bare_step(model, train, rate), arguments.steps), rows
    contenders["ours, fit with everything"] = (
        our_fit(timing.built(what, "paper"), train, validation, epochs, rate),
        epochs * len(train),
    )
    rates = timing.interleaved(contenders, arguments.rounds)
    terms = len(model.terms(train.first(1).present).names)
    timing.show(f"{what}, {terms} terms, batch {BATCH}", rates, next(iter(contenders)))
    if arguments.json:
        timing.record_ratios(what, "training", rates, next(iter(contenders)))
    gemm, flop = timing.gemm_rate(), timing.flop_of(our_bare_step(model, train, rate))
    print(f"matrix products: {gemm / 1e9:.0f} GFLOP/s")
    print(f"floor: {flop / 1e9:.2f} GFLOP a step at that rate are {BATCH * gemm / flop:,.0f} rows/s")


if __name__ == "__main__":
    main()
