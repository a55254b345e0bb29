"""The exceptions of this library. Each message says what is wrong, where, and what to do."""

import difflib
import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "DataError",
    "MissingDependencyError",
    "MvaeError",
    "QueryError",
    "RunError",
    "SettingsError",
    "TrainingError",
    "UserError",
    "abridged",
    "listed",
    "nearest",
    "no_file",
    "out_of_memory",
    "require_extra",
]


class MvaeError(Exception):
    """The base class of all errors that this library raises on purpose."""


class UserError(MvaeError, ValueError):
    """A mistake that the caller can fix; the command line shows it as one line and exits with status 2."""


class DataError(UserError):
    """A file, column, row or value that cannot be used."""


class QueryError(UserError):
    """A query that the model cannot answer: an unknown modality, an unsupported likelihood."""


class SettingsError(UserError):
    """A setting outside its range, or two that contradict each other."""


class RunError(UserError):
    """A run directory that is absent, incomplete, damaged, or of another model."""


class MissingDependencyError(UserError):
    """A required optional package is not installed; the message names the extra that provides it."""


class TrainingError(MvaeError):
    """Training cannot continue (a loss that is not finite); the last good checkpoint is kept."""


def abridged(value: object) -> str:
    """The repr of a value for a message, on one line; of more than 60 characters, the ends.

    >>> abridged("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxx … xxxxxxxxxxxxxxxxxxxxxxxxxxx'"
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # the caller's own repr fails, or an integer has more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:28]} … {text[-28:]}"


NO_MEMORY = (
    "can't allocate memory", "out of memory", "Storage size calculation overflowed", "array is too big",
    "failed to map segment",  # of a library
)  # fmt: skip


@contextmanager
def out_of_memory(what: str, error: type[MvaeError]) -> Iterator[None]:
    """Turn running out of memory inside the block into this error, with a message about ``what``.

    >>> with out_of_memory("the list", SettingsError):
    ...     raise MemoryError
    Traceback (most recent call last):
        ...
    mvae.errors.SettingsError: the list needs more memory than there is: ask for less at once
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as problem:
        if not isinstance(problem, MemoryError) and not any(text in str(problem) for text in NO_MEMORY):
            raise
        raise error(f"{what} needs more memory than there is: ask for less at once") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion of what may have been meant, for the end of a message; empty if no known name is close.

    Case is ignored.

    >>> nearest("mnits", ["mnist", "digits"]), nearest("HB", ["hb", "HbA1c"]), nearest("x", ["mnist"])
    (" (did you mean 'mnist'?)", " (did you mean 'hb'?)", '')
    """
    folded = {other.casefold(): other for other in reversed(list(known))}
    found = difflib.get_close_matches(name.casefold(), list(folded), 1)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""


def listed(names: Iterable[object]) -> str:
    """Names for a message: all, or the first ten.

    >>> listed(["hb", "crp"]), listed(range(500))
    ('hb, crp', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 490 more')
    """
    found = list(map(str, names))
    return ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")


def no_file(path: str | os.PathLike[str]) -> str:
    """Why a path that is not a file cannot be read, for messages."""
    if os.path.isdir(path):
        return "it is a directory, not a file"
    return "it is a device or a pipe, not a file" if os.path.exists(path) else "there is no such file"


def require_extra(module: str, extra: str, what: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its name, such as ``skimage.metrics``.
        extra: the extra of this library that installs it.
        what: what needs it, in the plural, for the message.

    Raises:
        MissingDependencyError: it is not installed.

    >>> require_extra("no_such_package.part", "plots", "figures")
    Traceback (most recent call last):
        ...
    mvae.errors.MissingDependencyError: figures need no_such_package: pip install 'mvae[plots]'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise MissingDependencyError(f"{what} need {package}: pip install 'mvae[{extra}]'") from None
