"""One file per model; `base` is what they share. Another model is a file and a line in `MODELS`."""

import importlib
from typing import TYPE_CHECKING, Any

from mvae.errors import SettingsError, nearest

if TYPE_CHECKING:
    from mvae.models.base import MultimodalVAE
    from mvae.models.bivcca import BiVCCA
    from mvae.models.cvae import CVAE
    from mvae.models.jmvae import JMVAE
    from mvae.models.mmvae import MMVAE
    from mvae.models.mmvae_plus import MMVAEPlus
    from mvae.models.mmvm import MMVM
    from mvae.models.mopoe import MoPoE
    from mvae.models.mvae import MVAE
    from mvae.models.mvae_q import MVAEQ
    from mvae.models.mvtcae import MVTCAE
    from mvae.models.telbo import TELBO
    from mvae.models.vae import VAE

#: Name → "module:Class" of every model of the library.
MODELS = {
    "mvae": "mvae.models.mvae:MVAE",
    "vae": "mvae.models.vae:VAE",
    "cvae": "mvae.models.cvae:CVAE",
    "bivcca": "mvae.models.bivcca:BiVCCA",
    "jmvae": "mvae.models.jmvae:JMVAE",
    "mvae_q": "mvae.models.mvae_q:MVAEQ",
    "telbo": "mvae.models.telbo:TELBO",
    "mmvae": "mvae.models.mmvae:MMVAE",
    "mmvae_plus": "mvae.models.mmvae_plus:MMVAEPlus",
    "mmvm": "mvae.models.mmvm:MMVM",
    "mopoe": "mvae.models.mopoe:MoPoE",
    "mvtcae": "mvae.models.mvtcae:MVTCAE",
}

_HOMES = {path.partition(":")[2]: path.partition(":")[0] for path in MODELS.values()}
_HOMES["MultimodalVAE"] = "mvae.models.base"
__all__ = ["MODELS", "get_model_class", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def get_model_class(name: str) -> "type[MultimodalVAE]":
    """The class of a model by its name in `MODELS`.

    Raises:
        SettingsError: there is none of that name.

    >>> get_model_class("jmvae").__name__
    'JMVAE'
    """
    if name not in MODELS:
        raise SettingsError(f"no model {name!r}{nearest(name, MODELS)}; there are {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __getattr__(name: str) -> Any:
    """Models are imported when first used, so that the command line need not wait for torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mvae.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
