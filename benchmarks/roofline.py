"""How close each experiment comes to its minimum time on this machine.

    python benchmarks/roofline.py [mnist …] [--rounds 5] [--threads 2] [--cpu] [--device cuda] [--json]

A training step, and log p(x1) of a row with 1,000 samples, are measured. The minimum time is the larger of two:

- floating-point operations of matrix products and convolutions ÷ the best rate of products with float32 accuracy that
  any public setting reaches here. PyTorch counts them on our implementation of a step: each modality is encoded once,
  each decoder runs on what is scored.
- bytes that must pass through memory ÷ the copy rate. Each parameter counts nine times per step: read forward and
  backward; its gradient written and read; both moments of Adam and the weight read or written.

`value` in results/roofline.json is minimum ÷ measured time. ``--cpu`` measures processor time, for busy machines.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import get_args
from unittest import mock

import timing
import torch

import mvae
from mvae.evaluation import scoring
from mvae.models.base import MultimodalVAE
from mvae.networks import products
from mvae.paper.results import Row
from mvae.paper.show import show_values
from mvae.training import step as steps
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step

EXPERIMENTS = ("mnist", "fashion-mnist", "multimnist", "celeba", "celeba19", "vision", "translation", "table30")
BATCH, SAMPLES, TRAFFIC = 100, 1000, 9 * 4  # bytes per parameter and step
SCORED = {"mnist": 20, "fashion-mnist": 5, "table30": 20}  # rows at once; 1 for other experiments
KINDS: dict[str, dict[str, object]] = {"real": {}, "binary": {}, "categorical": {"classes": 5}}
SIZES = ((1024, 1024, 1024), (2048, 1024, 2048), (200, 512, 784), (400, 1024, 1024))


def table30(rows: int) -> tuple[MultimodalVAE, mvae.Table]:
    """A model and its table of thirty mixed fields, with a tenth of the values missing."""
    generator = torch.Generator().manual_seed(0)
    fields = [{"name": f"{kind} {i}", "kind": kind} | more for i in range(10) for kind, more in KINDS.items()]
    real = torch.randn(rows, 10, generator=generator)
    flag = torch.rand(rows, 10, generator=generator) < 0.3
    classes = torch.randint(5, (rows, 10), generator=generator)
    values = torch.stack([real, flag.float(), classes.float()], 2).reshape(rows, 30)
    present = torch.rand(rows, 30, generator=generator) < 0.9
    present[:, 0] = True
    model = mvae.MVAE({"table": mvae.Columns.of(fields, latent_dim=16)}, latent_dim=16)
    return model, mvae.Table({"table": values}, {"table": present})


def prepared(name: str, rows: int, device: str) -> tuple[MultimodalVAE, mvae.Table]:
    """An experiment's model and some of its rows."""
    model, table = (
        table30(rows) if name == "table30" else (timing.built(name, "paper"), timing.rows_or_noise(name, rows))
    )
    return model.to(device), table.to(device) if device != "cpu" else table


def product_rate(device: str, clock: Callable[[], float]) -> tuple[float, str]:
    """The best FLOP/s of products with float32 accuracy over sizes and public settings, and that setting."""
    found = []
    for setting in get_args(products.Products):
        if device == "cpu" and products.error_of(setting, SIZES[0]) > 4 * products.error_of("highest", SIZES[0]):
            continue
        if device != "cpu" and setting != "highest":  # TF32 and bfloat16
            continue
        with products.kept_setting():
            torch.set_float32_matmul_precision(setting)
            for rows, inputs, outputs in SIZES if device == "cpu" else ((8192, 8192, 8192),):
                a, b = torch.randn(rows, inputs, device=device), torch.randn(inputs, outputs, device=device)
                seconds = least_time(lambda a=a, b=b: a @ b, 20, device, clock)
                found.append((2 * rows * inputs * outputs / seconds, setting))
    return max(found)


def copy_rate(device: str, clock: Callable[[], float]) -> float:
    """Bytes per second of a copy, read and written."""
    a = torch.ones(64_000_000, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / least_time(lambda: b.copy_(a), 10, device, clock)


def least_time(work: Callable[[], object], times: int, device: str, clock: Callable[[], float]) -> float:
    """The least seconds of several repetitions."""
    work()
    return min(timed(work, device, clock) for _ in range(times))


def timed(work: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """Seconds until the device has finished the work."""
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def training(model: MultimodalVAE, table: mvae.Table) -> tuple[float, Callable[[], None]]:
    """FLOP of a step, and a function that takes a step as in a long run."""
    model.train()
    batch, generator = table.take(slice(BATCH)), torch.Generator(model.device).manual_seed(0)
    flop = timing.flop_of(lambda: model(batch, generator=generator).loss.backward())
    step = Step(model, table, TrainingSettings(batch_size=BATCH))
    step.plan(steps.COMPILED_STEPS)
    batches = torch.randperm(len(table)).to(step.index_device).split(BATCH)
    taken = 0

    def take() -> None:
        nonlocal taken
        step(batches[taken % len(batches)], 1.0, 1e-3)
        taken += 1

    for _ in range(6):
        take()
    return flop, take


def likelihood(model: MultimodalVAE, table: mvae.Table, rows: int) -> tuple[float, Callable[[], object]]:
    """FLOP of log p(x1) of some rows, and a function that estimates it."""
    model.eval()
    name, some = model.names[0], table.take(table.has(model.names[0]).nonzero()[:rows, 0])

    def estimate(samples: int) -> object:
        return mvae.log_likelihood(model, some, of=[name], proposal=[name], samples=samples)

    with mock.patch.object(scoring, "COMPILED_PAIRS", float("inf")):
        fewer, few = timing.flop_of(lambda: estimate(4)), timing.flop_of(lambda: estimate(2))
    flop = few + (SAMPLES - 2) * (fewer - few) / 2
    estimate(SAMPLES)
    return flop, lambda: estimate(SAMPLES)


def measured(
    name: str, arguments: argparse.Namespace, clock: Callable[[], float], rate: float, copy: float
) -> list[Row]:
    """Measure an experiment's two result rows."""
    device = arguments.device
    model, table = prepared(name, 4 * BATCH, device)
    shared = {"gflops": round(rate / 1e9), "gb_per_second": round(copy / 1e9, 1), "device": device}
    shared |= {"clock": "processor" if arguments.cpu else "wall", "threads": torch.get_num_threads()}

    def row(what: str, flop: float, size: float, work: Callable[[], object], count: int) -> Row:
        taken = statistics.median(timed(work, device, clock) / count for _ in range(arguments.rounds))
        floor = max(flop / count / rate, size / copy)
        numbers = {"least_ms": 1e3 * floor, "measured_ms": 1e3 * taken, "gflop": flop / count / 1e9, "gb": size / 1e9}
        rounded = {key: round(value, 4) for key, value in numbers.items()}
        return timing.row("roofline", name, what, floor / taken, arguments.rounds, **rounded, **shared)

    flop, take = training(model, table)
    rows = [row("training step", flop, TRAFFIC * sum(p.numel() for p in model.parameters()), take, 1)]
    count = SCORED.get(name, 1)
    flop, estimate = likelihood(model, table, count)
    return [*rows, row(f"log p(x1) of a row, {SAMPLES:,} samples", flop, 0, estimate, count)]


def report(rows: Sequence[Row]) -> None:
    """Print the table of benchmarks/README.md."""
    lines = []
    for row in rows:
        numbers = (f"{row.settings[key]:.4g}" for key in ("gflop", "gb", "least_ms", "measured_ms"))
        lines.append((row.dataset, row.metric, *numbers, f"{row.value:.2f}"))
    headings = ("experiment", "work", "GFLOP", "GB", "least ms", "measured ms", "ratio")
    show_values("least ÷ measured", headings, lines, left=headings[:2])


def main() -> None:
    """Measure and print; optionally add rows."""
    parser = timing.parser(__doc__, "--rounds", "--threads", "--cpu", "--json")
    parser.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help=f"of {', '.join(EXPERIMENTS)}; default all"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    timing.begin(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    rate, setting = product_rate(arguments.device, clock)
    copy = copy_rate(arguments.device, clock)
    print(f"{timing.machine()}: {rate / 1e9:.0f} GFLOP/s by {setting!r}, {copy / 1e9:.1f} GB/s", flush=True)
    rows: list[Row] = []
    with products.kept_setting():
        torch.set_float32_matmul_precision(setting)
        for name in arguments.experiments or EXPERIMENTS:
            try:
                rows += measured(name, arguments, clock, rate, copy)
            except mvae.MvaeError as error:
                print(f"{name} is left out: {error}", flush=True)
    report(rows)
    if arguments.json:
        timing.record("roofline", rows)


if __name__ == "__main__":
    main()
