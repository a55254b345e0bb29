"""Common code of the benchmarks: options, data, interleaved timing, the table of ratios, and recording."""

import argparse
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mvae import Table
from mvae.errors import UserError
from mvae.models.base import MultimodalVAE
from mvae.paper.cell import Cell
from mvae.paper.results import Row, add_rows, new_row
from mvae.paper.show import show_values
from mvae.provenance import circumstances
from mvae.runs.build import build
from mvae.runs.source import declared, load
from mvae.training.switches import keep_freed_memory

RESULTS = Path(__file__).parents[1] / "results"
FEW = 100  # generated rows, which are then repeated
Contender = tuple[Callable[[], object], int]  # the work (it may return its own seconds), and its number of rows
OPTIONS: dict[str, dict[str, Any]] = {
    "--rounds": {"type": int, "default": 5},
    "--threads": {"type": int, "default": 0, "help": "default: PyTorch's"},
    "--cpu": {"action": "store_true", "help": "processor time of this process instead of wall-clock time"},
    "--json": {"action": "store_true", "help": "add rows to results/"},
}


def parser(description: str | None, *shared: str) -> argparse.ArgumentParser:
    """A parser of a benchmark's options, with these of `OPTIONS`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in shared:
        made.add_argument(option, **OPTIONS[option])
    return made


def begin(threads: int) -> None:
    """Set the number of threads (0: PyTorch's default), `mvae train`'s process settings, and the seed."""
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    torch.manual_seed(0)


def built(dataset: str, recipe: str = "coupled", seed: int = 0, **changes: Any) -> MultimodalVAE:
    """Build a dataset's MVAE as the reproduction does; ``changes`` are named as in result rows."""
    return build(Cell.of(dataset, recipe, seed, **changes).config)


def rows_or_noise(dataset: str, rows: int) -> Table:
    """The first training rows of a dataset in MVAE_DATA, or else samples of an untrained model.

    Nothing is downloaded.
    """
    try:
        if os.environ.get("MVAE_DATA"):
            return load(declared(dataset)).train.first(rows)
        reason = "MVAE_DATA is not set"
    except UserError as error:
        reason = str(error)
    print(f"samples of an untrained model stand for {dataset}: {reason}", file=sys.stderr)
    torch.manual_seed(0)
    few = built(dataset, "paper").generate(n=min(rows, FEW), seed=0)
    again = torch.arange(rows) % FEW
    return Table({name: column[:, 0][again] for name, column in few.items()})


def interleaved(contenders: dict[str, Contender], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Rows per second of every contender in every round.

    A machine's speed drifts by more than the differences to be measured, so the contenders take turns, and only the
    ratios within a round are meaningful.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm, rounds):
        for name, (work, rows) in contenders.items():
            start = time.perf_counter()
            own = work()
            taken = own if isinstance(own, float) else time.perf_counter() - start
            if number >= 0:
                rates[name].append(rows / taken)
    return rates


def show(title: str, rates: dict[str, list[float]], base: str) -> None:
    """Print median rows/s, and the median over rounds of the ratio to ``base`` in the same round."""
    lines = []
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(values, rates[base], strict=True)]
        spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
        lines.append((name, f"{statistics.median(values):,.0f}", f"{statistics.median(ratios):.2f}", spread))
    show_values(title, ("", "rows/s", f"ratio to {base}", "lowest … highest"), lines, left=("",))
    print(machine())


def record_ratios(dataset: str, work: str, rates: dict[str, list[float]], base: str) -> None:
    """Add each contender's median ratio to ``base`` to results/peers.json."""
    rows = []
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(values, rates[base], strict=True)]
        own = {"contender": name, "base": base, "rows_per_second": round(statistics.median(values), 1)}
        own |= {"lowest": round(min(ratios), 2), "highest": round(max(ratios), 2), "threads": torch.get_num_threads()}
        rows.append(row("peers", dataset, work, statistics.median(ratios), len(values), **own))
    record("peers", rows)


def record(item: str, rows: Iterable[Row]) -> None:
    """Add rows to results/."""
    add_rows(RESULTS / f"{item}.json", rows)


def machine() -> str:
    """Processor, threads and torch version, which are needed to interpret a number."""
    name = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def command() -> str:
    """The command that runs this benchmark."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def row(item: str, dataset: str, metric: str, value: float, n: int = 1, **settings: Any) -> Row:
    """A result row for a number measured over ``n`` rounds, with the command and the circumstances."""
    device = torch.device("cuda" if settings.get("device") == "cuda" else "cpu")
    settings = {"torch": torch.__version__, **settings}
    own = {"dataset": dataset, "model": "mvae", "budget": "speed", "recipe": "paper", "n": n, "seed": 0}
    own |= {"settings": settings, "command": command()} | circumstances(device)
    return new_row(item, metric, value, None, own)


def memory(kind: str) -> float:
    """Current memory of this process in megabytes, of a kind of Linux's: VmRSS (resident) or RssAnon (anonymous)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1e3


def flop_of(work: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products in some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def gemm_rate(size: int = 1024, repeats: int = 20) -> float:
    """FLOP/s of float32 matrix products, the best of several repeats."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
