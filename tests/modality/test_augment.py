"""Augmentations, by name and as objects, and their valid arguments; their effect is tested with the modality."""

import math
from typing import Any

import pytest
import torch

from mvae.errors import SettingsError
from mvae.modality.augment import AUGMENTATIONS, Noise, Power, Shift, listed, named


@pytest.mark.parametrize("power", [0.0, -1.0, math.inf, math.nan])
def test_a_power_that_is_not_above_zero_and_finite_is_refused(power: float) -> None:
    with pytest.raises(SettingsError, match="must be above 0 and finite"):
        Power(power)


@pytest.mark.parametrize("std", [-0.1, math.inf, math.nan])
def test_a_noise_that_is_negative_or_not_finite_is_refused(std: float) -> None:
    with pytest.raises(SettingsError, match="must be a finite number ≥ 0"):
        Noise(std)


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be a whole number ≥ 0, not -1"):
        Shift(-1)


def test_a_declaration_lists_augmentations_by_name() -> None:
    assert listed([{"name": "noise", "std": 0.3}, {"name": "shift", "pixels": 1}]) == (Noise(0.3), Shift(1))
    assert listed({"name": "power", "exponent": 0.5}) == (Power(0.5),)
    assert listed(None) == listed([]) == ()
    assert listed(torch.add) == (torch.add,)
    assert set(AUGMENTATIONS) == {"hide", "noise", "shift", "power"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("noyse", r"no augmentation 'noyse'; there are hide, noise, shift, power \(did you mean 'noise'\?\)"),
        ({"name": "noise", "sdt": 0.3}, r"has no option 'sdt'; it has std \(did you mean 'std'\?\)"),
        ({"name": "noise"}, "the augmentation 'noise' needs std"),
        ({"name": "shift", "pixels": 1.5}, "pixels of the augmentation 'shift' must be a whole number, not 1.5"),
        ({"std": 0.3}, "names no augmentation"),
    ],
)
def test_an_invalid_augmentation_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        named(spec)


def test_a_non_callable_is_refused() -> None:
    with pytest.raises(SettingsError, match="3 names no augmentation"):
        listed([3])
