"""Time from a stroke to the picture on the page of `mvae serve` in a real Chromium, and the model's part of it.

    python benchmarks/serve.py runs/mnist

On Linux, the server is bound to one core. Times are in milliseconds: smallest, median and largest.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

STROKES = 20
WATCH = """() => {
    window.waited = []
    let start = null
    addEventListener('pointerup', () => { start = performance.now() }, true)
    new MutationObserver(() => {
        const first = document.querySelector("img[alt='a draw of image']")
        if (start !== null && first && first.src !== window.last) {
            requestAnimationFrame(() => { window.waited.push(performance.now() - start); start = null })
            window.last = first.src
        }
    }).observe(document.body, {subtree: true, childList: true, attributes: true})
    window.last = document.querySelector("img[alt='a draw of image']").src
}"""


def main(run: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    process = subprocess.Popen(
        [sys.executable, "-m", "mvae", "serve", str(run), "--port", str(port), "--device", "cpu"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {0})
        wait_for(address)
        print_times("POST /generate, 12 draws", [asked(address) for _ in range(STROKES)])
        print_times("stroke to picture", drawn(address))
    finally:
        process.terminate()
        process.wait()


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server does not answer")


def asked(address: str) -> float:
    """Milliseconds of one request by a script, given a label."""
    question = json.dumps({"given": {"label": 5}, "of": ["image"], "n": 12}).encode()
    request = urllib.request.Request(f"{address}generate", question, {"content-type": "application/json"})
    start = time.perf_counter()
    urllib.request.urlopen(request).read()
    return 1000 * (time.perf_counter() - start)


def drawn(address: str) -> list[float]:
    """Draw strokes on the page; the milliseconds from lifting the pen to new pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.goto(address)
        page.wait_for_selector("img[alt='a draw of image']", timeout=60_000)
        page.evaluate(WATCH)
        for number in range(STROKES):
            stroke(page, number)
            page.wait_for_function("count => window.waited.length > count", arg=number, timeout=60_000)
            page.wait_for_timeout(300)
        waited = page.evaluate("window.waited")
        browser.close()
    return waited


def stroke(page: Any, number: int) -> None:
    box = page.locator("canvas").first.bounding_box()
    x, y = box["x"] + box["width"] * (0.2 + 0.03 * number), box["y"] + box["height"] * 0.4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 10, y + 40, steps=4)
    page.mouse.up()


def print_times(name: str, times: list[float]) -> None:
    print(f"{name}: {min(times):.0f} {statistics.median(times):.0f} {max(times):.0f} ms ({len(times)} times)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
