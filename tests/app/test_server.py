"""The endpoint and the page: checked questions, limits, this machine only, nothing from a network."""

import asyncio
import gc
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mvae.app.answers import Oracle
from mvae.app.server import HOST, bound
from mvae.app.values import MOST_BYTES
from mvae.errors import QueryError, RunError
from tests.command import assert_refused, mvae

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("gradio")


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """What Gradio leaves open (event loops, sockets) is closed here, and not while another test runs."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "digits"
    assert mvae("train", "digits", "--epochs", 1, "--run-dir", folder, "--device", "cpu", "--json").code == 0
    return folder


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[Any]:
    from starlette.testclient import TestClient

    from mvae.app.server import web_app

    with TestClient(web_app(Oracle.of_run(run)), base_url=f"http://{HOST}") as client:
        yield client


def test_a_question_is_answered_with_the_seed_it_names(client: Any) -> None:
    question = {"given": {"label": "5"}, "of": ["label", "image"], "n": 3, "seed": 1}
    first, again = (client.post("/generate", json=question) for _ in range(2))
    assert first.status_code == 200
    assert first.json() == again.json()
    found = first.json()
    assert found["given"] == ["label"]
    assert found["information"] >= 0
    assert len(found["answers"]["label"]["draws"]) == 3
    assert all(image.startswith("data:image/png;base64,") for image in found["answers"]["image"]["draws"])
    assert client.post("/generate", json={}).json()["given"] == []


@pytest.mark.parametrize(
    "question",
    [{"given": {"label": 55}}, {"given": {"nothing": 1}}, {"of": ["nothing"]}, {"n": 65}, {"n": 0}, {"other": 1}, []],
)
def test_a_wrong_question_is_refused(client: Any, question: Any) -> None:
    assert client.post("/generate", json=question).status_code == 422


def test_large_bodies_and_other_hosts_are_refused(client: Any) -> None:
    large = client.post("/generate", content=b" " * (MOST_BYTES + 1), headers={"content-type": "application/json"})
    assert large.status_code == 413
    upload = client.post("/gradio_api/upload", files={"files": b" " * (MOST_BYTES + 1)})
    assert upload.status_code == 413

    def unannounced() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 2**20 + 1):
            yield b" " * 2**20

    assert client.post("/generate", content=unannounced(), headers={"content-type": "application/json"}).is_client_error
    assert client.get("/", headers={"host": "example.com"}).status_code == 400


def test_the_page_may_load_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:", policy)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} cannot be used"):
            bound(port)


def test_what_cannot_be_served_is_refused(run: Path, tmp_path: Path) -> None:
    assert_refused(mvae("serve", tmp_path), "not a run directory")
    shutil.copytree(run, tmp_path / "half")
    (tmp_path / "half" / "checkpoint.safetensors").write_bytes(b"half")
    assert_refused(mvae("serve", tmp_path / "half"), "checkpoint")


def test_a_model_that_needs_a_condition_is_refused(tmp_path: Path) -> None:
    command = "train", "digits", "--set", "model.name=cvae", "--epochs", 1, "--device", "cpu", "--json"
    assert mvae(*command, "--run-dir", tmp_path / "cvae").code == 0
    with pytest.raises(QueryError, match="condition"):
        Oracle.of_run(tmp_path / "cvae")


def test_some_columns_of_a_table_are_given(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "hb,sex,visits\n" + "\n".join(f"{i % 7}.5,{'fm'[i % 2]},{i % 4}" for i in range(80))
    )
    train = "train", tmp_path / "p.csv", "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu", "--json"
    assert mvae(*train).code == 0
    oracle = Oracle.of_run(tmp_path / "run")
    (name,) = oracle.views
    given = oracle.row({name: {"sex": "m", "visits": 2}})
    found = oracle.answer(given, n=20, seed=0)["answers"][name]["columns"]
    assert set(found) == {"hb", "sex", "visits"}
    assert sum(found["sex"]["shares"].values()) == pytest.approx(1)
    assert found["hb"]["5 %"] < found["hb"]["95 %"]


# -- In a browser ----------------------------------------------------------------------------------------------------


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The program itself, on a free port."""
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
        process.wait()


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served(run) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def wait_for(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('#status')?.innerText.includes(text)", arg=text, timeout=60_000
    )


def pick(page: Any, label: str) -> None:
    page.get_by_label("label", exact=True).first.click()
    page.get_by_role("option", name=label, exact=True).click()


def test_a_person_draws_picks_clears_and_uploads(browser: Any, address: str) -> None:
    page, asked = browser.new_page(viewport={"width": 400, "height": 1600}), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    wait_for(page, "Nothing is given")
    page.get_by_role("button", name="Brush").first.click()
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
    page.get_by_text("it is no image").first.wait_for(timeout=60_000)
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


def test_names_that_are_html_are_text_on_the_page(browser: Any, tmp_path: Path) -> None:
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


def test_two_people_at_once_get_their_own_answers(browser: Any, address: str) -> None:
    pages = [browser.new_context().new_page() for _ in range(2)]
    for page in pages:
        page.goto(address)
    for page in pages:
        wait_for(page, "Nothing is given")
    pick(pages[0], "3")
    wait_for(pages[0], "Given: label")
    assert "Nothing is given" in pages[1].inner_text("#status")
