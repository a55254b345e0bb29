"""Steps per second on a GPU: recorded or eager, and several runs at once by streams, processes or `vmap`.

    python benchmarks/accelerator.py [--seconds 2] [--at-once 1,2,4,8] [--minutes 10] [--json]

A step of a run is `mvae.training.step.Step`: gather a batch of 100 rows, noise, forward, backward, Adam. Several runs
at once are: threads of one process that replay their recorded steps on one stream each, as `mvae reproduce --jobs N`
does; processes with one GPU context each; or N models of one shape with stacked parameters (`torch.func`), also
recorded. Then each experiment's step is compared with its minimum time (`roofline.py`). Everything ends within
``--minutes``.
"""

import argparse
import copy
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import roofline
import timing
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvae import Table
from mvae.data.masking import pair_fraction
from mvae.likelihoods import discrete
from mvae.paper.results import Row
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step

BATCH = 100


def table_of(dataset: str, pairs: float | None) -> Table:
    """A dataset's rows on the GPU; ``pairs`` is the paired fraction, None for all."""
    rows = timing.rows_or_noise(dataset, 5_000)
    return (rows if pairs is None else pair_fraction(rows, pairs, 0)).to("cuda")


def step_of(dataset: str, table: Table, recorded: bool = True, seed: int = 0) -> Callable[[], None]:
    """A function that takes one step of the recipe `coupled` on random rows; warmed up, and recorded where possible."""
    guesses = not table.complete and "pseudo-labels" in timing.declared(dataset).variants
    model = timing.built(dataset, seed=seed, pseudo_labels=guesses).cuda().train()
    step = Step(model, table, TrainingSettings(batch_size=BATCH), seed)
    if recorded:
        step.plan(0)
    batches = itertools.cycle(torch.randperm(len(table), device="cuda").split(BATCH))

    def take() -> None:
        step(next(batches), 1.0, 1e-3)

    for _ in range(6):
        take()
    torch.cuda.synchronize()
    return take


def rate(take: Callable[[], None], seconds: float) -> float:
    """Steps per second of one caller."""
    stop, steps = time.perf_counter() + seconds, 0
    began = time.perf_counter()
    while time.perf_counter() < stop:
        for _ in range(10):
            take()
        torch.cuda.current_stream().synchronize()
        steps += 10
    return steps / (time.perf_counter() - began)


def by_streams(dataset: str, number: int, seconds: float, pairs: float | None) -> float:
    """Total steps per second of several threads, one stream each."""
    table = table_of(dataset, pairs)
    torch.cuda.synchronize()
    barrier, rates = threading.Barrier(number), [0.0] * number
    warming = threading.Lock()  # it synchronises the whole device, which is not allowed while another thread records

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            with warming:
                take = step_of(dataset, table, seed=i)
            barrier.wait()
            rates[i] = rate(take, seconds)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _process(dataset: str, seed: int, seconds: float, pairs: float | None, barrier: Any, rates: Any) -> None:
    torch.set_num_threads(1)
    take = step_of(dataset, table_of(dataset, pairs), seed=seed)
    barrier.wait()
    rates.put(rate(take, seconds))


def by_processes(dataset: str, number: int, seconds: float, pairs: float | None) -> float:
    """Total steps per second of several processes."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(number), context.Queue()
    workers = [
        context.Process(target=_process, args=(dataset, i, seconds, pairs, barrier, rates)) for i in range(number)
    ]
    for worker in workers:
        worker.start()
    total = sum(rates.get(timeout=180) for _ in workers)
    for worker in workers:
        worker.join()
    return total


class _Plain:
    """The Bernoulli's cross-entropy in operations that `vmap` supports."""

    @staticmethod
    def apply(logits: Tensor, x: Tensor) -> Tensor:
        return F.softplus(logits) - x * logits


class _Loss(nn.Module):
    def __init__(self, model: Any, terms: Any):
        super().__init__()
        self.model, self.terms = model, terms

    def forward(self, x: dict[str, Tensor], noise: Tensor, beta: Tensor) -> Tensor:
        return self.model.objective(x, self.terms, noise, beta).loss


@mock.patch.object(discrete, "_CrossEntropy", _Plain)
def by_vmap(dataset: str, number: int, seconds: float) -> float:
    """Total steps per second of models with stacked parameters, each on its own rows; recorded."""
    table = table_of(dataset, None)
    models = [timing.built(dataset, seed=i).cuda().train() for i in range(number)]
    terms = models[0].terms(table.presence(models[0].names))
    terms.on_device(torch.device("cuda", 0))
    losses = [_Loss(model, terms) for model in models]
    parameters, buffers = torch.func.stack_module_state(losses)  # pyright: ignore
    base = copy.deepcopy(losses[0])
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    adam = torch.optim.Adam(leaves.values(), lr=torch.tensor(1e-3, device="cuda"), fused=True, capturable=True)
    beta, index = torch.ones((), device="cuda"), torch.zeros(number, BATCH, dtype=torch.long, device="cuda")
    columns = models[0].prepare(table)

    def one(own: dict[str, Tensor], buffers: dict[str, Tensor], x: dict[str, Tensor], noise: Tensor) -> Tensor:
        return torch.func.functional_call(base, (own, buffers), (x, noise, beta))

    def step() -> None:
        adam.zero_grad()
        x = {name: column[index] for name, column in columns.items()}
        noise = torch.randn(number, len(terms.names), BATCH, models[0].latent_dim, device="cuda")
        torch.vmap(one)(leaves, buffers, x, noise).sum().backward()
        adam.step()

    for _ in range(4):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    order = torch.stack([torch.randperm(len(table), device="cuda") for _ in range(number)])
    batches = itertools.cycle(order.split(BATCH, dim=1))

    def take() -> None:
        index.copy_(next(batches))
        graph.replay()

    return number * rate(take, seconds)


def work_of(only: str | None, numbers: list[int], seconds: float) -> Iterator[tuple[str, str, Callable[[], float]]]:
    """The measurements as (dataset, metric, function that measures it), the most informative first."""
    single = [("mnist", None), ("fashion-mnist", None), ("multimnist", None), ("celeba19", None)]
    for dataset, pairs in [] if only else [*single, ("mnist", 0.1), ("fashion-mnist", 0.1), ("multimnist", 0.1)]:
        for how in ("recorded", "eager"):
            yield (
                dataset,
                f"steps/s, {how}, pairs {pairs or 1}",
                lambda d=dataset, p=pairs, r=how == "recorded": rate(step_of(d, table_of(d, p), r), seconds),
            )
    for dataset, pairs in (("mnist", None), ("fashion-mnist", None), ("fashion-mnist", 0.1)):
        ways: dict[str, Callable[[int], float]] = {
            "streams": lambda n, d=dataset, p=pairs: by_streams(d, n, seconds, p),
            "vmap": lambda n, d=dataset: by_vmap(d, n, seconds),
            "processes": lambda n, d=dataset, p=pairs: by_processes(d, n, seconds, p),
        }
        for way, measure in ways.items():
            if only not in (None, way) or (way == "vmap" and dataset != "mnist"):
                continue
            for number in numbers if way != "processes" else numbers[-1:]:
                yield dataset, f"steps/s, {number} by {way}, pairs {pairs or 1}", lambda m=measure, n=number: m(n)


def floors(deadline: float, rounds: int) -> Iterator[Row]:
    """Minimum ÷ measured time (`roofline.py`) of every experiment, until the deadline."""
    settings = argparse.Namespace(device="cuda", rounds=rounds, cpu=False)
    fastest, _ = roofline.product_rate("cuda", time.perf_counter)
    copied = roofline.copy_rate("cuda", time.perf_counter)
    for name in roofline.EXPERIMENTS:
        if time.monotonic() < deadline:
            try:
                yield from roofline.measured(name, settings, time.perf_counter, fastest, copied)
            except Exception as error:
                print(f"{name}: {error!r}"[:600], flush=True)


def main() -> None:
    """Measure and print; optionally add rows."""
    parser = timing.parser(__doc__, "--json")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--at-once", default="1,2,4,8")
    parser.add_argument("--only", help="measure only this way of several runs at once: streams, processes or vmap")
    parser.add_argument("--minutes", type=float, default=10.0, help="measurements not begun by then are left out")
    arguments = parser.parse_args()
    seconds, numbers = arguments.seconds, [int(number) for number in arguments.at_once.split(",")]
    began, rows = time.monotonic(), list[Row]()
    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    for dataset, metric, measure in work_of(arguments.only, numbers, seconds):
        if time.monotonic() - began > 0.7 * 60 * arguments.minutes:
            print(f"no time for {dataset}: {metric}", flush=True)
            continue
        try:
            value = measure()
        except Exception as error:
            print(f"{dataset}, {metric}: {error!r}"[:600], flush=True)
            continue
        print(f"{dataset:14} {metric}: {value:7.0f}", flush=True)
        rows.append(timing.row("accelerator", dataset, metric, value, device="cuda"))
    if not arguments.only:
        found = list(floors(began + 0.9 * 60 * arguments.minutes, rounds=20))
        roofline.report(found)
        rows += found
    if arguments.json:
        timing.record("accelerator", rows)


if __name__ == "__main__":
    main()
