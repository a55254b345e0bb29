"""The page in a real Chromium, in a process with a time limit, so that a hanging browser blocks no test."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 300  # seconds; 45 on two cores
ROOT = Path(__file__).parents[2]
#: Signs that the browser itself failed, not the page.
DIED = "Target crashed", "has been closed", "Failed to launch", "Browser closed"


def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    log = tmp_path / "log.txt"  # not a pipe: processes that the browser leaves behind would keep it open
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/app/in_a_browser.py"],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
            | {"MVAE_CHROMIUM": chromium},
            start_new_session=True,
        )
        try:
            code = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    output = log.read_text()[-4000:]
    if code is None or (code != 0 and any(words in output for words in DIED)):
        pytest.skip(f"Chromium does not work on this machine: {output[-300:]}")
    assert code == 0, output
