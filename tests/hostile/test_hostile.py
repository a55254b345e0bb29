"""Hostile input ends in an answer of finite numbers or in an error that says what to do: a short run of the attacks.

In a process of its own, without the checks of shapes that tests turn on: users have none.
"""

import subprocess
import sys


def test_hostile_input_is_answered_or_refused() -> None:
    words = [sys.executable, "-m", "tests.hostile", "--minutes", "0.2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
