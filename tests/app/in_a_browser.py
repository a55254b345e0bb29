"""The page in a real Chromium; ``test_browser.py`` runs this file in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from mvae.app.server import HOST
from tests.command import mvae

pytestmark = pytest.mark.filterwarnings("ignore")
#: A container's shared memory is often too small for a browser, and it may have no graphics.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Serve the run with `mvae serve` on a free port."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "mvae", "serve", str(run), "--port", str(port)])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://{HOST}:{port}/"
    finally:
        process.terminate()
        process.wait(30)  # it stops even while pages are open


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = tmp_path_factory.mktemp("app") / "digits"
    assert mvae("train", "digits", "--epochs", 1, "--run-dir", run, "--device", "cpu", "--json").code == 0
    with served(run) as address:
        yield address


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["MVAE_CHROMIUM"], args=FLAGS)
        yield browser
        browser.close()


def wait_for(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('#status')?.innerText.includes(text)", arg=text, timeout=60_000
    )


def pick(page: Any, label: str) -> None:
    page.get_by_label("label", exact=True).first.click()
    page.get_by_role("option", name=label, exact=True).click()


def test_drawing_picking_clearing_and_uploading_work(browser: Any, address: str) -> None:
    page, requests = browser.new_page(viewport={"width": 400, "height": 1600}), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    wait_for(page, "Nothing is given")
    box = page.locator("canvas").first.bounding_box()
    for step in range(10):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (0.3 + 0.04 * step))
        if step == 0:
            page.mouse.down()
    page.mouse.up()
    wait_for(page, "Given: image")
    page.get_by_role("button", name="Clear everything").click()
    wait_for(page, "Nothing is given")
    pick(page, "5")
    wait_for(page, "Given: label")
    assert page.locator("img[alt='a draw of image']").count() == 12
    broken = {"name": "x.png", "mimeType": "image/png", "buffer": b"broken"}
    page.locator("input[type=file]").last.set_input_files(broken)
    page.get_by_text("it is not an image").first.wait_for(timeout=60_000)
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)


def test_names_that_are_html_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    name, word = "<img src=x onerror=alert(1)>", "<script>alert(2)</script>"
    rows = "\n".join(f"{i % 7}.5,{word if i % 2 else 'b'}" for i in range(80))
    (tmp_path / "t.csv").write_text(f"{name},ward\n{rows}\n")
    train = "train", tmp_path / "t.csv", "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu", "--json"
    assert mvae(*train).code == 0
    with served(tmp_path / "run") as address:
        page, dialogs = browser.new_page(), []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        wait_for(page, "Nothing is given")
        page.get_by_label("ward", exact=True).first.click()
        page.get_by_role("option", name=word, exact=True).click()
        wait_for(page, "Given: ward")
        assert page.get_by_text(name).count() > 0
        assert page.locator("img[src=x]").count() == 0
        assert not dialogs


def test_two_visitors_get_their_own_answers(browser: Any, address: str) -> None:
    pages = [browser.new_context().new_page() for _ in range(2)]
    for page in pages:
        page.goto(address)
    for page in pages:
        wait_for(page, "Nothing is given")
    pick(pages[0], "3")
    wait_for(pages[0], "Given: label")
    assert "Nothing is given" in pages[1].inner_text("#status")
