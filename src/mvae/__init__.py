"""Multimodal variational autoencoders: one joint model of several modalities, any of which may be missing."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvae import likelihoods
    from mvae.data.table import Table
    from mvae.evaluation.likelihood import log_likelihood
    from mvae.gaussian import Gaussian
    from mvae.modality.base import Modality
    from mvae.models.mvae import MVAE
    from mvae.training import progress
    from mvae.training.fit import fit

__all__ = ["MVAE", "Gaussian", "Modality", "Table", "fit", "likelihoods", "log_likelihood", "progress"]

# Names are imported when first used, so that `mvae --help` need not wait for torch.
_HOMES = {
    "Gaussian": "mvae.gaussian",
    "MVAE": "mvae.models.mvae",
    "Modality": "mvae.modality.base",
    "Table": "mvae.data.table",
    "fit": "mvae.training.fit",
    "log_likelihood": "mvae.evaluation.likelihood",
}
_MODULES = {"likelihoods": "mvae.likelihoods", "progress": "mvae.training.progress"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name == "__version__":
        return importlib.import_module("mvae.provenance").installed_version()
    raise AttributeError(f"module 'mvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
