"""The events of which callbacks are notified, and the run when one of them fails."""

from pathlib import Path

import pytest

from mvae.errors import MissingDependencyError
from mvae.files import load_state
from mvae.training import callbacks
from mvae.training.callbacks import Callback, Plan, TensorBoard
from mvae.training.checkpoint import CHECKPOINT
from tests.resumable import BATCH, EPOCHS, STEPS, Signals, assert_same_run, files, model, train


class Notes(Callback):
    def __init__(self) -> None:
        self.events: list[object] = []

    def on_start(self, plan: Plan) -> None:
        self.events.append(plan)

    def on_epoch(self, values: dict[str, float]) -> None:
        self.events.append(values["epoch"])

    def on_end(self) -> None:
        self.events.append("end")


def test_callbacks_receive_start_epochs_and_end(tmp_path: Path) -> None:
    one, other = Notes(), Notes()
    train(model(), tmp_path, callbacks=[one, other])
    assert one.events == other.events == [Plan(EPOCHS, STEPS, BATCH, 0), 1.0, 2.0, 3.0, 4.0, "end"]


def test_callbacks_receive_the_end_when_stopped_and_past_steps_when_resumed(
    tmp_path: Path,
) -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        train(model(), tmp_path, callbacks=[Signals(7), notes])
    train(model(), tmp_path, resume=True, callbacks=[notes])
    plans = [Plan(EPOCHS, STEPS, BATCH, 0), Plan(EPOCHS, STEPS, BATCH, 7)]
    assert notes.events == [plans[0], 1.0, "end", plans[1], 2.0, 3.0, 4.0, "end"]


def test_all_callbacks_receive_the_end_even_if_one_fails() -> None:
    class Fails(Notes):
        def on_end(self) -> None:
            super().on_end()
            raise OSError("the disk is full")

    first, last, trained = Fails(), Fails(), model()
    with pytest.raises(OSError, match="the disk is full"):
        train(trained, None, callbacks=[first, last])
    assert first.events[-1] == last.events[-1] == "end"
    assert not trained.training


class Breaks(Callback):
    def on_epoch(self, values: dict[str, float]) -> None:
        if values["epoch"] == 2:
            raise BrokenPipeError  # train | head -1


def test_failing_callback_saves_the_run_which_resumes_exactly(tmp_path: Path) -> None:
    notes = Notes()
    with pytest.raises(BrokenPipeError):
        train(model(), tmp_path / "parts", callbacks=[notes, Breaks()])
    assert notes.events[-1] == "end"
    assert load_state(tmp_path / "parts" / CHECKPOINT)[1]["epoch"] == 2
    train(model(), tmp_path / "parts", resume=True)
    train(model(), tmp_path / "whole")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_tensorboard_writes_only_on_request(tmp_path: Path) -> None:
    if not callbacks.tensorboard_where_installed(tmp_path):
        with pytest.raises(MissingDependencyError, match=r"pip install 'mvae\[tensorboard\]'"):
            TensorBoard(tmp_path)
        return
    board = TensorBoard(tmp_path / "board")
    train(model(), tmp_path / "run", callbacks=[])
    assert not any(name.startswith("events.") for name in files(tmp_path / "run"))
    train(model(), tmp_path / "other", callbacks=[board])
    assert any(name.startswith("events.") for name in files(tmp_path / "board"))
