"""Training on a table on disk compared with one in memory: steps per second, and anonymous memory.

    python benchmarks/larger_than_memory.py FOLDER [--gigabytes 20] [--seconds 60] [--json FILE]

The table has 256 numbers (float32) and 1,024 levels (uint8) per row in two NumPy files. Each of the two is missing in a
fifth of the rows, and a tenth of the single numbers is missing; the masks are files, too. A table that is already in
FOLDER is reused. Fits of the whole table and of a part held in memory alternate, each for ``--seconds``, so that a
drift of the machine affects both. Anonymous memory is the process's own memory, without pages of files, which the
system drops when it needs space.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import timing
import torch

import mvae
from mvae.networks.mlp import mlp
from mvae.paper.results import add_rows
from mvae.training.progress import Reporter

NUMBERS, LEVELS, BATCH, CHUNK = 256, 1024, 100, 10_000
ROW_BYTES = 4 * NUMBERS + LEVELS  # values only; the masks add a quarter of the numbers' size


def write(folder: Path, rows: int) -> None:
    """Write the two columns and their masks, one chunk at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(8, NUMBERS + LEVELS)).astype(np.float32)
    numbers = np.lib.format.open_memmap(folder / "numbers.npy", "w+", np.float32, (rows, NUMBERS))
    levels = np.lib.format.open_memmap(folder / "levels.npy", "w+", np.uint8, (rows, LEVELS))
    present = np.lib.format.open_memmap(folder / "present.npy", "w+", bool, (rows, NUMBERS))
    has_levels = np.ones(rows, bool)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        values = generator.normal(size=(count, 8)).astype(np.float32) @ mix
        numbers[start : start + count] = values[:, :NUMBERS]
        levels[start : start + count] = 255 / (1 + np.exp(-values[:, NUMBERS:]))
        lacks = generator.integers(0, 5, count)  # 0: the numbers, 1: the levels
        present[start : start + count] = (generator.random((count, NUMBERS)) < 0.9) & (lacks != 0)[:, None]
        has_levels[start : start + count] = lacks != 1
    for written in (numbers, levels, present):
        written.flush()
    np.save(folder / "has_levels.npy", has_levels)


def table_in(folder: Path, rows: int | None = None) -> mvae.Table:
    """The table on disk; if ``rows`` is given, that number of its rows in memory."""
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("numbers", "levels")}
    masks = {"numbers": np.load(folder / "present.npy", mmap_mode="r"), "levels": np.load(folder / "has_levels.npy")}
    table = mvae.Table(columns, masks)
    return table if rows is None else table[:rows]


def model() -> mvae.MVAE:
    """An MVAE of both columns, with a hidden layer of 512."""
    torch.manual_seed(0)
    return mvae.MVAE(
        {
            "numbers": mvae.Columns.of([f"x{i}" for i in range(NUMBERS)], latent_dim=32, hidden=(512,)),
            "levels": mvae.Modality(
                mlp(LEVELS, 64, [512]), mlp(32, LEVELS, [512]), mvae.likelihoods.Bernoulli(levels=255)
            ),
        },
        latent_dim=32,
    )


class Enough(Exception):
    """Raised when the time is over."""


class Watch(Reporter):
    """Counts steps after the first hundred, records the peak memory in gigabytes, and ends when the time is over."""

    every = 0.0

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.began, self.first, self.rate, self.most = seconds, 0.0, 0, 0.0, 0.0

    def on_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Count a step."""
        self.most = max(self.most, timing.memory("RssAnon") / 1e3)
        if not self.began and step >= 100:
            self.began, self.first = time.perf_counter(), step
        elif self.began and time.perf_counter() - self.began > self.seconds:
            self.rate = (step - self.first) / (time.perf_counter() - self.began)
            raise Enough


def trained(table: mvae.Table, seconds: float) -> Watch:
    """Train for ``seconds`` seconds."""
    watch = Watch(seconds)
    try:
        mvae.fit(model(), table, batch_size=BATCH, epochs=1000, callbacks=[watch])
    except Enough:
        return watch
    raise SystemExit("the table is too small to be trained for so long")


def main() -> None:
    """Measure and print; optionally add a row."""
    parser = timing.parser(__doc__, "--threads")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--rows-in-memory", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="add a row to this file")
    arguments = parser.parse_args()
    timing.begin(arguments.threads)
    rows = int(arguments.gigabytes * 1e9 / ROW_BYTES)
    if not (arguments.folder / "has_levels.npy").exists():
        write(arguments.folder, rows)
    whole = table_in(arguments.folder)
    print(f"{whole}, {whole.nbytes / 1e9:.1f} GB", flush=True)
    rates: dict[str, list[float]] = {"disk": [], "memory": []}
    most = 0.0
    for _ in range(arguments.rounds):
        on_disk = trained(whole, arguments.seconds)
        most = most or on_disk.most  # of the first round, before anything was loaded into memory
        part = table_in(arguments.folder, min(arguments.rows_in_memory, len(whole)))
        rates["disk"].append(on_disk.rate)
        rates["memory"].append(trained(part, arguments.seconds).rate)
        del part
        print({name: f"{values[-1]:.1f} steps/s" for name, values in rates.items()}, f"{most:.2f} GB", flush=True)
    ratios = [a / b for a, b in zip(rates["disk"], rates["memory"], strict=True)]
    row = timing.row(
        "larger-than-memory",
        "made",
        "speed on disk / in memory",
        statistics.median(ratios),
        arguments.rounds,
        lowest=min(ratios),
        highest=max(ratios),
        steps_per_second={name: round(statistics.median(values), 2) for name, values in rates.items()},
        gigabytes=round(whole.nbytes / 1e9, 2),
        anonymous_gigabytes=round(most, 2),
    )
    print(row)
    if arguments.json:
        add_rows(arguments.json, [row])


if __name__ == "__main__":
    main()
