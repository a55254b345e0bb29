"""Hostile input ends in finite numbers or in an error that says what to do: a short run of the attacks.

In a separate process, without the run-time checks of shapes in tests, as users run it.
"""

import subprocess
import sys


def test_hostile_input_is_answered_or_refused() -> None:
    words = [sys.executable, "-m", "tests.hostile", "--minutes", "0.2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
