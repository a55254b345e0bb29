"""The user's own learning rate schedule: any of `torch.optim.lr_scheduler`, stepped at each epoch's end."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mvae.errors import RunError, SettingsError

__all__ = ["Schedule"]


class Schedule:
    """A schedule that the user's function makes for an optimizer.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule = Schedule(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), optimizer)
    >>> _ = optimizer.step()
    >>> schedule.step(None)
    >>> optimizer.param_groups[0]["lr"]
    0.5

    Raises:
        SettingsError: the function does not make one of PyTorch's schedulers, or cannot be called with an optimizer.
    """

    def __init__(self, make: Callable[..., Any], optimizer: torch.optim.Optimizer):
        try:
            made = make(optimizer)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"schedule is called with the optimizer, and failed: {error}") from error
        if not isinstance(made, LRScheduler):
            raise SettingsError(f"schedule must make one of torch.optim.lr_scheduler, not {type(made).__name__}")
        self.scheduler, self.optimizer = made, optimizer

    @property
    def needs_validation(self) -> bool:
        """Does it depend on the validation objective?"""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def step(self, objective: float | None) -> None:
        """Step at the end of an epoch, with its validation objective.

        Raises:
            SettingsError: the scheduler fails, for example because it was made for fewer epochs.
        """
        try:
            if isinstance(self.scheduler, ReduceLROnPlateau):
                assert objective is not None
                self.scheduler.step(objective)
            else:
                self.scheduler.step()
        except (TypeError, ValueError) as error:
            raise SettingsError(f"schedule is stepped after each epoch, and failed: {error}") from error

    def state(self) -> dict[str, Any]:
        """Its state, and the numbers that it sets in the optimizer, as plain values.

        Raises:
            SettingsError: its state cannot be stored in a checkpoint.
        """
        groups = [{key: value for key, value in group.items() if _number(value)} for group in self._groups]
        try:
            return json.loads(json.dumps({"scheduler": self.scheduler.state_dict(), "groups": groups}, default=_plain))
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"{type(self.scheduler).__name__} keeps what a checkpoint cannot hold ({error}): train without run_dir"
            ) from error

    def restore(self, state: Mapping[str, Any] | None, path: Path) -> None:
        """Restore what `state` returned.

        Raises:
            RunError: the state is not of such a schedule.
        """
        try:
            assert state is not None
            self.scheduler.load_state_dict(state["scheduler"])
            for group, kept in zip(self._groups, state["groups"], strict=True):
                for key, value in kept.items():
                    if isinstance(group[key], Tensor):
                        group[key].fill_(value)
                    else:
                        group[key] = type(group[key])(value)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged (schedule: {error!r}); train again in another --run-dir") from error

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups


def _number(value: object) -> bool:
    """Is this a number, or a tuple of numbers such as betas?"""
    if isinstance(value, tuple):
        return all(map(_number, value))
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)


def _plain(value: object) -> float:
    if isinstance(value, Tensor) and value.dim() == 0:
        return float(value)
    raise TypeError(f"a {type(value).__name__}")
