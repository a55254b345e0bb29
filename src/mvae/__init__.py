"""Multimodal variational autoencoders: one joint model of several modalities, any of which may be missing."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvae import likelihoods, progress
    from mvae.data.table import Table
    from mvae.estimators import log_likelihood
    from mvae.gaussian import Gaussian
    from mvae.modality import Modality
    from mvae.models.mvae import MVAE
    from mvae.training import fit

__version__ = "0.1.0"

__all__ = ["MVAE", "Gaussian", "Modality", "Table", "fit", "likelihoods", "log_likelihood", "progress"]

# Names are imported when first used, so that `mvae --help` need not wait for torch.
_HOMES = {
    "Gaussian": "mvae.gaussian",
    "MVAE": "mvae.models.mvae",
    "Modality": "mvae.modality",
    "Table": "mvae.data.table",
    "fit": "mvae.training",
    "log_likelihood": "mvae.estimators",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("likelihoods", "progress"):
        return importlib.import_module(f"mvae.{name}")
    raise AttributeError(f"module 'mvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
