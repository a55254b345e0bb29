"""Help, and the program itself."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from tests.command import assert_refused, mvae


def commands() -> list[str]:
    main = importlib.import_module("mvae.cli.main")
    return [*main.OWN, *main.commands()]


def test_help_of_every_command_has_an_example() -> None:
    assert {"train", "evaluate", "sample", "info"} <= set(commands())
    for command in commands():
        result = mvae(command, "--help")
        assert result.code == 0
        if command != "config":  # a group of commands
            assert f"Example:  mvae {command} " in result.out
            assert command == "serve" or "--json" in result.out  # a server answers in JSON at its endpoint
    assert "Start here:  mvae train digits" in mvae("-h").out


def test_an_option_of_several_commands_has_one_help_text() -> None:
    main = importlib.import_module("mvae.cli.main")
    found: dict[str, dict[str | None, str]] = {}
    for command in commands():
        for option in main.cli.get_command(None, command).params:
            if option.name in ("data_dir", "device", "as_json", "seed", "key", "missing", "fitted_prior"):
                text = option.help.split("  [default")[0]
                if (command, option.name) != ("train", "seed"):  # which is a key of the declaration
                    found.setdefault(option.name, {})[text] = command
    assert len(found) == 7
    assert not {name: texts for name, texts in found.items() if len(texts) > 1}


def test_threads_wait_without_spinning_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    mvae("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    mvae("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_misspelt_command_is_refused_and_no_command_prints_help() -> None:
    assert_refused(mvae("trian"), "No such command 'trian'")
    nothing = mvae()
    assert nothing.code == 2
    assert "Start here:  mvae train digits" in nothing.out + nothing.err


def test_module_runs_the_program_and_help_imports_nothing_heavy() -> None:
    """Runs two processes: `python -m mvae`, and one that prints the help of every command."""
    done = subprocess.run(
        [sys.executable, "-m", "mvae", "evaluate", "absent"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"mvae: absent is not a run directory: .*\n", done.stderr)
    code = f"""
import sys
from mvae.cli.main import cli
for command in [[], *([name] for name in {commands()})]:
    cli([*command, "--help"], standalone_mode=False)
cli(["--version"], standalone_mode=False)
heavy = {{"torch", "numpy", "sklearn", "PIL", "rich", "safetensors"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
