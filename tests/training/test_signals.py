"""Signals: how they reach the program around fit(), after the checkpoint is written."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mvae.files import load_state
from mvae.training.checkpoint import CHECKPOINT
from tests.resumable import STEPS, Signals, files, handled, model, train

FOLDS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import signal
import torch
torch.set_num_threads(1)
from tests.resumable import Signals, model, train

number = getattr(signal, sys.argv[3])
for fold in ("one", "two", "three"):
    print("fold", fold, flush=True)
    train(model(), Path(sys.argv[2]) / fold, callbacks=[Signals(7, number)])
print("done", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_script_of_three_folds_ends_in_the_first_with_a_checkpoint(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FOLDS, str(Path(__file__).parents[2]), str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "fold one\n"
    ends = (-signal.SIGINT, 1) if name == "SIGINT" else (-getattr(signal, name),)  # 1: where the shell ignored SIGINT
    assert done.returncode in ends
    assert ("KeyboardInterrupt" in done.stderr) == (name == "SIGINT")
    _, info = load_state(tmp_path / "one" / CHECKPOINT)
    assert (info["epoch"], info["step_in_epoch"]) == (1, 2)
    assert files(tmp_path) == {"one"}


def test_ctrl_c_is_a_keyboard_interrupt_and_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model(), tmp_path, callbacks=[Signals(STEPS)])
    assert signal.getsignal(signal.SIGINT) == before
    assert load_state(tmp_path / CHECKPOINT)[1]["step_in_epoch"] == STEPS


def test_callers_own_handler_is_called_and_may_continue() -> None:
    with handled(signal.SIGTERM) as received:
        history = train(model(), None, callbacks=[Signals(2, signal.SIGTERM)])
        assert received == [signal.SIGTERM]
        assert history.interrupted
        assert not train(model(), None, epochs=1).interrupted  # the next training is not affected


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        history = train(model(), None, callbacks=[Signals(2, signal.SIGHUP)])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not history.interrupted
    assert len(history.epochs) == 4


def test_fits_in_threads_stop_with_the_main_thread(tmp_path: Path) -> None:
    from mvae.training.signals import stop_signals

    raised: list[BaseException] = []

    def work() -> None:
        try:
            train(model(), tmp_path, epochs=10**6)
        except KeyboardInterrupt as error:
            raised.append(error)

    with handled(signal.SIGTERM) as received:
        with stop_signals():
            thread = threading.Thread(target=work)
            thread.start()
            os.kill(os.getpid(), signal.SIGTERM)
            thread.join()
        assert received == [signal.SIGTERM]
    assert len(raised) == 1
    assert (tmp_path / CHECKPOINT).exists()
