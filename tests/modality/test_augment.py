"""Augmentations, by name and as objects, and their valid arguments; their effect is tested with the modality."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from mvae.errors import SettingsError
from mvae.modality.augment import AUGMENTATIONS, Affine, Noise, Power, Shift, listed, named


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


@pytest.mark.parametrize("limit", [{"degrees": -1.0}, {"stretch": math.inf}, {"shear": math.nan}, {"pixels": -0.5}])
def test_a_limit_that_is_negative_or_not_finite_is_refused(limit: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"the {next(iter(limit))} of an affine augmentation must be a finite"):
        Affine(**limit)


def test_an_affine_augmentation_equals_that_of_scipy() -> None:
    x = torch.rand(6, 2, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(Affine()(x), x)
    found = Affine(degrees=40.0, stretch=0.3, shear=0.4, pixels=2.5)(x, torch.Generator().manual_seed(3))
    u = 2 * torch.rand(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy() - 1
    middle = np.array([4.0, 5.5])  # row and column
    for i in range(6):
        angle, shear, wide, high, right, down = u[:, i] * [math.radians(40), 0.4, 0.3, 0.3, 2.5, 2.5]
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        matrix = turn @ np.diag([math.exp(high), math.exp(wide)]) @ np.array([[1, 0], [shear, 1]])
        whole = np.eye(3)  # homogeneous
        whole[:2, :2], whole[:2, 2] = matrix, middle - matrix @ middle + np.array([down, right])
        for channel in range(2):
            one = ndimage.affine_transform(x[i, channel].numpy(), whole, order=1, mode="grid-constant")
            np.testing.assert_allclose(found[i, channel].numpy(), one, atol=1e-12)
    classes = torch.tensor([3, 0])
    assert Affine(degrees=5.0)(classes) is classes


def test_a_declaration_lists_augmentations_by_name() -> None:
    assert listed([{"name": "noise", "std": 0.3}, {"name": "shift", "pixels": 1}]) == (Noise(0.3), Shift(1))
    assert listed({"name": "power", "exponent": 0.5}) == (Power(0.5),)
    assert listed({"name": "affine", "degrees": 15.0}) == (Affine(15.0),)
    assert listed(None) == listed([]) == ()
    assert listed(torch.add) == (torch.add,)
    assert set(AUGMENTATIONS) == {"affine", "hide", "noise", "shift", "power"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("noyse", r"no augmentation 'noyse'; there are affine, hide, noise, shift, power \(did you mean 'noise'\?\)"),
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
