"""Objects that a declaration specifies by name, ``"noise"``, or with options, ``{name = "noise", std = 0.3}``."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mvae.errors import SettingsError, abridged, nearest

__all__ = ["check_options", "from_spec", "split_spec"]
WIDEST = 10_000_000  # the largest width of a layer


def split_spec(spec: object, known: Iterable[str], what: str, key: str = "name") -> tuple[str, dict[str, Any]]:
    """The name and the options of a spec; ``what`` is used in error messages, ``key`` holds the name in a mapping.

    Raises:
        SettingsError: it is not a spec, or its name is unknown.

    >>> split_spec({"name": "noise", "std": 0.3}, ["noise"], "augmentation")
    ('noise', {'std': 0.3})
    """
    options = {key: spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    name, known = options.pop(key, None), list(known)
    if not isinstance(name, str):
        raise SettingsError(f"{spec!r} names no {what}: write a name or {{{key} = NAME, …}}; there are {_list(known)}")
    if name not in known:
        raise SettingsError(f"no {what} {name!r}; there are {_list(known)}{nearest(name, known)}")
    return name, options


def check_options(make: Callable[..., Any], options: Mapping[str, Any], what: str, given: Sequence[str] = ()) -> None:
    """Raise SettingsError unless ``make`` takes these options and has defaults for all others.

    ``given`` names the arguments that the caller supplies: they are not options.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    for name in options:
        if name not in parameters:
            raise SettingsError(f"{what} has no option {name!r}; it has {_list(parameters)}{nearest(name, parameters)}")
    for name, parameter in parameters.items():
        if name not in options and parameter.default is inspect.Parameter.empty:
            raise SettingsError(f"{what} needs {name}")
        if name in options:
            _check_type(options[name], parameter, f"{name} of {what}")


def from_spec(spec: object, registry: Mapping[str, Callable[..., Any]], what: str) -> Any:
    """Build the object that a spec names, with its options.

    Raises:
        SettingsError: an unknown name or option, or a value that the option cannot take.

    >>> from_spec({"name": "pair", "real": 1.0}, {"pair": complex}, "number")
    (1+0j)
    """
    name, options = split_spec(spec, registry, what)
    check_options(registry[name], options, f"the {what} {name!r}")
    return registry[name](**options)


def _check_type(value: object, parameter: inspect.Parameter, what: str) -> None:
    """Check a value against the parameter's annotation, if that is one of the simple types that a file can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    widths = isinstance(value, Sequence) and all(type(v) is int and 0 < v <= WIDEST for v in value)
    fits: dict[Any, tuple[bool, str]] = {
        bool: (isinstance(value, bool), "true or false"),
        int: (whole, "a whole number"),
        float: (number, "a number"),
        Sequence[int]: (widths, f"a list of whole numbers from 1 to {WIDEST:,}"),
    }
    right, possible = fits.get(parameter.annotation, (True, ""))
    if not right:
        raise SettingsError(f"{what} must be {possible}, not {abridged(value)}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
