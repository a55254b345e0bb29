"""Compiled scoring, used for many pairs, gives the same numbers as eager scoring."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mvae
from mvae import Table
from mvae.evaluation import scoring
from mvae.evaluation.likelihood import LogLikelihood
from tests.built import built

SAMPLES = 1500  # more than a chunk and not a multiple of it


def table(rows: int = 6) -> Table:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(rows, 1, 8, 8, generator=generator)
    has_label = torch.arange(rows) % 3 > 0
    return Table({"image": image, "label": torch.arange(rows)}, present={"label": has_label})


def scored(model_name: str = "mvae") -> LogLikelihood:
    model = built("digits", model=model_name)
    return mvae.log_likelihood(model, table(), of=["image", "label"], proposal=["image"], samples=SAMPLES)


COMPARE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_scoring import scored, scoring
calls = []
compile = torch.compile
def counted(f, **settings):
    ready = compile(f, **settings)
    def call(*arguments):
        calls.append(f.__self__.likelihood)
        return ready(*arguments)
    return call
torch.compile = counted
for name in ("mvae", "bivcca"):
    scoring.COMPILED_PAIRS = 10**9
    eager = scored(name)
    assert not calls
    scoring.COMPILED_PAIRS = 0
    compiled = scored(name)
    assert len(calls) == 10, calls  # six images and four labels, of a full chunk each
    calls.clear()
    torch.testing.assert_close(compiled.values, eager.values, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(compiled.log_weight_variance, eager.log_weight_variance, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_scores_equal_eager_ones_with_missing_modalities() -> None:
    """Runs in its own process, because the tests' run-time checks of shapes cannot be compiled."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_scores_are_eager_if_compiling_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def broken(*_: object, **__: object) -> object:
        tried.append(1)
        raise RuntimeError("no compiler here")

    eager = scored()
    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(scoring, "COMPILED_PAIRS", 0)
    same = scored()
    assert len(tried) == 2  # once for each modality, and not again
    assert torch.equal(same.values, eager.values)
