"""Start-up time of the command line and of imports.

    python benchmarks/startup.py [--rounds 5]

Every measurement is a fresh process. The time that mvae adds to importing torch is measured inside the process, because
torch's own import varies by more.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

NAMES = "import mvae; mvae.MVAE, mvae.Table, mvae.fit, mvae.log_likelihood, mvae.likelihoods"
TIMED = "import time, torch; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
WHOLE = {  # wall-clock time of the process
    "mvae --help": ["-m", "mvae", "--help"],
    "import torch": ["-c", "import torch"],
    "import multivae": ["-c", "import peer, sys; sys.exit(peer.load() is None)"],
}
ADDED = {  # time that the process prints
    "import mvae, on top of torch": ["-c", TIMED.format("import mvae")],
    "import mvae and its names, on top of torch": ["-c", TIMED.format(NAMES)],
}


def seconds(arguments: list[str], printed: bool) -> float | None:
    """Seconds of one fresh Python process, or None if it fails."""
    start = time.perf_counter()
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return float(done.stdout) if printed else time.perf_counter() - start


def main() -> None:
    """Measure and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in (*WHOLE, *ADDED)}
    for number in range(rounds + 1):  # the first one fills the disk cache
        for name, arguments in (WHOLE | ADDED).items():
            taken = seconds(arguments, printed=name in ADDED)
            if number and taken is not None:
                times[name].append(taken)
    for name, values in times.items():
        print(f"{name:45}" + (f"{statistics.median(values):6.3f} s" if values else "  not installed"))


if __name__ == "__main__":
    main()
