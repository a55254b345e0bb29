"""Signals during training: the current step ends, the run is saved, and then the signal acts as usual."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stop_signals"]

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_STOPPED = threading.Event()  # the main thread received a signal; `fit` in other threads stops too


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C, SIGTERM and SIGHUP to the end of the block, which gets a function that says if there was one.

    At the end, the signal reaches its previous handler: usually Ctrl-C raises KeyboardInterrupt and the others end the
    program. A second signal ends it at once. Ignored signals stay ignored.

    Signals reach the main thread only. A main thread whose other threads train must wait inside this block; in those
    threads the end of the block raises KeyboardInterrupt.
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
