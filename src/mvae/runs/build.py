"""Builds a model from a declaration: modalities by kind; networks, likelihoods and the model's class by name."""

import inspect
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from mvae import likelihoods, networks
from mvae.data.fields import fields_of
from mvae.errors import SettingsError, nearest, out_of_memory
from mvae.likelihoods.columns import Fieldwise
from mvae.modality.base import Modality
from mvae.modality.columns import ColumnsModality
from mvae.modality.covariate import Covariate
from mvae.modality.sentences import SentenceDecoder, SentenceModality
from mvae.modality.strings import StringModality
from mvae.models.base import MultimodalVAE
from mvae.networks.columns import ColumnFeatures
from mvae.runs.config import Config
from mvae.runs.registry import model_class
from mvae.runs.sections import CovariateSettings, ModalitySettings

__all__ = ["KINDS", "build"]

_INITIALISING = threading.Lock()  # initial weights come from PyTorch's single CPU generator


def build(config: Config) -> MultimodalVAE:
    """Build the model that a declaration describes; its initial weights depend on the seed alone.

    Every modality must state its kind and its shape or classes; `mvae.runs.source.completed` takes them from the data.

    Raises:
        SettingsError: an unknown name, an option that the model or a network does not take, or a value outside its
            range.

    >>> parts = {"x": {"kind": "real", "shape": [3]}, "y": {"kind": "categorical", "classes": 4}}
    >>> model = build(Config.from_dict({"data": {"source": "x.npz"}, "modalities": parts}))
    >>> model.names, model.latent_dim
    (('x', 'y'), 32)
    """
    config = config.resolved()
    of_class, options = model_class(config.model.name), config.model.options
    _require_options(of_class, config.model.name, options)
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # not the GPUs': another thread may be recording there
        with out_of_memory("this model", SettingsError):
            built = _built(of_class, config, options)
    built.declaration = config
    return built


def _built(of_class: Any, config: Config, options: dict[str, Any]) -> MultimodalVAE:
    latents, parts = config.model.latents, config.modalities
    names = list(config.model.modalities or (name for name in parts if name != config.training.row_weights))
    for name in names:
        if name not in parts:
            raise SettingsError(f"model.modalities names {name!r}; there are {', '.join(parts)}{nearest(name, parts)}")
    if of_class.conditional:  # the networks of its one modality also take another column
        condition = options.setdefault("condition", names[-1]) if len(names) == 2 else options.get("condition")
        if condition not in parts:
            raise SettingsError(
                f"{config.model.name} needs model.condition, the modality conditioned on: one of {', '.join(parts)}"
            )
        given = parts[condition]
        real = {"classes": None, "features": _size(given), "standardise": given.kind != "binary" and given.standardise}
        width = {"classes": given.classes} if given.kind == "categorical" else real
        first = next(name for name in names if name != condition)
        modality = _modality(first, parts[first], latents, condition=given.classes or _size(given))
        return of_class({first: modality}, latents, **options | width)
    if isinstance(joint := options.get("joint_encoder"), str | Mapping):
        shapes = {name: _event(parts[name]) for name in names}
        options["joint_encoder"] = networks.build(joint, inputs=shapes, outputs=2 * latents, role="joint")
    covariates = {name: _covariate(name, settings) for name, settings in config.covariates.items()}
    width = sum(covariate.width for covariate in covariates.values())
    widths = {name: width if _takes_covariates(settings) else 0 for name, settings in parts.items()}
    built = {name: _modality(name, settings, latents, widths[name]) for name, settings in parts.items()}
    if of_class.first_only:
        names = names[:1]
    return of_class({name: built[name] for name in names} | covariates, latents, **options)


def _covariate(name: str, settings: CovariateSettings) -> Covariate:
    if settings.kind == "categorical":
        return Covariate(_needed(settings.categories, f"covariates.{name}.categories"), settings.unknown)
    return Covariate(features=settings.features)


def _takes_covariates(settings: ModalitySettings) -> bool:
    """Do its networks take the covariates? (Perceptrons for numbers do; networks for classes and text do not.)"""
    plain = (None, "mlp")
    named = (
        spec.get("network") if isinstance(spec, Mapping) else spec for spec in (settings.encoder, settings.decoder)
    )
    return settings.kind in ("real", "count", "binary", "columns") and all(name in plain for name in named)


def _modality(name: str, settings: ModalitySettings, latents: int, condition: int) -> Modality:
    """Build one modality by its kind."""
    if settings.kind not in KINDS:
        raise SettingsError(
            f"modalities.{name}.kind is {settings.kind!r}; there are {', '.join(KINDS)}"
            f"{nearest(str(settings.kind), KINDS)}"
        )
    if settings.linear_start and settings.kind != "columns":
        raise SettingsError(f"modalities.{name}: linear_start is for the kind columns, not {settings.kind}")
    try:
        return KINDS[settings.kind](settings, latents, condition)
    except SettingsError as error:
        raise SettingsError(f"modalities.{name}: {error}") from None


def _networks(
    settings: ModalitySettings, latents: int, condition: int, encoder: Any, decoder: Any, outputs: tuple[int, ...]
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder for one example's shape, by name or as the kind chooses."""
    event = _event(settings)
    make = networks.build
    return (
        make(settings.encoder or encoder, inputs=event, outputs=2 * latents, role="encoder", condition=condition),
        make(settings.decoder or decoder, inputs=latents, outputs=outputs, role="decoder", condition=condition),
    )


def _common(settings: ModalitySettings) -> dict[str, Any]:
    return {
        "weight": settings.weight,
        "augment": settings.augment or None,
        "view": settings.view,
        "standardise": settings.standardise,
        "class_weights": settings.class_weights,
    }


def _picture(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    mlp = {"network": "mlp", "hidden": [512, 512]}
    nets = _networks(settings, latents, condition, mlp, mlp, _event(settings))
    likelihood = likelihoods.named(settings.likelihood or "bernoulli")
    if settings.levels is not None:
        likelihood.levels = settings.levels
    return Modality(*nets, likelihood, **_common(settings))


def _numbers(likelihood: Any) -> Callable[[ModalitySettings, int, int], Modality]:
    def make(settings: ModalitySettings, latents: int, condition: int) -> Modality:
        mlp = {"network": "mlp", "hidden": [256, 256]}
        nets = _networks(settings, latents, condition, mlp, mlp, _event(settings))
        return Modality(*nets, likelihoods.named(settings.likelihood or likelihood), **_common(settings))

    return make


def _count(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    event = _event(settings)
    mlp = {"network": "mlp", "hidden": [256, 256]}
    likelihood = likelihoods.named(settings.likelihood or {"name": "negative_binomial", "features": event[-1]})
    parameters = likelihood.parameters_per_value or 1
    outputs = event if parameters == 1 else (*event, parameters)
    nets = _networks(settings, latents, condition, mlp, mlp, outputs)
    return Modality(*nets, likelihood, **_common(settings))


def _categorical(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    classes = _needed(settings.classes, "classes")
    encoder, decoder = {"network": "label", "hidden": 256}, {"network": "mlp", "hidden": [256, 256]}
    nets = _networks(settings, latents, condition, encoder, decoder, (classes,))
    return Modality(*nets, likelihoods.named(settings.likelihood or "categorical"), **_common(settings))


def _refuse(settings: ModalitySettings, *keys: str) -> None:
    """Raises SettingsError for keys that do not apply to text, whose tokens are read and written as they are."""
    if given := [key for key in keys if key in settings.model_fields_set and getattr(settings, key)]:
        raise SettingsError(
            f"{given[0]} is not a key of kind {settings.kind!r}, which is read and written token by token"
        )


def _string(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    _refuse(settings, "augment", "view", "likelihood", "class_weights")
    symbols, length = _needed(settings.classes, "classes"), _needed(settings.length, "length")
    encoder, decoder = _networks(settings, latents, condition, "gru", "gru", (symbols,))
    return StringModality(encoder, decoder, symbols, length, weight=settings.weight)


def _sentence(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    _refuse(settings, "augment", "view", "likelihood", "class_weights")
    words, length = _needed(settings.classes, "classes"), _needed(settings.length, "length")
    encoder, decoder = _networks(settings, latents, condition, "lstm", "lstm", (words,))
    return SentenceModality(encoder, cast("SentenceDecoder", decoder), length, weight=settings.weight)


def _columns(settings: ModalitySettings, latents: int, condition: int) -> Modality:
    if not settings.fields:
        raise SettingsError("fields are needed, and the data do not give them")
    fields = fields_of(field.model_dump(exclude={"levels"}) for field in settings.fields)
    spec: Any = {"network": "mlp", "hidden": [128, 128]}
    features, size = ColumnFeatures(fields).size, Fieldwise(fields).size
    make, own = networks.build, {"condition": condition}
    encoder = make(settings.encoder or spec, inputs=(features,), outputs=2 * latents, role="encoder", **own)
    decoder = make(settings.decoder or spec, inputs=latents, outputs=(size,), role="decoder", **own)
    return ColumnsModality(fields, encoder, decoder, settings.weight, settings.augment or None, settings.linear_start)


#: The function that builds a modality, for each kind.
KINDS: dict[str, Callable[[ModalitySettings, int, int], Modality]] = {
    "columns": _columns,
    "real": _numbers({"name": "gaussian", "learned": True}),
    "binary": _numbers("bernoulli"),
    "count": _count,
    "categorical": _categorical,
    "picture": _picture,
    "string": _string,
    "sentence": _sentence,
}


def _event(settings: ModalitySettings) -> tuple[int, ...]:
    """The shape of one example as its networks see it; for classes and tokens, their number."""
    if settings.kind == "columns":
        return (len(settings.fields),)
    if settings.shape is None and settings.classes is not None:
        return (settings.classes,)
    return tuple(_needed(settings.shape, "shape"))


def _size(settings: ModalitySettings) -> int:
    return math.prod(_event(settings))


def _needed(value: Any, key: str) -> Any:
    if value is None:
        raise SettingsError(f"{key} is needed, and the data do not give it")
    return value


def _require_options(of_class: Any, name: str, options: Mapping[str, Any]) -> None:
    """Raises SettingsError for an option that the model's class does not take, or a required one that is missing."""
    own = inspect.signature(of_class).parameters
    taken = [parameter for parameter in own if parameter not in ("modalities", "latent_dim")]
    if lacking := [key for key in taken if own[key].default is inspect.Parameter.empty and key not in options]:
        raise SettingsError(f"{name} needs model.{lacking[0]}")
    if unknown := [key for key in options if key not in taken]:
        listed = ", ".join(taken) or "no options"
        raise SettingsError(
            f"model.{unknown[0]} is not an option of {name}, which takes {listed}{nearest(unknown[0], taken)}"
        )
