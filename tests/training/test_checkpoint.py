"""Run directories: the weights that stand for a run, and its lines of metrics."""

import math
from pathlib import Path

import pytest
import torch

from mvae.errors import RunError
from mvae.files import prefixed, save_state
from mvae.training import checkpoint
from mvae.training.checkpoint import CHECKPOINT, METRICS, Header


def test_best_weights_fall_back_to_the_last(tmp_path: Path) -> None:
    last, best = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    header = Header(
        settings={},
        epoch=2,
        step_in_epoch=0,
        stage="all",
        best_epoch=None,
        best_objective=math.inf,
        metrics_bytes=0,
        seconds=1.0,
        optimizer_tensors=0,
        untrained=[],
        finished=True,
        products="highest",
    )
    save_state(tmp_path / CHECKPOINT, prefixed("model", last), header.model_dump())
    assert checkpoint.best_weights(tmp_path) == (last, header)
    both = prefixed("model", last) | prefixed("best", best)
    with_best = header.model_copy(update={"best_epoch": 2})
    save_state(tmp_path / CHECKPOINT, both, with_best.model_dump())
    assert checkpoint.best_weights(tmp_path) == (best, with_best)
    save_state(tmp_path / CHECKPOINT, both, header.model_dump())
    with pytest.raises(RunError, match="damaged"):
        checkpoint.best_weights(tmp_path)


@pytest.mark.parametrize("end", [b"", b"{", b'{"epoch": 3', b'{"epoch": 3, "\xce'])
def test_truncated_last_line_of_metrics_is_ignored(end: bytes, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + end)
    assert checkpoint.read_metrics(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


def test_other_damaged_lines_of_metrics_are_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"ep\n{"epoch": 3}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is not a JSON object of numbers"):
        checkpoint.read_metrics(tmp_path)
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"beta": 1.0}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 does not say which epoch it is of"):
        checkpoint.read_metrics(tmp_path)


def test_run_in_its_first_epoch_has_no_metrics(tmp_path: Path) -> None:
    assert checkpoint.read_metrics(tmp_path) == []
