"""Multimodal variational autoencoders: one joint model of several modalities, any of which may be missing."""

import importlib
from typing import TYPE_CHECKING, Any

from mvae.models import MODELS

if TYPE_CHECKING:
    from mvae import errors, likelihoods, models, networks, sklearn, testing
    from mvae.data.fields import Field
    from mvae.data.table import Table
    from mvae.evaluation.impute import impute
    from mvae.evaluation.likelihood import log_likelihood
    from mvae.evaluation.spread import spread_labels
    from mvae.gaussian import Gaussian
    from mvae.modality import augment
    from mvae.modality.base import Modality
    from mvae.modality.columns import Columns
    from mvae.modality.covariate import Covariate
    from mvae.modality.sentences import SentenceModality
    from mvae.modality.strings import StringModality
    from mvae.models import *
    from mvae.models.fitting import fit_prior
    from mvae.runs.build import build
    from mvae.runs.config import Config
    from mvae.runs.fit_table import fit_table
    from mvae.runs.run import train
    from mvae.runs.saving import load, save
    from mvae.runs.tables import TableModel, load_table
    from mvae.training import progress
    from mvae.training.fit import fit
    from mvae.training.settings import TrainingSettings


# Names are imported when first used, so that `mvae --help` need not wait for torch.
_HOMES = {
    "Columns": "mvae.modality.columns",
    "Covariate": "mvae.modality.covariate",
    "Config": "mvae.runs.config",
    "Field": "mvae.data.fields",
    "Gaussian": "mvae.gaussian",
    "Modality": "mvae.modality.base",
    "SentenceModality": "mvae.modality.sentences",
    "StringModality": "mvae.modality.strings",
    "Table": "mvae.data.table",
    "TrainingSettings": "mvae.training.settings",
    "build": "mvae.runs.build",
    "TableModel": "mvae.runs.tables",
    "fit": "mvae.training.fit",
    "impute": "mvae.evaluation.impute",
    "fit_prior": "mvae.models.fitting",
    "fit_table": "mvae.runs.fit_table",
    "load": "mvae.runs.saving",
    "load_table": "mvae.runs.tables",
    "log_likelihood": "mvae.evaluation.likelihood",
    "save": "mvae.runs.saving",
    "spread_labels": "mvae.evaluation.spread",
    "train": "mvae.runs.run",
    **{path.partition(":")[2]: path.partition(":")[0] for path in MODELS.values()},
}
_MODULES = {
    "augment": "mvae.modality.augment",
    "errors": "mvae.errors",
    "likelihoods": "mvae.likelihoods",
    "models": "mvae.models",
    "networks": "mvae.networks",
    "progress": "mvae.training.progress",
    "sklearn": "mvae.sklearn",
    "testing": "mvae.testing",
}
__all__ = sorted([*_HOMES, *_MODULES])  # pyright: ignore[reportUnsupportedDunderAll]


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
