"""The server and its page: validated queries, limits, local access only, and nothing loaded from a network."""

import asyncio
import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import mvae as mvae_package
from mvae.app.answers import Oracle
from mvae.app.server import HOST, bound
from mvae.app.values import MOST_BYTES
from mvae.data.vocabulary import Vocabulary
from mvae.errors import QueryError, RunError
from mvae.runs.run import open_run
from mvae.runs.tables import load_table
from tests.command import assert_refused, mvae
from tests.patients import csv_of, patients, pd

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("gradio")


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Close what Gradio leaves open (event loops, sockets) here, not while another test runs."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
        gc.collect()


def free_port() -> int:
    with socket.socket() as other:
        other.bind((HOST, 0))
        return other.getsockname()[1]


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


def test_a_query_is_answered_with_its_seed(client: Any) -> None:
    query = {"given": {"label": "5"}, "of": ["label", "image"], "n": 3, "seed": 1}
    first, again = (client.post("/generate", json=query) for _ in range(2))
    assert first.status_code == 200
    assert first.json() == again.json()
    found = first.json()
    assert found["given"] == ["label"]
    assert found["information"] >= 0
    assert len(found["answers"]["label"]["draws"]) == 3
    assert all(image.startswith("data:image/png;base64,") for image in found["answers"]["image"]["draws"])
    assert client.post("/generate", json={}).json()["given"] == []
    assert found["unknown"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"given": {"label": 55}}, "label: one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 is needed, not '55'"),
        ({"given": {"nothing": 1}}, "no modality 'nothing' in this model; it has image, label"),
        ({"of": ["nothing"]}, "no modality 'nothing' in this model; it has image, label"),
        ({"n": 65}, "n: Input should be less than or equal to 64"),
        ({"n": 0}, "n: Input should be greater than or equal to 1"),
        ({"gven": {}}, "there is no 'gven'; there are given, of, n, seed (did you mean 'given'?)"),
        ([], 'the body must be a JSON object such as {"given": {}}, sent with Content-Type: application/json'),
    ],
)
def test_an_invalid_query_is_refused_with_a_sentence(client: Any, query: Any, said: str) -> None:
    answer = client.post("/generate", json=query)
    assert answer.status_code == 422
    assert answer.json() == {"detail": said}


def test_words_that_a_text_modality_does_not_know_are_named() -> None:
    codecs = {"note": Vocabulary.of([["a", "cat"]], 9).codec(4)}
    oracle = Oracle("x", cast("Any", None), {}, codecs)
    assert oracle.unknown_words({"note": "a dog and a dog", "hb": 3}) == ["dog", "and"]


def test_a_body_that_is_not_json_is_refused_with_a_sentence(client: Any) -> None:
    bad = client.post("/generate", content=b"{bad", headers={"content-type": "application/json"})
    assert bad.json()["detail"].startswith("the body is not JSON: ")
    form = client.post("/generate", content=b"{}", headers={"content-type": "application/x-www-form-urlencoded"})
    assert form.json()["detail"].startswith("the body must be a JSON object")


@pytest.mark.parametrize(
    "body", ['{"n": NaN}', '{"n": 1e400}', '{"seed": "\\ud800"}', '{"\\ud800": 1}', '{"given": {"\\ud800": 1}}']
)
def test_a_value_that_json_cannot_repeat_is_refused(client: Any, body: str) -> None:
    """These were errors of the server (500)."""
    answer = client.post("/generate", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


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


def test_the_page_loads_nothing_from_other_hosts(client: Any) -> None:
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


def test_a_port_of_a_server_that_is_starting_is_in_use() -> None:
    """Both servers started were told that the port is theirs."""
    with bound(free_port()) as first, pytest.raises(RunError, match="cannot be used"):
        bound(first.getsockname()[1])


def test_nothing_is_printed_if_the_server_cannot_start(run: Path, tmp_path: Path) -> None:
    """The address was."""
    (tmp_path / "uvicorn.py").write_text("raise ImportError")
    source = Path(mvae_package.__file__).parents[1]
    command = [sys.executable, "-m", "mvae", "serve", str(run), "--port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pages need uvicorn: pip install 'mvae[app]'" in done.stderr


def test_invalid_run_directories_are_refused(run: Path, tmp_path: Path) -> None:
    assert_refused(mvae("serve", tmp_path), "not a run directory")
    shutil.copytree(run, tmp_path / "half")
    (tmp_path / "half" / "checkpoint.safetensors").write_bytes(b"half")
    assert_refused(mvae("serve", tmp_path / "half"), "checkpoint")


def test_a_model_that_needs_a_condition_is_refused(tmp_path: Path) -> None:
    command = "train", "digits", "--set", "model.name=cvae", "--epochs", 1, "--device", "cpu", "--json"
    assert mvae(*command, "--run-dir", tmp_path / "cvae").code == 0
    with pytest.raises(QueryError, match="condition"):
        Oracle.of_run(tmp_path / "cvae")


def test_some_columns_of_a_table_may_be_given(tmp_path: Path) -> None:
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


def test_answers_for_columns_match_predict_and_given_ones_are_kept(tmp_path: Path) -> None:
    train = "train", csv_of(patients(), tmp_path), "--epochs", 20, "--run-dir", tmp_path / "run", "--device", "cpu"
    assert mvae(*train, "--json").code == 0
    oracle, table = Oracle.of_run(tmp_path / "run"), load_table(tmp_path / "run")
    (name,) = oracle.views
    for given in ({"stage": 3, "crp": 5.123456}, {}):
        row = oracle.row({name: given}) if given else {}
        found = oracle.answer(row, n=20, seed=0)["answers"][name]["columns"]
        cells = pd.DataFrame({key: [str(given[key]) if key in given else None] for key in table.schema.seen})
        for of in ("hb", "visits", "share", "visit"):
            said = table.predict(cells, of, interval=0.9, seed=0).iloc[0]
            ends = [said[f"{of}.low"], said[f"{of}.high"]]
            assert [found[of]["5 %"], found[of]["95 %"]] == (
                [str(end.date()) for end in ends] if of == "visit" else ends
            )
            assert len(found[of]["draws"]) == 20
        chances = table.predict(cells, "city", seed=0).iloc[0]
        for city, share in found["city"]["shares"].items():
            assert share == pytest.approx(chances[f"city={city}"], abs=0.1)
        assert all(isinstance(draw, int) for draw in found["visits"]["draws"])
        assert all(draw == round(draw, 1) for draw in found["hb"]["draws"])
    row = oracle.row({name: {"stage": 3, "crp": 5.123456, "visits": 4}})
    found = oracle.answer(row, n=3, seed=1)["answers"][name]["columns"]
    assert found["stage"] == {"draws": ["3"] * 3, "shares": {"3": 1.0}}
    assert found["crp"] == {"draws": [5.123456] * 3, "median": 5.123456, "5 %": 5.123456, "95 %": 5.123456}
    assert found["visits"]["draws"] == [4] * 3


def test_number_and_date_formats_are_those_of_the_table(tmp_path: Path) -> None:
    lines = [f"{i % 7},{i % 10};0{1 + i % 9}.0{1 + i % 7}.2023" for i in range(60)]
    (tmp_path / "p.csv").write_text("hb;visit\n" + "\n".join(lines))
    train = "train", tmp_path / "p.csv", "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu", "--json"
    assert mvae(*train).code == 0
    (view,) = Oracle.of_run(tmp_path / "run").views.values()
    assert [(field.style, field.form) for field in view.fields] == [("1.234,5", ""), ("1234.5", "%d.%m.%Y")]


def test_a_text_of_a_table_may_be_given(tmp_path: Path) -> None:
    """A typed text is encoded as in the training rows."""
    lines = [f"{i % 7}.5,{('all is well', 'pale and tired')[i % 2]}" for i in range(80)]
    (tmp_path / "p.csv").write_text("hb,note\n" + "\n".join(lines))
    (tmp_path / "p.toml").write_text(
        f"[data]\nsource = '{tmp_path / 'p.csv'}'\n[modalities.p]\nkind = 'columns'\ncolumns = ['hb']\n"
        "[modalities.note]\nkind = 'text'\n[training]\nepochs = 1\n"
    )
    train = "train", tmp_path / "p.toml", "--run-dir", tmp_path / "run", "--device", "cpu", "--json"
    assert mvae(*train).code == 0
    oracle, run = Oracle.of_run(tmp_path / "run"), open_run(tmp_path / "run")
    row = oracle.row({"note": "pale and tired"})["note"]
    assert (torch.as_tensor(run.data.train["note"]) == row).all(1).any()
    assert "hb" in oracle.answer({"note": row}, n=4, seed=0)["answers"]["p"]["columns"]
