"""Signals while something is trained: the step in hand ends, the run is saved, then the signal does what it does."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stop_signals"]

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_STOPPED = threading.Event()  # the main thread received a signal; fits in other threads stop, too


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and SIGHUP are put off until the end of the block, which asks whether there was one.

    There the signal meets the handler that it would have met before: as a rule Ctrl-C raises KeyboardInterrupt and
    the others end the program. A second signal ends it at once. Signals that are ignored stay so.

    Signals reach the main thread only: one that has others train does so inside this block. In these the end of the
    block raises KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _STOPPED.is_set
        if _STOPPED.is_set():
            raise KeyboardInterrupt
        return
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        _STOPPED.set()

    handled = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, receive) for number in handled}
    try:
        yield _STOPPED.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _STOPPED.clear()
        if received:
            signal.raise_signal(received[0])
