"""Hostile input ends in an answer of finite numbers or in an error that says what to do: a short run of the attacks.

In a process of its own, without the checks of shapes that tests turn on: users have none.
"""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["seeds", "api", "command", "directories", "kills"])
def test_hostile_input_is_answered_or_refused(kind: str) -> None:
    words = [sys.executable, "-m", "tests.hostile", "--only", kind, "--minutes", "0.1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
