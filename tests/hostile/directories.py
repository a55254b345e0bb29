"""Attacks on a run directory: changed bytes, JSON values and tensors. It is refused, or gives the same numbers."""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mvae.files import load_state, save_state
from tests.hostile.command import fault_of_result, inside, run
from tests.hostile.outcomes import SECONDS, Hangs, time_limit

UNUSUAL = [None, True, -1, 0, 99, 2.5, 10**9, 10**30, math.nan, math.inf, "", "x", [], ["x"], {}, {"x": 1}, "[" * 3]
COMMANDS = [["info", "run"], ["info", "run", "--json"], ["evaluate", "run", "--rows", "5", "--samples", "20",
    "--json"],
            ["train", "data.npz", "--epochs", "2", "--run-dir", "run", "--set", "model.latents=2",
            "--resume"]]  # fmt: skip


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in paths_in(one, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], unusual: Any) -> Any:
    """JSON with one value changed."""
    if not path:
        return unusual
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], unusual)
    return copy


def _json(draw: st.DrawFn, directory: Path) -> str:
    stored = json.loads((directory / "run.json").read_text())
    path = draw(st.sampled_from(paths_in(stored)))
    unusual = draw(st.sampled_from(UNUSUAL))
    (directory / "run.json").write_text(json.dumps(replaced(stored, path, unusual)))
    return f"run.json {path} = {unusual!r}"


def _metrics(draw: st.DrawFn, directory: Path) -> str:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    key, unusual = draw(st.sampled_from(sorted(row))), draw(st.sampled_from(UNUSUAL))
    lines[0] = draw(st.sampled_from([json.dumps(row | {key: unusual}), json.dumps(unusual), "[" * 100_000, "{", ""]))
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return f"metrics.jsonl {lines[0][:60]}"


def _bytes(draw: st.DrawFn, directory: Path) -> str:
    name = draw(st.sampled_from(["run.json", "metrics.jsonl", "checkpoint.safetensors"]))
    content = bytearray((directory / name).read_bytes())
    at = draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):
        content[at] ^= 1 << draw(st.integers(0, 7))
    else:
        del content[at:]
    (directory / name).write_bytes(content)
    return f"{name}: byte {at}"


def _header(draw: st.DrawFn, directory: Path) -> str:
    """Change the header; the checksum is valid."""
    file = directory / "checkpoint.safetensors"
    tensors, info = load_state(file)
    key, unusual = draw(st.sampled_from(paths_in(info))), draw(st.sampled_from(UNUSUAL))
    changed = replaced(info, key, unusual)
    save_state(file, tensors, changed)
    return f"header {key} = {unusual!r}"


def _tensors(draw: st.DrawFn, directory: Path) -> str:
    """Change a tensor; the checksum is valid."""
    file = directory / "checkpoint.safetensors"
    tensors, info = load_state(file)
    name = draw(st.sampled_from(sorted(tensors)))
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
        "NaN": lambda t: torch.full_like(t, math.nan) if t.is_floating_point() else t + 1,
        "infinite": lambda t: torch.full_like(t, math.inf) if t.is_floating_point() else None,
        "int8": lambda t: t.to(torch.int8),
        "complex": lambda t: t.to(torch.complex64),
        "other shape": lambda t: t.reshape(-1)[:1].repeat(7),
        "gone": lambda t: None,
    }
    how = draw(st.sampled_from(sorted(changes)))
    made = changes[how](tensors.pop(name))
    save_state(file, tensors if made is None else tensors | {name: made}, info)
    return f"tensor {name}: {how}"


def _foreign(draw: st.DrawFn, directory: Path) -> str:
    """Write a safetensors file that is not mvae's."""
    file = directory / "checkpoint.safetensors"
    metadata = draw(
        st.sampled_from([None, {}, {"info": "[" * 100_000, "checksum": ""}, {"info": "3", "checksum": "x"}])
    )
    if draw(st.booleans()):
        file.write_bytes(struct.pack("<Q", 2**60) + b"{}")
        return "header of 2⁶⁰ bytes"
    tensors = load_file(file)
    save_file(tensors, file, metadata)
    return f"metadata {str(metadata)[:40]}"


MUTATIONS = [_json, _metrics, _bytes, _header, _tensors, _foreign]


@st.composite
def cases(draw: st.DrawFn, folder: Path) -> tuple[str, list[str]]:
    """Damage the folder's run, and choose a command for it; ``whole`` keeps the original run."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "run")
    change = draw(st.sampled_from(MUTATIONS))(draw, folder / "run")
    return change, draw(st.sampled_from(COMMANDS))


def fault(folder: Path, change: str, words: list[str], whole: dict[str, str]) -> tuple[str | None, bool]:
    """The fault of the command, if any, and whether it was refused."""
    try:
        with time_limit(), inside(folder):
            result = run(words)
    except Hangs:
        return f"hangs: no end after {SECONDS} s", False
    except BaseException as error:
        return f"foreign {type(error).__name__}: {' '.join(str(error).split())[:160]}", False
    wrong = fault_of_result(result)
    of_values = words[0] == "evaluate" and "run.json" not in change and "header" not in change
    if wrong is None and result.code == 0 and of_values and result.out != whole[" ".join(words)]:
        wrong = "other numbers, and exit code 0"
    return wrong, result.code != 0
