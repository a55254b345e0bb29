import errno
import gzip
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mvae.data.download import cache_directory, decompressed_sha256, fetch
from mvae.errors import DataError

NAME = "t10k-labels-idx1-ubyte.gz"
ORIGINAL = os.urandom(50_000)
CONTENT = gzip.compress(ORIGINAL)
SHA256 = hashlib.sha256(ORIGINAL).hexdigest()


class Server(ThreadingHTTPServer):
    """A server with one folder per behaviour: /good/ honours Range, the others do what their names say."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.release = threading.Event()

    def mirror(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{folder}/"

    @property
    def folders(self) -> list[str]:
        return [path.split("/")[1] for path, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self):
        span = self.headers.get("Range")
        self.server.requests.append((self.path, span))
        folder = self.path.split("/")[1]
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if folder == "absent":
            self.send_error(404)
        elif folder == "silent":
            self.server.release.wait(10)
        elif folder == "corrupt":
            self.answer(200, CONTENT[:1000] + bytes(20) + CONTENT[1020:])
        elif folder == "truncated":
            self.answer(200, CONTENT[:-100])
        elif folder == "other":
            self.answer(200, gzip.compress(b"another file"))
        elif folder == "plain":
            self.answer(200, ORIGINAL)
        elif folder == "norange" or (folder in ("good", "wrongrange", "breaking") and not span):
            self.answer(200, CONTENT, cut=len(CONTENT) // 2 if folder == "breaking" else None)
        elif folder == "wrongrange":
            self.answer(206, CONTENT, start=0)
        elif folder == "good" and start >= len(CONTENT):
            self.send_error(416)
        elif folder in ("good", "breaking"):
            self.answer(206, CONTENT[start:], start=start)

    def answer(self, status: int, body: bytes, start: int | None = None, cut: int | None = None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object):
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def get(server: Server, directory: Path, *folders: str, timeout: float = 10.0) -> Path:
    path = fetch(NAME, [server.mirror(folder) for folder in folders], SHA256, directory, timeout=timeout)
    assert path == directory / NAME
    assert path.read_bytes() == CONTENT
    assert os.listdir(directory) == [NAME]  # neither a .part nor a lock is left
    return path


def refusal(server: Server, directory: Path, *folders: str, timeout: float = 10.0) -> str:
    with pytest.raises(DataError) as caught:
        get(server, directory, *folders, timeout=timeout)
    assert not (directory / NAME).exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_downloaded_to_a_new_directory(server: Server, tmp_path: Path, caplog, capfd):
    with caplog.at_level(logging.INFO, "mvae.data"):
        get(server, tmp_path / "made" / "here", "good", "absent")
    assert server.requests == [(f"/good/{NAME}", None)]
    assert [record.getMessage() for record in caplog.records] == [f"downloading {server.mirror('good')}{NAME}"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("folder", ["good", "norange", "breaking"])
@pytest.mark.parametrize("kept", [0, 100])
def test_a_download_above_the_limit_is_refused(server: Server, tmp_path: Path, folder: str, kept: int):
    if kept:
        (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:kept])
    most = len(CONTENT) // 2 - 1
    with pytest.raises(DataError, match=f"it sends more than {most:,} bytes"):
        fetch(NAME, [server.mirror(folder)], SHA256, tmp_path, most=most)
    assert os.listdir(tmp_path) == []


def test_hashing_stops_at_the_limit(tmp_path: Path):
    (tmp_path / NAME).write_bytes(gzip.compress(bytes(10**6)))
    assert decompressed_sha256(tmp_path / NAME, most=10**6 - 1) is None
    assert decompressed_sha256(tmp_path / NAME, most=10**6) == hashlib.sha256(bytes(10**6)).hexdigest()


def test_an_existing_file_is_not_downloaded_again(server: Server, tmp_path: Path):
    for _ in range(2):
        get(server, tmp_path, "good")
    assert len(server.requests) == 1


@pytest.mark.parametrize("kept", [1, len(CONTENT) // 2, len(CONTENT) - 1])
def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, kept: int):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:kept])
    get(server, tmp_path, "good")
    assert server.requests == [(f"/good/{NAME}", f"bytes={kept}-")]


def test_a_complete_part_is_only_verified(server: Server, tmp_path: Path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    get(server, tmp_path, "good")
    assert server.requests == [(f"/good/{NAME}", f"bytes={len(CONTENT)}-")]


def test_a_server_that_ignores_range_restarts_the_download(server: Server, tmp_path: Path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    get(server, tmp_path, "norange")
    assert len(server.requests) == 1


def test_a_broken_connection_is_resumed_at_the_next_mirror(server: Server, tmp_path: Path):
    get(server, tmp_path, "breaking", "good")
    assert server.requests == [(f"/breaking/{NAME}", None), (f"/good/{NAME}", f"bytes={len(CONTENT) // 2}-")]


def test_a_broken_connection_is_resumed_by_the_next_run(server: Server, tmp_path: Path):
    half = len(CONTENT) // 2
    message = refusal(server, tmp_path, "breaking")
    assert f"the connection closed after {half} of {len(CONTENT)} bytes" in message
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:half]
    get(server, tmp_path, "breaking")


@pytest.mark.parametrize("damaged", [bytes(1000), bytes(len(CONTENT)), bytes(len(CONTENT) + 7), b"\x1f\x8b" * 99])
def test_a_damaged_part_is_discarded(server: Server, tmp_path: Path, damaged: bytes):
    (tmp_path / f"{NAME}.part").write_bytes(damaged)
    get(server, tmp_path, "good")
    assert [span for _, span in server.requests] == [f"bytes={len(damaged)}-", None]


def test_a_wrong_range_is_not_appended(server: Server, tmp_path: Path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    get(server, tmp_path, "wrongrange", "good")
    assert server.requests == [(f"/wrongrange/{NAME}", "bytes=1000-"), (f"/good/{NAME}", None)]


@pytest.mark.parametrize("first", ["absent", "corrupt", "truncated", "other"])
def test_a_bad_mirror_is_followed_by_the_next(server: Server, tmp_path: Path, first: str):
    get(server, tmp_path, first, "good")
    assert server.folders == [first, "good"]
    assert server.requests[1][1] is None  # no part of the bad file is kept


def test_a_silent_mirror_times_out(server: Server, tmp_path: Path):
    get(server, tmp_path, "silent", "good", timeout=0.2)
    assert server.folders == ["silent", "good"]


def test_only_the_decompressed_bytes_are_verified(server: Server, tmp_path: Path):
    """Some servers decompress the file, and repacked files differ only in their gzip bytes."""
    path = fetch(NAME, [server.mirror("plain")], SHA256, tmp_path)
    assert path.read_bytes() == ORIGINAL
    assert decompressed_sha256(path) == SHA256


def test_if_all_mirrors_fail_the_error_gives_each_reason_and_a_remedy(server: Server, tmp_path: Path):
    folders = ("absent", "corrupt", "truncated", "other", "silent")
    mirrors = [server.mirror(folder) for folder in folders]
    dead = "http://127.0.0.1:1/"
    with pytest.raises(DataError) as caught:
        fetch(NAME, [*mirrors, dead], SHA256, tmp_path, needed=[NAME, "others.gz"], timeout=0.2)
    message = str(caught.value)
    reasons = ("HTTP 404 Not Found", "corrupt gzip file", "corrupt gzip file", "SHA-256 differs", "timed out")
    for mirror, reason in zip(mirrors, reasons, strict=True):
        said = message.split(f"{mirror}{NAME}: ")[1].split(";")[0]
        assert reason in said
    assert "refused" in message.split(f"{dead}{NAME}: ")[1]
    for remedy in (f"get {NAME}, others.gz elsewhere", str(tmp_path), "--data-dir", "MVAE_DATA"):
        assert remedy in message
    assert "\n" not in message
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_created_is_a_one_line_error(server: Server, tmp_path: Path):
    (tmp_path / "file").touch()
    message = refusal(server, tmp_path / "file" / "mnist", "good")
    assert str(tmp_path / "file" / "mnist") in message
    assert "MVAE_CACHE" in message
    assert server.requests == []


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_part_that_is_a_symbolic_link_is_not_followed(server: Server, tmp_path: Path):
    (tmp_path / f"{NAME}.part").symlink_to(tmp_path / "victim")
    message = refusal(server, tmp_path, "good", "norange")
    assert "symbolic links" in message
    assert "free some space" in message
    assert not (tmp_path / "victim").exists()
    assert server.folders == ["good"]  # another mirror would not help


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_failure_at_the_end_leaves_no_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    def fail(*_: object):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert "No space left" in refusal(server, tmp_path, "good")
    get(server, tmp_path, "good")


def test_the_final_name_appears_only_after_verification(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import mvae.data.download as download

    seen = []

    def check(path: Path, most: int) -> str | None:
        seen.append(((tmp_path / NAME).exists(), path.name))
        return decompressed_sha256(path, most)

    monkeypatch.setattr(download, "decompressed_sha256", check)
    get(server, tmp_path, "good")
    assert seen == [(False, f"{NAME}.part")]


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_concurrent_runs_download_once(server: Server, tmp_path: Path, caplog):
    got: list[Path] = []
    mirrors = [server.mirror("silent"), server.mirror("good")]  # the first holds the lock for the timeout

    def run():
        got.append(fetch(NAME, mirrors, SHA256, tmp_path, timeout=0.3))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [tmp_path / NAME] * 3
    assert server.folders == ["silent", "good"]
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert caplog.text.count(f"waiting for another process that writes to {tmp_path}") == 2


def test_the_cache_directory_follows_mvae_cache_and_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MVAE_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"
    monkeypatch.delenv("MVAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "mvae"
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_directory() == tmp_path / ".cache" / "mvae"


def test_without_a_home_directory_the_error_names_mvae_cache(monkeypatch: pytest.MonkeyPatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MVAE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match="set MVAE_CACHE"):
        cache_directory()
