"""Looks up datasets, declarations, models and commands by name, both this library's own and those of plug-ins.

A plug-in is a module named in the entry-point group ``mvae.plugins`` of an installed package. It may define

    DATASETS       a package of modules, one per dataset: NAME.py with ``load(data_dir, **options) -> Dataset``
    DECLARATIONS   a package with declarations, NAME.toml
    MODELS         name → "module:Class"
    COMMANDS       name → ("module:attribute", one line), a click command and what it does
    ITEMS          name → "module:attribute", a table or figure of the command `reproduce`

The reproduction of the paper is such a plug-in.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from mvae.errors import SettingsError, nearest

if TYPE_CHECKING:
    from mvae.data.dataset import Dataset

__all__ = ["commands", "datasets", "declarations", "imported", "items", "model_class", "models", "reader"]

GROUP = "mvae.plugins"


@cache
def _plugins() -> tuple[Any, ...]:
    return tuple(point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name))


def _named(attribute: str) -> dict[str, Any]:
    """What all plug-ins define under an attribute, as one mapping."""
    found: dict[str, Any] = {}
    for plugin in _plugins():
        found |= getattr(plugin, attribute, {})
    return found


@cache
def datasets() -> Mapping[str, str]:
    """The datasets that can be named as a source: name → module.

    >>> "digits" in datasets()
    True
    """
    found = {}
    for plugin in _plugins():
        package = getattr(plugin, "DATASETS", None)
        spec = None if package is None else find_spec(package)
        for module in iter_modules(spec.submodule_search_locations) if spec is not None else ():
            if not module.name.startswith("_"):
                found[module.name.replace("_", "-")] = f"{package}.{module.name}"
    return found


def reader(name: str) -> "Callable[..., Dataset]":
    """The function that reads a named dataset: ``(data_dir, **options) -> Dataset``.

    Raises:
        SettingsError: there is no dataset of that name.
    """
    if name not in datasets():
        raise SettingsError(f"no dataset {name!r}; there are {', '.join(datasets())}{nearest(name, datasets())}")
    return importlib.import_module(datasets()[name]).load


@cache
def declarations() -> Mapping[str, str]:
    """The text of every shipped declaration, by name."""
    found = {}
    for plugin in _plugins():
        if (package := getattr(plugin, "DECLARATIONS", None)) is not None:
            for file in files(package).iterdir():
                if file.name.endswith(".toml"):
                    found[file.name.removesuffix(".toml")] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def models() -> Mapping[str, str]:
    """The classes of all models: name → "module:Class"."""
    from mvae.models import MODELS

    return MODELS | _named("MODELS")


def model_class(name: str) -> Any:
    """A model's class by its name; "module:Class" names one of your own.

    Raises:
        SettingsError: there is no model of that name.
    """
    from mvae.models import MODELS

    path = MODELS.get(name) or (name if ":" in name else models().get(name))  # plug-ins come last
    if path is not None:
        found, base = imported(path), importlib.import_module("mvae.models.base").MultimodalVAE
        if not (isinstance(found, type) and issubclass(found, base)):
            raise SettingsError(f"{path} is not a model: a class derived from mvae.models.base.MultimodalVAE is needed")
        return found
    raise SettingsError(f"no model {name!r}; there are {', '.join(models())}{nearest(name, models())}")


def commands() -> Mapping[str, tuple[str, str]]:
    """Commands of plug-ins: name → ("module:attribute", one line)."""
    return _named("COMMANDS")


def items() -> Mapping[str, str]:
    """Tables and figures of plug-ins: name → "module:attribute"."""
    return _named("ITEMS")


def imported(path: str) -> Any:
    """Import the object that "module:attribute" names.

    Raises:
        SettingsError: no such module or attribute.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"cannot import {path!r} ({error}): write module:attribute") from None
