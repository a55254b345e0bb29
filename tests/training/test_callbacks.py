"""What callbacks are notified of, and what becomes of a run when one fails."""

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


def test_all_callbacks_are_told_of_the_start_every_epoch_and_the_end(tmp_path: Path) -> None:
    one, other = Notes(), Notes()
    train(model(), tmp_path, callbacks=[one, other])
    assert one.events == other.events == [Plan(EPOCHS, STEPS, BATCH, 0), 1.0, 2.0, 3.0, 4.0, "end"]


def test_they_are_told_of_the_end_of_a_stopped_training_and_of_the_steps_behind_a_resumed_one(
    tmp_path: Path,
) -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        train(model(), tmp_path, callbacks=[Signals(7), notes])
    train(model(), tmp_path, resume=True, callbacks=[notes])
    plans = [Plan(EPOCHS, STEPS, BATCH, 0), Plan(EPOCHS, STEPS, BATCH, 7)]
    assert notes.events == [plans[0], 1.0, "end", plans[1], 2.0, 3.0, 4.0, "end"]


def test_all_are_told_of_the_end_also_where_one_fails_there_and_the_model_is_left_in_eval_mode() -> None:
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


def test_where_one_fails_the_run_is_saved_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    notes = Notes()
    with pytest.raises(BrokenPipeError):
        train(model(), tmp_path / "parts", callbacks=[notes, Breaks()])
    assert notes.events[-1] == "end"
    assert load_state(tmp_path / "parts" / CHECKPOINT)[1]["epoch"] == 2
    train(model(), tmp_path / "parts", resume=True)
    train(model(), tmp_path / "whole")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_tensorboard_is_for_who_asks(tmp_path: Path) -> None:
    if not callbacks.tensorboard_where_installed(tmp_path):
        with pytest.raises(MissingDependencyError, match=r"pip install 'mvae\[tensorboard\]'"):
            TensorBoard(tmp_path)
        return
    board = TensorBoard(tmp_path / "board")
    train(model(), tmp_path / "run", callbacks=[])
    assert not any(name.startswith("events.") for name in files(tmp_path / "run"))
    train(model(), tmp_path / "other", callbacks=[board])
    assert any(name.startswith("events.") for name in files(tmp_path / "board"))
