"""How an attack may end: with finite numbers, or with an error of this library. Anything else is a fault."""

import contextlib
import math
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mvae.errors import MvaeError
from mvae.evaluation.likelihood import LogLikelihood
from mvae.gaussian import Gaussian

SECONDS = 60  # a case that has not ended after that hangs


class Hangs(BaseException):
    """A case hangs. Not an Exception, so that nothing in the library catches it."""


@dataclass
class Count:
    """The outcomes of the cases of one kind."""

    cases: int = 0
    refused: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)  # fault → cases

    def add(self, name: str, fault: str | None, refused: bool = False) -> None:
        self.cases += 1
        self.refused += refused
        if fault is not None:
            self.faults.setdefault(f"{name.partition('(')[0]}: {fault}", []).append(name)

    @property
    def faulty(self) -> int:
        """The number of cases that ended in a fault."""
        return sum(map(len, self.faults.values()))


def outcome(call: Callable[[], Any]) -> tuple[str | None, bool]:
    """The fault of a call, if any, and whether it was refused."""
    try:
        with time_limit(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = call()
    except MvaeError as error:
        return (None if str(error) else f"{type(error).__name__} without a message"), True
    except Hangs:
        return f"hangs: no end after {SECONDS} s", False
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:120]
        return f"foreign {type(error).__name__}: {reason} ({last.filename.split('/')[-1]}:{last.lineno})", False
    bad = not_finite(result)
    return (None if bad is None else f"{bad} is not finite"), False


@contextlib.contextmanager
def time_limit(seconds: int = SECONDS) -> Iterator[None]:
    """Raise `Hangs` inside the block when the time is over."""

    def over(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def not_finite(result: Any, name: str = "the result") -> str | None:
    """The first part of a result that is NaN or infinite, by name."""
    if isinstance(result, LogLikelihood):  # its diagnostics may be NaN
        return "log p" if bool(result.values.isnan().any()) else None  # −∞: the density underflows float32
    if isinstance(result, Gaussian):
        return not_finite(result.mean, "the posterior's mean")
    if isinstance(result, torch.Tensor):
        return None if not result.is_floating_point() or bool(result.isfinite().all()) else name
    if isinstance(result, float):
        return None if math.isfinite(result) else name
    if isinstance(result, Mapping):
        found = (not_finite(value, f"{name}[{key!r}]") for key, value in result.items())
    elif isinstance(result, tuple | list):
        found = (not_finite(value, f"{name}[{i}]") for i, value in enumerate(result))
    else:
        return None
    return next((bad for bad in found if bad is not None), None)
