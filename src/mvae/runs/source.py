"""Where a declaration and its rows come from: a name that is shipped, or files of the user's."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvae.data.dataset import Dataset
from mvae.errors import SettingsError, nearest
from mvae.runs.config import Config
from mvae.runs.registry import datasets, declarations, reader

__all__ = ["completed", "declared", "load", "shipped", "shipped_declaration", "shipped_text"]

FILES = (".npz",)


def shipped_text(name: str) -> str:
    """A shipped declaration, as the file that it is.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in declarations():
        raise SettingsError(
            f"no declaration {name!r}; there are {', '.join(declarations())}{nearest(name, declarations())}"
        )
    return declarations()[name]


def shipped_declaration(name: str) -> Config:
    """A shipped declaration.

    Raises:
        SettingsError: there is none of that name.

    >>> shipped_declaration("mnist").model.latents
    64
    """
    return Config.from_dict(tomllib.loads(shipped_text(name)), name)


def shipped() -> dict[str, Config]:
    """All shipped declarations by name."""
    return {name: shipped_declaration(name) for name in declarations()}


def declared(source: str | Path) -> Config:
    """A declaration by the name of a shipped one, from a TOML file, or made of a data file alone.

    Raises:
        SettingsError: there is none of that name, or the file is no declaration.
    """
    text = str(source)
    if text.endswith(".toml"):
        return Config.load(text)
    if Path(text).suffix in FILES:
        return Config.from_dict({"data": {"source": text}})
    return shipped_declaration(text)


def load(config: Config, data_dir: str | Path | None = None, schema: Mapping[str, Any] | None = None) -> Dataset:
    """The rows that a declaration names.

    Raises:
        DataError: data absent or damaged. SettingsError: no such dataset.
    """
    source = config.data.source
    if source in datasets() or Path(source).suffix not in FILES:
        return reader(source)(data_dir, **config.data.options)
    raise NotImplementedError


def completed(config: Config, data: Dataset) -> Config:
    """The declaration with what only the data says: kinds, shapes and classes that were left out."""
    return config.resolved()
