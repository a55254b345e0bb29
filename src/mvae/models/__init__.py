"""One file per model; `base` holds what they share. A new model is a file, and a line among the imports below."""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvae.errors import SettingsError, nearest

if TYPE_CHECKING:  # this list is also the registry: a model's name is that of its file
    from mvae.models.base import MultimodalVAE as MultimodalVAE
    from mvae.models.bivcca import BiVCCA as BiVCCA
    from mvae.models.cvae import CVAE as CVAE
    from mvae.models.jmvae import JMVAE as JMVAE
    from mvae.models.mmvae import MMVAE as MMVAE
    from mvae.models.mmvae_plus import MMVAEPlus as MMVAEPlus
    from mvae.models.mmvm import MMVM as MMVM
    from mvae.models.mopoe import MoPoE as MoPoE
    from mvae.models.mvae import MVAE as MVAE
    from mvae.models.mvae_q import MVAEQ as MVAEQ
    from mvae.models.mvtcae import MVTCAE as MVTCAE
    from mvae.models.telbo import TELBO as TELBO
    from mvae.models.vae import VAE as VAE

_OWN = Path(__file__).read_text(encoding="utf-8")
_LISTED = re.findall(r"^    from mvae\.models\.(\w+) import (\w+) as \2$", _OWN, re.MULTILINE)
_FILES = {of_class: name for name, of_class in _LISTED}

#: Name → "module:Class" of every model of the library.
MODELS = {name: f"mvae.models.{name}:{of_class}" for name, of_class in _LISTED if name != "base"}

if not TYPE_CHECKING:  # for a type checker, the imports above do this
    __all__ = ["MODELS", "get_model_class", *_FILES]


def get_model_class(name: str) -> "type[MultimodalVAE]":
    """The class of a model by its name in `MODELS`.

    Raises:
        SettingsError: there is no model of that name.

    >>> get_model_class("jmvae").__name__
    'JMVAE'
    """
    if name not in MODELS:
        raise SettingsError(f"no model {name!r}{nearest(name, MODELS)}; there are {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __getattr__(name: str) -> Any:
    """Models are imported when first used, so that the command line does not wait for torch."""
    if name in _FILES:
        return getattr(importlib.import_module(f"mvae.models.{_FILES[name]}"), name)
    raise AttributeError(f"module 'mvae.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FILES})
