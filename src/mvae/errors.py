"""The one tree of exceptions. Each message says what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable

__all__ = [
    "DataError",
    "MissingDependencyError",
    "MvaeError",
    "QueryError",
    "RunError",
    "SettingsError",
    "TrainingError",
    "UserError",
    "nearest",
]


class MvaeError(Exception):
    """Everything this library raises on purpose."""


class UserError(MvaeError, ValueError):
    """A mistake that the caller can mend; the command line shows it as one line and exits with 2."""


class DataError(UserError):
    """A file, column, row or value that cannot be used."""


class QueryError(UserError):
    """A question the model cannot answer: an unknown modality, an unsupported likelihood."""


class SettingsError(UserError):
    """A setting outside its range, or two that contradict each other."""


class RunError(UserError):
    """A run directory that is absent, incomplete, damaged, or of another model."""


class MissingDependencyError(UserError):
    """An optional package is needed and absent; the message names the extra that brings it."""


class TrainingError(MvaeError):
    """Training cannot go on (a loss that is not finite); the last good checkpoint is kept."""


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, for the end of a message; nothing where no known name is near.

    >>> nearest("mnits", ["mnist", "digits"]), nearest("x", ["mnist"])
    (" (did you mean 'mnist'?)", '')
    """
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]!r}?)" if found else ""
