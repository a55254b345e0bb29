"""How time and memory grow with modalities, rows, latents, random subsets and samples, each varied separately.

    python benchmarks/growth.py [axis …] [--steps 100000] [--threads 1] [--cpu] [--json]

Each point is measured in its own process, so that its memory is measured alone: the peak minus the memory before the
table and the model. A step trains perceptrons (hidden layer 128) on 100 rows of M modalities of 16 levels each, with k
random subsets; on the axis ``samples``, log p of a row is estimated instead. Growth is the slope of the last two points
on logarithmic axes: 0 is flat, 1 linear. ``--steps`` trains for that number of steps and compares the memory after a
tenth of them and at the end. Rows are added to results/growth.json, and the plot is results/growth.png.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import timing
import torch

import mvae
from mvae.networks.mlp import mlp
from mvae.paper.results import Row
from mvae.report.figure import saved_figure
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step

BASE = {"modalities": 4, "rows": 10_000, "latents": 16, "k": 1, "samples": 0}
AXES: dict[str, tuple[int, ...]] = {
    "modalities": (2, 4, 8, 16, 32, 64, 128, 256),
    "rows": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    "latents": (4, 16, 64, 256, 1024),
    "k": (0, 1, 2, 4, 8, 16, 32),
    "samples": (100, 1_000, 10_000, 100_000),
}
EXPECTED = {  # the largest slopes of time and of memory
    "modalities": (1, 1),
    "rows": (0, 1),
    "latents": (1, 1),
    "k": (1, 1),
    "samples": (1, 0),
}
LEVELS, BATCH = 16, 100


def model_of(modalities: int, latents: int, k: int) -> mvae.MVAE:
    """An MVAE of that number of equal modalities, computed separately or batched, as the library decides."""
    torch.manual_seed(0)
    parts = {
        f"m{i}": mvae.Modality(
            mlp(LEVELS, 2 * latents, [128]), mlp(latents, LEVELS, [128]), mvae.likelihoods.Bernoulli(levels=255)
        )
        for i in range(modalities)
    }
    return mvae.MVAE(parts, latents, random_subsets=k, cross_from=())


def table_of(modalities: int, rows: int) -> mvae.Table:
    """A table for that model, with a few missing cells."""
    generator = torch.Generator().manual_seed(0)
    columns = {
        f"m{i}": torch.randint(256, (rows, LEVELS), dtype=torch.uint8, generator=generator) for i in range(modalities)
    }
    return mvae.Table(columns, {"m1": torch.arange(rows) % 10 > 0})


def log_p(model: mvae.MVAE, table: mvae.Table, samples: int) -> None:
    """Estimate log p of one modality."""
    mvae.log_likelihood(model.eval(), table, of=["m0"], proposal=["m0"], samples=samples)


def one_step(model: mvae.MVAE, table: mvae.Table) -> Step:
    """The training step of a model and a table."""
    return Step(model.train(), table, TrainingSettings(batch_size=BATCH))


def point(sizes: dict[str, int], rounds: int, processor: bool) -> dict[str, float]:
    """Measure seconds and megabytes of one point, in this process."""
    clock = time.process_time if processor else time.perf_counter
    log_p(model_of(2, 2, 0), table_of(2, 100), 10)  # warm-up: what is loaded and created once
    one_step(model_of(2, 2, 0), table_of(2, 100))(torch.arange(20), 1.0, 1e-3)
    before = timing.memory("VmRSS")
    model = model_of(sizes["modalities"], sizes["latents"], sizes["k"])
    table = table_of(sizes["modalities"], sizes["rows"])
    seconds = []
    order = torch.randperm(len(table)).split(BATCH)
    step = one_step(model, table) if not sizes["samples"] else None
    for number in range(2 + rounds):
        start = clock()
        if step is None:
            log_p(model, table[:4], sizes["samples"])
        else:
            for batch in range(4):
                step(order[(4 * number + batch) % len(order)], 1.0, 1e-3)
        seconds.append((clock() - start) / 4)  # per row or per step
    return {"seconds": statistics.median(seconds[2:]), "megabytes": peak() - before}


def peak() -> float:
    """Peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def long_run(steps: int) -> tuple[float, float]:
    """Train a small model for ``steps`` steps; the megabytes after a tenth of them, and at the end."""
    step, order = one_step(model_of(3, 2, 1), table_of(3, 1_000)), torch.randperm(1_000).split(20)
    early = 0.0
    for number in range(steps):
        step(order[number % len(order)], 1.0, 1e-4)
        if number == steps // 10:
            early = timing.memory("VmRSS")
    return early, timing.memory("VmRSS")


def slope(sizes: list[int], values: list[float]) -> float:
    """The slope of the last two points on logarithmic axes."""
    (a, b), (u, v) = (max(size, 1) for size in sizes[-2:]), values[-2:]
    return math.log(v / u) / math.log(b / a)


def in_own_process(sizes: dict[str, int], arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one point in a new process."""
    given = json.dumps(sizes | {"threads": arguments.threads, "rounds": arguments.rounds, "cpu": arguments.cpu})
    done = subprocess.run([sys.executable, __file__, "--point", given], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(axis: str, arguments: argparse.Namespace) -> list[Row]:
    """Measure one axis: a result row per point, with the slopes so far."""
    sizes = [size for size in AXES[axis] if size <= arguments.most]
    found: list[dict[str, float]] = []
    rows = []
    for size in sizes:
        found.append(in_own_process(BASE | {axis: size}, arguments))
        own: dict[str, Any] = {"axis": axis, "size": size, "megabytes": round(found[-1]["megabytes"], 1)}
        if len(found) > 1 and sizes[len(found) - 2]:
            own["slope_of_time"], own["slope_of_memory"] = (
                round(slope(sizes[: len(found)], [each[what] for each in found]), 2)
                for what in ("seconds", "megabytes")
            )
        print(axis, size, f"{1e3 * found[-1]['seconds']:.2f} ms", own, flush=True)
        what = "ms per row" if axis == "samples" else "ms per step"
        rows.append(timing.row("growth", "made", what, 1e3 * found[-1]["seconds"], arguments.rounds, **own))
    print(f"{axis}: at most {EXPECTED[axis][0]} and {EXPECTED[axis][1]} are expected", flush=True)
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Plot one panel per axis: time on the left scale, memory on the right."""
    axes = list(dict.fromkeys(row.settings["axis"] for row in rows))
    with saved_figure(path, figsize=(3.2 * len(axes), 2.8)) as figure:
        for axis, panel in zip(axes, figure.subplots(1, len(axes), squeeze=False)[0], strict=True):
            own = [row for row in rows if row.settings["axis"] == axis and row.settings["size"] > 0]
            sizes = [row.settings["size"] for row in own]
            panel.loglog(sizes, [row.value for row in own], "o-", color="C0")
            panel.set_xlabel(axis)
            panel.set_ylabel(own[0].metric, color="C0")
            memory = panel.twinx()
            memory.loglog(sizes, [row.settings["megabytes"] for row in own], "s--", color="C1")
            memory.set_ylabel("MB", color="C1")
            for scale in (panel, memory):
                low, high = scale.get_ylim()
                if high < 10 * low:  # at least a decade, so that flat curves look flat
                    middle = math.sqrt(low * high)
                    scale.set_ylim(middle / math.sqrt(10), middle * math.sqrt(10))
                scale.minorticks_off()


def main() -> None:
    """Measure and print; optionally add rows and draw the plot."""
    parser = timing.parser(__doc__, "--rounds", "--threads", "--cpu", "--json")
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"of {', '.join(AXES)}; default all")
    parser.add_argument("--most", type=int, default=10**9, help="the largest size of each axis")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        own = json.loads(arguments.point)
        timing.begin(own["threads"])
        print(json.dumps(point({name: own[name] for name in BASE}, own["rounds"], own["cpu"])))
        return
    timing.begin(arguments.threads)
    rows = [row for axis in arguments.axes or AXES for row in measured(axis, arguments)]
    grown = list(rows)
    if arguments.steps:
        early, late = long_run(arguments.steps)
        print(f"after {arguments.steps // 10:,} steps {early:.1f} MB, after {arguments.steps:,} {late:.1f} MB")
        rows.append(timing.row("growth", "made", "memory at the end / early", late / early, 1, steps=arguments.steps))
    if arguments.json:
        timing.record("growth", rows)
        draw(grown, timing.RESULTS / "growth.png")


if __name__ == "__main__":
    main()
