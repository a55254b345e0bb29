"""Rows per second of importance-sampled log p with 1,000 samples on MNIST, compared with multivae and a plain loop.

    python benchmarks/estimator_mnist.py [--rounds 5] [--threads 2]

multivae estimates only log p(image, label), so ours is timed for that, too. The plain loop is the usual implementation:
for every row, decode 1,000 samples at once and take a logsumexp; it gives no diagnostics.
"""

import math

import peer
import timing
import torch
from torch.nn import functional as F

import mvae
from mvae.evaluation import scoring
from mvae.evaluation.likelihood import LogLikelihood
from mvae.models.base import MultimodalVAE
from mvae.networks import products


@torch.no_grad()
def plain_loop(model: MultimodalVAE, table: mvae.Table, samples: int) -> torch.Tensor:
    """Estimate log p(image) of every row in a loop over rows."""
    q = model.posterior(table, ["image"])
    image = model.prepare(table)["image"].flatten(1)
    decoder = model.modalities["image"].decoder
    values = []
    for mean, stddev, x in zip(q.mean, q.stddev, image, strict=True):
        noise = torch.randn(samples, len(mean))
        z = mean + stddev * noise
        logits = decoder(z).flatten(1)
        log_p = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(1)
        log_w = log_p + 0.5 * (noise.square() - z.square()).sum(1) + stddev.log().sum()
        values.append(log_w.logsumexp(0) - math.log(samples))
    return torch.stack(values)


def main() -> None:
    """Measure and print the table."""
    parser = timing.parser(__doc__, "--rounds", "--threads", "--json")
    parser.add_argument("--rows", type=int, default=50, help="rows scored by each contender in a round")
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    timing.begin(arguments.threads)
    scoring.COMPILED_PAIRS = products.WORK = 0  # compile and choose products, as for all test rows
    rows, samples = arguments.rows, arguments.samples
    table = timing.rows_or_noise("mnist", rows)
    model = timing.built("mnist", "paper").eval()

    def ours(*of: str) -> LogLikelihood:
        return mvae.log_likelihood(model, table, of=of, proposal=of, samples=samples)

    contenders: dict[str, timing.Contender] = {}
    multivae = peer.load()
    if multivae is not None:
        other = peer.Peer(multivae, model, table)
        contenders["multivae, log p(x1,x2)"] = other.joint_log_likelihood(rows, samples), rows
    contenders["plain loop, log p(x1)"] = (lambda: plain_loop(model, table, samples)), rows
    contenders["ours, log p(x1,x2)"] = (lambda: ours("image", "label")), rows
    contenders["ours, log p(x1)"] = (lambda: ours("image")), rows
    mine, plain = ours("image").mean, float(plain_loop(model, table, samples).mean())
    print(f"log p(x1): ours {mine:.2f}, plain loop {plain:.2f} nats (of an untrained model, so tenths are noise)")
    rates = timing.interleaved(contenders, arguments.rounds)
    timing.show(f"MNIST, {samples:,} samples a row", rates, next(iter(contenders)))
    if arguments.json:
        timing.record_ratios("mnist", f"log p, {samples:,} samples", rates, next(iter(contenders)))
    flop = 2 * samples * (64 * 512 + 512 * 512 + 512 * 784)
    gemm = timing.gemm_rate()
    print(f"floor: {flop / 1e9:.2f} GFLOP a row at {gemm / 1e9:.0f} GFLOP/s are {gemm / flop:.0f} rows/s")


if __name__ == "__main__":
    main()
