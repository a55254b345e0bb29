"""The page in a real Chromium, in a process of its own that is ended in time: a browser that hangs holds up no test."""

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
#: The browser's own end, which says nothing of the page.
DIED = "Target crashed", "has been closed", "Failed to launch", "Browser closed"


def test_a_person_at_the_page(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    said = tmp_path / "said.txt"  # no pipe: what the browser leaves behind would keep it open
    with said.open("w") as file:
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
    told = said.read_text()[-4000:]
    if code is None or (code != 0 and any(words in told for words in DIED)):
        pytest.skip(f"Chromium does not work on this machine: {told[-300:]}")
    assert code == 0, told
