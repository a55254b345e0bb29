"""Checks of a public function's argument types at each call: a wrong one raises an error that names the argument."""

import functools
import inspect
import os
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import numpy as np

from mvae.errors import QueryError, SettingsError, UserError, abridged

__all__ = ["SEEDS", "checked_arguments", "described", "fits", "require_whole_number"]

F = TypeVar("F", bound=Any)
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "None"}
SEEDS = 2**63 - 1  # the largest seed of a generator
_ITEMS = 64  # items of a list or mapping that are checked: they are names, not data


def checked_arguments(*but: str, error: type[UserError] = SettingsError) -> Callable[[F], F]:
    """A decorator that raises ``error`` if an argument is not of its annotated type, before the function is called.

    Only simple types are checked: numbers, text, choices, classes, and lists and mappings of these. Shapes, dtypes,
    protocols and the arguments named in ``but`` are left for the function itself to check.

    >>> @checked_arguments()
    ... def repeated(text: str, times: int = 2) -> str:
    ...     return text * times
    >>> repeated("a"), repeated("a", times=3)
    ('aa', 'aaa')
    >>> repeated("a", times=2.5)
    Traceback (most recent call last):
        ...
    mvae.errors.SettingsError: times of repeated must be a whole number, not 2.5
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):  # a dataclass, whose constructor was generated
            setattr(function, "__init__", decorate(cast("Any", function).__init__))  # noqa: B010
            return function  # pyright: ignore[reportReturnType]
        name = function.__qualname__.removesuffix(".__init__")
        signature = inspect.signature(function)
        kinds = {
            parameter.name: parameter.annotation
            for parameter in signature.parameters.values()
            if parameter.name not in ("self", "cls", *but)
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                bound = None
            if bound is None:
                return function(*args, **kwargs)  # its TypeError names the missing or unknown argument
            for key, value in bound.arguments.items():
                if key not in kinds:
                    continue
                if not fits(value, kinds[key]):
                    raise error(f"{key} of {name} must be {described(kinds[key])}, not {abridged(value)}")
                if key == "seed" and value is not None and not 0 <= value <= SEEDS:
                    raise error(f"seed of {name} must be at least 0 and less than 2⁶³, not {abridged(value)}")
                bound.arguments[key] = _plain(value, kinds[key])
            return function(*bound.args, **bound.kwargs)

        return checked  # pyright: ignore[reportReturnType]

    return decorate


def _plain(value: Any, kind: Any) -> Any:
    """Convert NumPy's numbers to Python's, and whole numbers to floats where the annotation is float."""
    value = value.item() if isinstance(value, np.generic) else value
    return float(value) if kind is float and value is not None else value


def fits(value: object, kind: Any) -> bool:
    """Is the value of this type? Always true for types that are not checked.

    >>> fits(3, float), fits(True, int), fits("ab", Sequence[str]), fits(["a"], Sequence[str] | None)
    (True, False, False, True)
    """
    if kind is inspect.Parameter.empty or kind is Any or isinstance(kind, str | TypeVar):
        return True
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in args)
    if kind in (int, float, bool):
        return _is_number(value, kind)
    if origin in (Sequence, list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        return len(args) != 1 or all(fits(one, args[0]) for one in value[:_ITEMS])
    if origin in (Mapping, dict):
        items = list(value.items())[:_ITEMS] if isinstance(value, Mapping) else None
        return items is not None and all(fits(key, args[0]) and fits(one, args[1]) for key, one in items if args)
    if origin is Callable or kind is Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    plain = isinstance(kind, type) and not getattr(kind, "_is_protocol", False) and kind.__module__ != "jaxtyping"
    return isinstance(value, kind) if plain and not origin else True


def _is_number(value: object, kind: type) -> bool:
    """Is this a number of this type? NumPy's numbers count as numbers; booleans do not."""
    truth = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if kind is bool or truth:
        return truth and kind is bool
    if not isinstance(value, Integral if kind is int else Real):
        return False
    return kind is int or not isinstance(value, Integral) or abs(int(value)) < 2**1023


def described(kind: Any) -> str:
    """A type in words, for a message.

    >>> described(int | None), described(Sequence[str] | Literal["auto"])
    ('a whole number or None', "a list of text or 'auto'")
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(one) for one in args))
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin in (Sequence, list, tuple):
        return f"a list of {described(args[0])}" if args else "a list"
    if origin in (Mapping, dict):
        return "a mapping by name" + (" to text" if args[1:] == (str,) else "")
    if origin is Callable or kind is Callable:
        return "a function"
    if kind in WORDS:
        return WORDS[kind]
    if origin is os.PathLike or kind is Path:
        return "a path"
    return f"a {getattr(kind, '__name__', kind)}"


def require_float64(device: Any) -> None:
    """Raise SettingsError if the device has no float64: scales, means and importance weights are computed in it."""
    if str(getattr(device, "type", device)).split(":")[0] == "mps":
        raise SettingsError("the device 'mps' has no float64, which is needed: use 'cpu'")


def require_whole_number(what: str, value: object, least: int, most: int = 10**9) -> int:
    """Return the value as a Python integer; raise QueryError unless it is a whole number from ``least`` to ``most``."""
    if not fits(value, int):
        raise QueryError(f"{what} must be a whole number, not {abridged(value)}")
    if cast("int", value) < least:
        raise QueryError(f"{what} must be at least {least}, not {abridged(value)}")
    if cast("int", value) > most:
        raise QueryError(f"{what} must be at most {most}, not {abridged(value)}")
    return int(cast("int", value))
