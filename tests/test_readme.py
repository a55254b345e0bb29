"""The README's Python code, declaration and commands run, except for commands that need a download."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch

from mvae.runs.build import build
from mvae.runs.config import Config
from tests.command import mvae

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[number]


def test_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(block("python"), names)
    model, labs, sick = names["model"], names["labs"], names["sick"]
    found = model.predict({"labs": labs}, of="diagnosis").argmax(1)  # pyright: ignore
    assert (found == sick).float().mean() > 0.75
    assert (tmp_path / "patients.mvae").exists()


def test_readme_declaration_is_valid() -> None:
    config = Config.from_dict(tomllib.loads(block("toml")))
    shapes = {"modalities": {"labs": {"shape": [2]}, "diagnosis": {"classes": 3}}}  # otherwise read from the data
    assert build(config.change(shapes)).names == ("labs", "diagnosis")


def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, with fewer epochs, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line.partition("#")[0]) for line in block("sh", 2).splitlines()]
    for line in lines:
        assert line[0] == "mvae"
        words = line[1:]
        if words[0] == "translate" or "--resume" in words:  # needs a longer run, or a stopped one
            continue
        if ">" in words:
            at = words.index(">")
            (tmp_path / words[at + 1]).write_text(mvae(*words[:at]).out)
            continue
        few = {"train": ["--epochs", 1, "--set", "data.source=digits"], "evaluate": ["--rows", 5]}.get(words[0], [])
        if "run.toml" in words:  # MNIST may be absent: the declaration is read, and refused because of its shape
            assert mvae(*words, *few).code == 2
            continue
        result = mvae(*words, *few)
        assert result.code == 0, (words, result.err)
