import gzip
import hashlib
import os
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from mvae.data.dataset import Dataset
from mvae.data.download import decompressed_sha256
from mvae.errors import DataError
from mvae.paper.datasets import mnist
from mvae.paper.datasets.mnist import SHA256, TEST, TRAIN, load_idx_dataset

FILES = TRAIN + TEST
NAME = "tiny-mnist"
SIDE = 4
MIRRORS = ("http://127.0.0.1:1/first/", "http://127.0.0.1:1/second/")


def idx(values: np.ndarray) -> bytes:
    code = {"uint8": 0x08, "int16": 0x0B}[values.dtype.name]
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def dataset(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    arrays = {}
    for (images, labels), rows in ((TRAIN, 8), (TEST, 3)):
        arrays[images] = random.integers(0, 256, (rows, SIDE, SIDE), np.uint8)
        arrays[labels] = random.integers(0, 10, rows, np.uint8)
    return arrays


ARRAYS = dataset()
HASHES = {file: hashlib.sha256(idx(values)).hexdigest() for file, values in ARRAYS.items()}


def write(folder: Path, arrays: dict[str, np.ndarray] = ARRAYS, dotted: bool = False, compress: bool = True):
    folder.mkdir(parents=True, exist_ok=True)
    for file, values in arrays.items():
        name = file.replace("-idx", ".idx") if dotted else file
        content = gzip.compress(idx(values)) if compress else idx(values)
        (folder / (name + ".gz" * compress)).write_bytes(content)


def load(data_dir: Path | str | None, sha256: dict[str, str] = HASHES, mirrors=MIRRORS) -> Dataset:
    classes = tuple("0123456789")
    return load_idx_dataset(NAME, data_dir, mirrors=mirrors, sha256=sha256, classes=classes, validation=2)


def refusal(data_dir: Path | str | None) -> str:
    with pytest.raises(DataError) as caught:
        load(data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(splits: Dataset, arrays: dict[str, np.ndarray] = ARRAYS):
    expected = {"train": (TRAIN, slice(0, 6)), "validation": (TRAIN, slice(6, 8)), "test": (TEST, slice(0, 3))}
    assert splits.name == NAME
    for part, ((images, labels), rows) in expected.items():
        table = getattr(splits, part)
        assert table.complete
        image, label = table.columns["image"], table.columns["label"]
        assert image.dtype == torch.uint8
        assert image.shape == (rows.stop - rows.start, 1, SIDE, SIDE)
        assert label.dtype == torch.int64
        np.testing.assert_array_equal(image[:, 0], arrays[images][rows])
        np.testing.assert_array_equal(label, arrays[labels][rows])


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    if "real_files" not in request.fixturenames:
        monkeypatch.delenv("MVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inside", [".", NAME])
def test_all_file_names_are_found_in_both_folders(tmp_path: Path, dotted: bool, compress: bool, inside: str):
    write(tmp_path / inside, dotted=dotted, compress=compress)
    check(load(tmp_path))
    check(load(str(tmp_path)))


def test_environment_sets_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "data" / NAME)
    monkeypatch.setenv("MVAE_DATA", str(tmp_path / "data"))
    check(load(None))
    assert "elsewhere" in refusal(tmp_path / "elsewhere")  # the argument takes precedence


def test_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    check(load("~/data"))


def test_own_folder_takes_precedence(tmp_path: Path):
    write(tmp_path, dataset(seed=1))
    write(tmp_path / NAME)
    check(load(tmp_path))


def test_files_of_two_folders_are_not_mixed(tmp_path: Path):
    write(tmp_path, {file: ARRAYS[file] for file in TRAIN})
    write(tmp_path / NAME, {file: ARRAYS[file] for file in TEST})
    assert "not found" in refusal(tmp_path)


def test_absent_files_are_named_and_not_downloaded(tmp_path: Path):
    write(tmp_path)
    (tmp_path / f"{TEST[1]}.gz").unlink()
    before = sorted(os.listdir(tmp_path))
    message = refusal(tmp_path)
    for part in (str(tmp_path), str(tmp_path / NAME), f"{TEST[1]}.gz", "train-images.idx3-ubyte", *MIRRORS):
        assert part in message
    assert TRAIN[1] not in message  # that file is present
    assert "leave out --data-dir and MVAE_DATA" in message
    assert sorted(os.listdir(tmp_path)) == before
    assert not (tmp_path / "cache").exists()


def test_absent_directory_is_named(tmp_path: Path):
    assert f"no directory {tmp_path / 'absent'}" in refusal(tmp_path / "absent")


def change(file: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return ARRAYS | {file: values}


@pytest.mark.parametrize(
    ("arrays", "file", "reason"),
    [
        (change(TRAIN[1], ARRAYS[TRAIN[1]][:7]), TRAIN[1], f"does not hold the labels of {NAME} (it holds 7 uint8; "),
        (change(TRAIN[0], ARRAYS[TRAIN[0]][:, :3]), TRAIN[0], f"does not hold the images of {NAME} (it holds 8×3×4"),
        (change(TEST[0], ARRAYS[TEST[0]].astype(np.int16)), TEST[0], "(it holds 3×4×4 int16; another dataset's file"),
        (change(TEST[1], ARRAYS[TEST[0]]), TEST[1], "(it holds 3×4×4 uint8; "),
        (change(TEST[0], ARRAYS[TEST[0]] ^ np.uint8(1)), TEST[0], f"does not hold the images of {NAME}"),
        (dataset(seed=1), TRAIN[1], f"does not hold the labels of {NAME}"),
    ],
)
def test_mismatched_files_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], file: str, reason: str):
    write(tmp_path, arrays)
    message = refusal(tmp_path)
    assert f"{tmp_path / file}.gz" in message
    assert reason in message
    assert "replace it by an intact copy" in message


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object):
        pass


def test_files_are_downloaded_once_to_the_cache(tmp_path: Path):
    write(tmp_path / "site" / "second")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        mirrors = [f"http://127.0.0.1:{server.server_port}/{folder}/" for folder in ("first", "second")]
        try:
            check(load(None, mirrors=mirrors))
        finally:
            server.shutdown()
            thread.join()
    cache = tmp_path / "cache" / "mvae" / NAME
    assert sorted(os.listdir(cache)) == sorted(f"{file}.gz" for file in FILES)
    check(load(None, mirrors=mirrors))  # the server is gone

    (cache / f"{TEST[0]}.gz").write_bytes(gzip.compress(idx(ARRAYS[TEST[0]]))[:-9])
    message = refusal(None)
    assert f"{cache / TEST[0]}.gz" in message
    assert "delete it and run again" in message


def test_files_placed_in_the_cache_by_hand_are_read(tmp_path: Path):
    write(tmp_path / "cache" / "mvae" / NAME, dotted=True, compress=False)
    check(load(None))


def test_all_files_are_named_if_download_fails(tmp_path: Path):
    message = refusal(None)
    for file in FILES:
        assert f"{file}.gz" in message
    for mirror in MIRRORS:
        assert mirror in message
    assert str(tmp_path / "cache" / "mvae" / NAME) in message


def test_mnist_has_hashes_and_two_mirrors():
    assert set(SHA256) == set(FILES)
    assert len(set(mnist.MIRRORS)) >= 2
    assert all(mirror.startswith("https://") for mirror in mnist.MIRRORS)


@pytest.fixture(scope="module")
def real_files() -> Dataset:
    if not os.environ.get("MVAE_DATA"):
        pytest.skip("set MVAE_DATA to a directory that contains MNIST")
    return mnist.load()


def test_real_files_give_known_splits(real_files: Dataset):
    parts = (real_files.train, real_files.validation, real_files.test)
    assert [len(part) for part in parts] == [50_000, 10_000, 10_000]
    assert [real_files.codecs["label"].format(torch.tensor(i)) for i in range(10)] == list("0123456789")
    for part in parts:
        assert part.columns["image"].dtype == torch.uint8
        assert part.columns["image"].shape[1:] == (1, 28, 28)
    assert [part.columns["label"][:5].tolist() for part in parts] == [
        [5, 0, 4, 1, 9],
        [3, 8, 6, 9, 6],
        [7, 2, 1, 0, 4],
    ]
    counts = np.bincount(np.asarray(real_files.test.columns["label"]))
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean = float(torch.as_tensor(real_files.train.columns["image"]).double().mean() / 255)
    assert mean == pytest.approx(0.1307, abs=1e-3)


def test_real_files_have_published_bytes(real_files: Dataset):
    folder = Path(os.environ["MVAE_DATA"])
    folder = folder / "mnist" if (folder / "mnist").is_dir() else folder
    for file, expected in SHA256.items():
        path = mnist._find(folder, file)
        assert path is not None
        assert decompressed_sha256(path) == expected
