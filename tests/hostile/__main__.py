"""`python -m tests.hostile --minutes 30`: random attacks for that time; prints faults, and can record counts."""

import argparse
import contextlib
import inspect
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings

from mvae.paper.results import add_rows, new_row
from mvae.provenance import circumstances
from tests.hostile import api, command, directories, kills, seeds
from tests.hostile.outcomes import Count, outcome

SHARES = {"seeds": 0.0, "api": 0.35, "command": 0.15, "directories": 0.15, "kills": 0.35}
CHUNK = 100  # cases between looks at the clock


def explored(cases: Any, attack: Callable[[Any], None], seconds: float) -> None:
    """Attack with cases that hypothesis draws, until the time is over."""
    end = time.monotonic() + seconds
    how = settings(
        max_examples=CHUNK,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType],
    )

    class Over(BaseException):
        """The time is over."""

    @how
    @given(cases)
    def explore(case: Any) -> None:
        if time.monotonic() > end:
            raise Over
        attack(case)

    with contextlib.suppress(Over):
        while time.monotonic() < end:
            explore()


def attack_seeds(folder: Path) -> Count:
    count = Count()
    for attack in seeds.SEEDS:
        given = (folder,) if "folder" in inspect.signature(attack).parameters else ()
        count.add(attack.__name__, outcome(lambda attack=attack, given=given: attack(*given))[0])
    return count


def attack_api(seconds: float, folder: Path) -> Count:
    """Attack in a separate folder, because random paths may become files."""
    count = Count()

    def attack(case: tuple[str, Callable[[], Any]]) -> None:
        count.add(case[0], *outcome(case[1]))

    with tempfile.TemporaryDirectory(dir=folder) as own, contextlib.chdir(own):
        explored(api.cases(), attack, seconds)
    return count


def attack_command(seconds: float, folder: Path) -> Count:
    count = Count()

    def attack(words: list[str]) -> None:
        count.add("mvae " + " ".join(map(repr, words))[:200], *command.fault(words))
        shutil.rmtree("made", ignore_errors=True)

    with command.inside(folder):
        explored(command.cases(), attack, seconds)
    return count


def attack_directories(seconds: float, folder: Path) -> Count:
    count = Count()
    shutil.copytree(folder / "run", folder / "whole")
    with command.inside(folder):
        whole = {" ".join(words): command.run(words).out for words in directories.COMMANDS}

    def attack(case: tuple[str, list[str]]) -> None:
        change, words = case
        count.add(f"{' '.join(words)} after {change}", *directories.fault(folder, change, words, whole))

    explored(directories.cases(folder), attack, seconds)
    return count


def attack_kills(seconds: float, folder: Path, chance: random.Random) -> tuple[Count, int]:
    count, all_kills, end = Count(), 0, time.monotonic() + seconds
    took = kills.whole(folder / "truth")
    while time.monotonic() < end:
        fault, number = kills.series(folder / "killed", folder / "truth", took, chance)
        all_kills += number
        count.add(f"series {count.cases + 1}", fault)
    return count, all_kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", choices=sorted(SHARES), action="append")
    parser.add_argument("--record", type=Path, help="Add the counts to the rows of results in this file.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # from pandas and NumPy, about unusual columns
    kinds = options.only or list(SHARES)
    share = 60 * options.minutes / max(0.1, sum(SHARES[kind] for kind in kinds))
    counts: dict[str, Count] = {}
    more = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        command.prepared(folder)
        if "seeds" in kinds:
            counts["seeds"] = attack_seeds(folder)
        if "kills" in kinds:
            counts["kills"], more["kills"] = attack_kills(share * SHARES["kills"], folder, random.Random())
        if "directories" in kinds:
            counts["directories"] = attack_directories(share * SHARES["directories"], folder)
        if "command" in kinds:
            counts["command"] = attack_command(share * SHARES["command"], folder)
        if "api" in kinds:
            counts["api"] = attack_api(share * SHARES["api"], folder)
    for kind, count in counts.items():
        print(f"{kind}: {count.cases} cases, {count.refused} refused, {count.faulty} faults")
        for fault, names in sorted(count.faults.items()):
            print(f"  {fault} ({len(names)} times, first {' '.join(names[0].split())})")
    if options.record is not None:
        _record(options.record, options.minutes, counts, more)
    return int(any(count.faults for count in counts.values()))


def _record(path: Path, minutes: float, counts: dict[str, Count], more: dict[str, int]) -> None:
    shared = {"dataset": "hostile", "model": "mvae", "budget": "laptop", "recipe": "", "seed": 0}
    shared |= {"command": " ".join(["python -m tests.hostile", *sys.argv[1:]])} | circumstances(torch.device("cpu"))
    rows = []
    for kind, count in counts.items():
        own = {"refused": count.refused, "minutes": minutes} | ({"kills": more["kills"]} if kind == "kills" else {})
        rows.append(new_row("robustness", kind, count.faulty, None, shared | {"n": count.cases, "settings": own}))
    add_rows(path, rows)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # without waiting for threads that libraries have left
