"""The one tree of exceptions. Each message says what was wrong, where, and what to do."""

import difflib
import importlib
from collections.abc import Iterable
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
    "nearest",
    "require_extra",
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


def require_extra(module: str, extra: str, what: str) -> Any:
    """A module of an optional package, imported.

    Args:
        module: its name, such as ``skimage.metrics``.
        extra: the extra of this library that brings it.
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
