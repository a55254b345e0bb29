"""The optimizer that the settings name, and its state as tensors by name."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mvae.errors import RunError, SettingsError
from mvae.files import prefixed, without_prefix
from mvae.training.settings import TrainingSettings

__all__ = ["can_be_replayed", "make_optimizer", "optimizer_state", "restore_optimizer", "set_rate"]

OF_A_PARAMETER = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # state with the parameter's own shape


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    """Make a fresh optimizer of these parameters.

    Raises:
        SettingsError: no parameters to train, or a factory of the user's own that does not make an optimizer.
    """
    if not parameters:
        raise SettingsError("the model has no parameters to train")
    own, rate, decay = list(parameters.values()), settings.learning_rate, settings.weight_decay
    on_gpu, fused = device.type == "cuda", device.type in ("cpu", "cuda")
    if settings.optimizer in ("adam", "adamw"):
        make = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        lr = torch.tensor(rate, device=device) if on_gpu else rate  # a recorded step reads a tensor
        return make(own, lr=lr, weight_decay=decay, fused=fused, capturable=on_gpu)
    if isinstance(settings.optimizer, str):
        return torch.optim.SGD(own, lr=rate, momentum=0.9, weight_decay=decay, fused=fused)
    try:
        made = settings.optimizer(own, lr=rate, **({"weight_decay": decay} if decay else {}))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"optimizer is called with parameters and lr=, and failed: {error}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise SettingsError(f"optimizer must make a torch.optim.Optimizer, not {type(made).__name__}")
    if any(p.default is p.empty for p in inspect.signature(made.step).parameters.values() if p.name == "closure"):
        raise SettingsError(f"{type(made).__name__} evaluates the loss several times a step, which fit does not do")
    return made


def can_be_replayed(settings: TrainingSettings) -> bool:
    """Can the optimizer's step be recorded on a GPU and replayed with a changing learning rate?"""
    return settings.optimizer in ("adam", "adamw")


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the optimizer's learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state of each parameter that has had a gradient, as ``PARAMETER/KEY``.

    Raises:
        SettingsError: its state holds something other than a tensor, which a checkpoint cannot hold.
    """
    result: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        kept = {key: value for key, value in optimizer.state.get(parameter, {}).items() if value is not None}
        for key, value in kept.items():
            if not isinstance(value, Tensor):
                raise SettingsError(
                    f"{type(optimizer).__name__} keeps {key} as {type(value).__name__}, and a checkpoint holds tensors "
                    "only: train without run_dir, or with another optimizer"
                )
        result |= prefixed(name, kept)
    return result


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], path: Path
) -> None:
    """Restore the state that `optimizer_state` returned.

    Raises:
        RunError: a tensor with another shape, or one that is not finite.
    """
    for name, parameter in parameters.items():
        kept = without_prefix(name, tensors)
        if not kept:
            continue  # a parameter that has had no gradient yet
        for key, value in kept.items():
            if key in OF_A_PARAMETER and value.shape != parameter.shape:
                raise RunError(f"{path} belongs to another model: the optimizer's {key} of {name} has another shape")
            if not value.isfinite().all():
                raise RunError(f"{path} is damaged (the optimizer's {key} of {name} is not finite): train again")
        optimizer.state[parameter] = {
            key: value.to(parameter.device) if value.dim() or parameter.device.type == "cuda" else value
            for key, value in kept.items()
        }
