"""Attacks on the command line: a grammar of commands, with unusual values for options, files and run directories."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.command import Result, mvae
from tests.hostile.outcomes import SECONDS, Hangs, time_limit

LONG = "a" * 300
NUMBERS = ["0", "1", "2", "-1", "nan", "inf", "1e-320", "1e400", "9" * 400, str(10**12), str(10**30), "2.5", "x", ""]
PATHS = ["", ".", "/", "~nouser", "~nouser/x", LONG, "fifo", "broken", "loop", "empty", "/dev/null", "/dev/full",
         "/dev/zero", "missing/x", "a\nb", "é", "-", "data.npz", "junk.toml", "run/run.json", "/etc/passwd/x",
         "junk.png"]  # fmt: skip
GIVEN = ["label=1", "label=99", "label=", "label", "=1", "x=1,2", "x=1,2,3", "x=nan,1,1", "x=" + "1," * 50,
    "x=" + "9" * 400,
         "zz=1", "label=1=1", "x=1e400,0,0"]  # fmt: skip
CHANGES = ["model.latents=1000000000000", "model.latents=0", "model.name=os:system", "model.name=builtins:int",
           "model.name=:", "model.name=zz", "model.random_subsets=1000000", "model.cross_share=nan", "data.rows=0",
           "data.oversample=1000000000000", "data.paired_fraction=1e-320", "data.keep_probability=1e-320",
           "modalities.x.weight=inf", "modalities.x.weight=1e300", "modalities.x.shape=[-1]", "modalities.x.shape=[0]",
           "modalities.x.shape=[]", "modalities.x.shape=[100000000,100000000]", "modalities.label.classes=10000000000",
           "modalities.x.kind=zz", "modalities.x.augment=[{name='shift',pixels=1000000}]",
           "modalities.x.augment=[{name='noise',std=1e400}]",
           "modalities.x.encoder={network='mlp',hidden=[1000000000000]}",
           "training.beta=1e300", "training.weight_decay=1e300", "training.optimizer=zz", "model.modalities=[]", "x",
           "=",
           "a.b.c=[[[", "seed=1e9", "evaluation.show=['zz=1']", "start_from=missing", "start_from=run",
           "data.test=nan",
           "training.learning_rate=1e20", "training.clip_norm=1e-320", "variants={a={}}"]  # fmt: skip


def prepared(folder: Path) -> None:
    """Make a small run on a data file, and the unusual files in PATHS."""
    draw = np.random.default_rng(0)
    label = np.arange(60) % 3
    np.savez(folder / "data.npz", x=(label[:, None] + draw.normal(size=(60, 3))).astype("f4"), label=label)
    os.mkfifo(folder / "fifo")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "empty").touch()
    (folder / "junk.png").write_bytes(b"no picture")
    (folder / "junk.toml").write_text("x = [")
    with inside(folder):
        made = run(["train", "data.npz", "--epochs", "2", "--run-dir", "run", "--set", "model.latents=2"])
    if made.code:
        raise RuntimeError(f"the run that is attacked cannot be trained: {made.err}")


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(arguments: list[str]) -> Result:
    before, sys.stdin = sys.stdin, io.StringIO()
    try:
        return mvae(*arguments)
    finally:
        sys.stdin = before


def fault(arguments: list[str]) -> tuple[str | None, bool]:
    """The fault of a command, if any, and whether it was refused."""
    try:
        with time_limit():
            result = run(arguments)
    except Hangs:
        return f"hangs: no end after {SECONDS} s", False
    except BaseException as error:
        return f"foreign {type(error).__name__}: {' '.join(str(error).split())[:160]}", False
    return fault_of_result(result), result.code != 0


def fault_of_result(result: Result) -> str | None:
    if "Traceback" in result.err:
        return "a traceback"
    if result.code not in (0, 1, 2):
        return f"exit code {result.code}"
    if result.code and "mvae: " not in result.err and "Usage" not in result.err:
        return f"exit code {result.code} without a message"
    return None


@st.composite
def cases(draw: st.DrawFn) -> list[str]:
    """The words of a command."""
    command = draw(
        st.sampled_from(["train", "evaluate", "sample", "info", "translate", "config", "score", "reproduce"])
    )
    path, number = st.sampled_from(PATHS), st.sampled_from(NUMBERS)
    where = draw(st.one_of(st.just("run"), path))
    options = {
        "train": {"--epochs": number, "--batch-size": number, "--learning-rate": number, "--seed": number,
                  "--set": st.sampled_from(CHANGES), "--run-dir": path, "--device": path, "--variant": path},
        "evaluate": {"--rows": number, "--samples": number, "--seed": number, "--proposal": path, "--device": path},
        "sample": {"--n": number, "--given": st.sampled_from(GIVEN), "--of": path, "--output": path, "--seed": number},
        "info": {"--plot": path},
        "translate": {"--to": path, "--from": path, "--n": number, "--width": number, "--method": path},
        "config": {},
        "score": {"--rows": number, "--samples": number, "--record": path},
        "reproduce": {"--seeds": number, "--levels": number, "--budget": path, "--recipes": path, "--jobs": number},
    }[command]  # fmt: skip
    subject = {"train": st.sampled_from(["data.npz", *PATHS]), "config": st.sampled_from(["list", "show", "schema",
    "zz"]),
               "reproduce": st.sampled_from(["table0", "zz", "", "figure0"])}.get(command, st.just(where))  # fmt: skip
    words = [command, draw(subject)]
    if command == "train" and words[1] == "data.npz":
        words += ["--epochs", "1", "--run-dir", "made"]
    for option in draw(st.lists(st.sampled_from(sorted(options)), max_size=2, unique=True)) if options else []:
        words += [option, draw(options[option])]
    return [*words, "--json"] if command not in ("config", "train") and draw(st.booleans()) else words
