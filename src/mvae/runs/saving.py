"""A model in one file: weights as safetensors, and the declaration that rebuilds its networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from mvae.arguments import checked_arguments
from mvae.errors import RunError, SettingsError
from mvae.files import as_path, copied, load_state, load_weights, not_finite, prefixed, save_state, without_prefix
from mvae.models.base import MultimodalVAE
from mvae.models.fitting import built_prior
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.run import opened_model
from mvae.training.checkpoint import SETTINGS

__all__ = ["EXPORTED", "load", "read_saved", "save"]

EXPORTED = "model.mvae"  # the model in a directory written by `mvae export`


class _Saved(BaseModel):
    """What a file holds in addition to the weights."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    names: list[str]
    likelihoods: list[str] | None = None  # of the modalities; the weights alone would fit others too
    stage: str
    untrained: list[str] | None
    declaration: dict[str, Any] | None
    layout: dict[str, Any] | None
    prior: dict[str, Any] | None = None
    dtype: Literal["float64", "float16", "bfloat16"] | None = None  # of the networks; None: float32


@checked_arguments()
def save(model: MultimodalVAE, path: str | Path, *, layout: Mapping[str, Any] | None = None) -> None:
    """Write a model to a file, with the prior that was fitted to it; `load` reads it.

    For a model of your own networks only the weights are kept: give the same modules to `load`. ``layout`` says what
    the columns of its table mean, and is stored with it (`mvae.runs.tables.TableModel.save`).

    Raises:
        RunError: the file cannot be written, or weights are not finite, which `load` would refuse.
    """
    declaration = getattr(model, "declaration", None)
    info = {"model": type(model).__name__, "names": list(model.names), "stage": model.stage}
    info["untrained"] = None if model.untrained is None else list(model.untrained)
    info["declaration"] = None if declaration is None else declaration.to_dict()
    info["likelihoods"] = _likelihoods(model)
    info["layout"], tensors = layout, copied(model)
    if model.dtype != torch.float32:
        info["dtype"] = str(model.dtype).removeprefix("torch.")
    if model.prior is not None:
        own, info["prior"] = model.prior.state()
        tensors |= prefixed("prior", own)
    path = as_path(path)
    if bad := not_finite(tensors):
        raise RunError(f"cannot write {path}: {bad[0]} of the model is not finite. Train it again")
    save_state(path, tensors, info)


@checked_arguments()
def load(path: str | Path, model: MultimodalVAE | None = None) -> MultimodalVAE:
    """Load a model from a file of `save`, a run directory or an exported one, in eval mode.

    Args:
        path: the file or the directory.
        model: for networks of your own, a model of the same modules, which receives the weights.

    Raises:
        RunError: absent, damaged, or of another model. SettingsError: networks of your own without ``model``.

    >>> import tempfile
    >>> small = Config.from_dict({"data": {"source": "x.npz"}, "modalities": {"x": {"kind": "real", "shape": [3]}}})
    >>> model, folder = build(small).eval(), tempfile.mkdtemp()
    >>> save(model, f"{folder}/small.mvae")
    >>> x = torch.zeros(2, 3)
    >>> bool((load(f"{folder}/small.mvae").posterior({"x": x}).mean == model.posterior({"x": x}).mean).all())
    True
    """
    path = as_path(path)
    path = path / EXPORTED if (path / EXPORTED).is_file() else path
    if not path.exists():
        raise RunError(f"there is no {path}: give the file that mvae.save wrote, or a run directory")
    if path.is_dir() or path.name == SETTINGS:
        return opened_model(path if path.name != SETTINGS else path.parent)
    tensors, info = read_saved(path)
    try:
        saved = _Saved(**info)
    except (ValidationError, TypeError):
        raise RunError(f"{path} is damaged, or not written by mvae.save: write it again") from None
    model = _declared(saved, path) if model is None else model
    _require_alike(model, saved, path)
    if saved.dtype is not None:
        model.to(getattr(torch, saved.dtype))
    prior = without_prefix("prior", tensors)
    load_weights(model, {name: t for name, t in tensors.items() if not name.startswith("prior/")}, path)
    model.prior = built_prior(prior, saved.prior or {}, path) if prior else None
    model.stage = saved.stage
    model.untrained = None if saved.untrained is None else tuple(saved.untrained)
    return model.eval()


def read_saved(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights in a file that `save` wrote, and what is stored with them.

    Raises:
        RunError: absent, damaged or another kind of file.
    """
    try:
        return load_state(path)
    except RunError as error:
        raise RunError(f"{path} is damaged, or not a file that mvae.save wrote ({error.__cause__ or error})") from None


def _likelihoods(model: MultimodalVAE) -> list[str]:
    return [type(modality.likelihood).__name__ for modality in model.modalities.values()]


def _require_alike(model: MultimodalVAE, saved: _Saved, path: Path) -> None:
    """Raises RunError where the weights may fit, but the model is a different one."""
    if list(model.names) != saved.names:
        raise RunError(f"{path} is of the modalities {saved.names}, not of {list(model.names)}")
    if type(model).__name__ != saved.model:
        raise RunError(f"{path} is of the class {saved.model}, not {type(model).__name__}: give a model of that class")
    own = _likelihoods(model)
    if saved.likelihoods is not None and own != saved.likelihoods:
        raise RunError(f"{path} has the likelihoods {', '.join(saved.likelihoods)}, not {', '.join(own)}")
    if saved.stage not in model.stages:
        raise RunError(f"{path} was saved in the stage {saved.stage!r}, which {type(model).__name__} does not have")


def _declared(saved: _Saved, path: Path) -> MultimodalVAE:
    if saved.declaration is None:
        raise SettingsError(f"{path} holds the weights of networks of your own: give them, load(path, model=...)")
    try:
        return build(Config.from_dict(saved.declaration))
    except SettingsError as error:
        raise RunError(f"{path} cannot be built again ({error})") from None
