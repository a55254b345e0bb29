"""Products use the fastest setting only if it is as accurate, and PyTorch's own setting is restored."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from mvae.evaluation.likelihood import log_likelihood
from mvae.files import load_state, save_state
from mvae.networks import products
from mvae.networks.mlp import mlp
from mvae.training.checkpoint import CHECKPOINT
from tests.resumable import assert_same_run, model, stop, table, train

LONG = 10**9


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    assert torch.get_float32_matmul_precision() == "highest"
    yield
    found = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    products._fastest.cache_clear()
    assert found == "highest"


def test_error_matches_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator) for size in ((20, 30), (40, 30)))
    exact = x.double().numpy() @ weight.double().numpy().T
    error = np.linalg.norm((x @ weight.T).double().numpy() - exact) / np.linalg.norm(exact)
    assert error <= products.error_of("highest", (20, 30, 40)) < 1e-6


def test_chosen_setting_is_as_accurate_as_default() -> None:
    network = mlp(96, 64, [80])
    chosen = products.choose(network, 100, LONG)
    assert chosen in get_args(products.Products)
    for shape in ((100, 96, 80), (100, 80, 64)):
        assert products.error_of(chosen, shape) <= 4 * products.error_of("highest", shape) < 4e-6


@pytest.mark.parametrize("case", ["short", "deterministic", "float64", "no layers"])
def test_default_is_kept(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", 0.0)  # any accurate setting would be chosen
    monkeypatch.setattr(products, "_seconds", lambda shapes, ways: [2.0 / (i + 1) for i in range(len(ways))])
    network = torch.nn.ReLU() if case == "no layers" else mlp(96, 64, [80])
    if case == "float64":
        network.double()
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(case == "deterministic")
    try:
        assert products.choose(network, 100, 10 if case == "short" else LONG) == "highest"
    finally:
        torch.use_deterministic_algorithms(before)


def test_user_setting_is_kept() -> None:
    torch.set_float32_matmul_precision("high")
    with products.best_products(mlp(96, 64, [80]), 100, LONG):
        assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")


def test_overlapping_blocks_of_two_threads_restore_user_setting() -> None:
    opened, closed = threading.Event(), threading.Event()

    def first() -> None:
        with products.kept_setting():
            products.take("medium")
            opened.set()
            closed.wait(10)  # until the other block is open

    thread = threading.Thread(target=first)
    thread.start()
    assert opened.wait(10)
    with products.kept_setting():
        closed.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"  # as when this block began
        with products.kept_setting():
            products.take("high")
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


def test_measured_setting_is_not_mistaken_for_user_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, seen, done = (100, 96, 80), set[str](), threading.Event()
    monkeypatch.setattr(products, "REPEATS", 50)
    monkeypatch.setattr(products, "ENOUGH", 0.2)

    def enter_again_and_again() -> None:
        while not done.is_set():
            with products.best_products(torch.nn.ReLU(), 100, 10), products._lock:  # nothing is being measured
                seen.add(torch.get_float32_matmul_precision())

    thread = threading.Thread(target=enter_again_and_again)
    thread.start()
    for _ in range(5):
        products._seconds([shape], [("medium", torch.float32), ("high", torch.float32)])
        products._errors.__wrapped__(shape)
    done.set()
    thread.join()
    assert torch.get_float32_matmul_precision() == "highest"
    assert len(seen) == 1


def test_no_measurement_while_another_thread_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_fastest", _always("medium"))
    network, found = mlp(96, 64, [80]), list[str]()
    with products.kept_setting():
        thread = threading.Thread(target=lambda: found.append(products.choose(network, 100, LONG)))
        thread.start()
        thread.join()
        assert found == ["highest"]
        assert products.choose(network, 100, LONG) == "medium"


def test_resumed_run_keeps_setting_and_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(products, "WORK", 0.0)
    monkeypatch.setattr(products, "_fastest", _always("medium"))
    train(model(), tmp_path / "whole")
    stop(model(), tmp_path / "stopped", at=7)
    monkeypatch.setattr(products, "_fastest", _always("highest"))  # what is measured now does not matter
    train(model(), tmp_path / "stopped", resume=True)
    assert load_state(tmp_path / "stopped" / CHECKPOINT)[1]["products"] == "medium"
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_resumed_run_warns_of_inaccurate_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(model(), tmp_path, epochs=1)
    tensors, info = load_state(tmp_path / CHECKPOINT)
    save_state(tmp_path / CHECKPOINT, tensors, info | {"products": "medium"})
    monkeypatch.setattr(products, "ROUNDING", 0)
    with caplog.at_level(logging.WARNING, "mvae"):
        train(model(), tmp_path, epochs=2, resume=True)
    assert "not as accurate as float32 on this machine" in caplog.text


def test_estimate_changes_only_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    default = log_likelihood(model().eval(), table(), of=["image"], samples=30)
    monkeypatch.setattr(products, "WORK", 0.0)
    monkeypatch.setattr(products, "_fastest", _always("medium"))
    monkeypatch.setattr(
        torch, "set_float32_matmul_precision", _recording(seen := [], torch.set_float32_matmul_precision)
    )
    chosen = log_likelihood(model().eval(), table(), of=["image"], samples=30)
    assert seen == ["medium", "highest"]
    torch.testing.assert_close(chosen.values, default.values, rtol=1e-2, atol=1e-2)


def test_gain_of_bfloat16_is_relative_to_float32() -> None:
    assert products.gain_of_bfloat16(mlp(96, 64, [80]), 100) > 0
    assert products.gain_of_bfloat16(torch.nn.ReLU(), 100) == 1


def _always(setting: str):
    def fastest(shapes: object, threads: int) -> str:
        return setting

    fastest.cache_clear = lambda: None  # pyright: ignore[reportFunctionMemberAccess]
    return fastest


def _recording(seen: list[str], call):
    def recording(setting: str) -> None:
        seen.append(setting)
        call(setting)

    return recording
