"""How long one waits before anything happens: the command line, and importing.

    python benchmarks/startup.py [--rounds 5]

Every measurement is a fresh process; `import mvae` is given as what it adds to importing torch.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

EVERYTHING = "import mvae; mvae.MVAE, mvae.Table, mvae.fit, mvae.log_likelihood, mvae.likelihoods"
COMMANDS = {
    "mvae --help": ["-m", "mvae", "--help"],
    "import torch": ["-c", "import torch"],
    "import torch, mvae": ["-c", "import torch, mvae"],
    "import torch, mvae and use its names": ["-c", f"import torch; {EVERYTHING}"],
    "import multivae": ["-c", "import peer, sys; sys.exit(peer.load() is None)"],
}


def seconds(arguments: list[str]) -> float | None:
    """Wall time of one fresh Python, or None where it fails."""
    start = time.perf_counter()
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start if done.returncode == 0 else None


def main() -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):  # the first one fills the disk cache
        for name, arguments in COMMANDS.items():
            taken = seconds(arguments)
            if number and taken is not None:
                times[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items() if values}
    for name in COMMANDS:
        print(f"{name:40}{median[name]:6.2f} s" if name in median else f"{name:40}  not installed")
    for name in ("import torch, mvae", "import torch, mvae and use its names"):
        pairs = zip(times[name], times["import torch"], strict=True)
        print(f"{name:40}{statistics.median(a - b for a, b in pairs):+6.2f} s on top of torch")


if __name__ == "__main__":
    main()
