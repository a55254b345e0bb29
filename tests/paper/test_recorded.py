"""Initial weights, losses and validation objectives of the reproduction, as recorded.

They were recorded with the code that made the results, before a run was a declaration. A change that moves them changes
published numbers.
"""

from typing import Any

import pytest
import torch

from mvae.data.table import Table
from mvae.models.base import MultimodalVAE
from mvae.training.fit import fit
from tests.built import built

#: For each case: the sum of the initial weights' magnitudes, the losses and the validation objectives of five epochs.
RECORDED: dict[tuple[str, str, str, str], tuple[float, list[float], list[float]]] = {
    ("digits", "mvae", "paper", "complete"): (
        13468.5844113,
        [317.0477, 308.008, 293.2955, 245.7387, 204.5216],
        [323.5653, 320.889, 316.5963, 307.757, 298.6089],
    ),
    ("digits", "mvae", "coupled", "holes"): (
        13468.5844113,
        [175.4712, 178.093, 167.3723, 144.1948, 139.1529],
        [323.3955, 319.3343, 312.8402, 303.0688, 298.4619],
    ),
    ("digits", "jmvae", "paper", "holes"): (
        19769.3427569,
        [155.7334, 151.6987, 144.4785, 134.4418, 108.9746],
        [156.6655, 154.7776, 152.6304, 151.1356, 152.3608],
    ),
    ("digits", "mvae_q", "paper", "holes"): (
        13468.5844113,
        [189.9703, 178.9953, 151.0702, 108.2572, 102.7795],
        [315.9814, 307.9661, 303.481, 302.0275, 297.3202],
    ),
    ("digits", "telbo", "paper", "holes"): (
        21207.4663892,
        [80.12069, 78.98228, 70.54589, 61.94479, 53.65387, 97.74831, 89.79516, 82.10004, 78.61128, 69.892],
        [162.3814, 161.256, 159.913, 158.9478, 164.4913, 160.3158, 155.957, 152.2992, 149.5, 148.1897],
    ),
    ("digits", "mopoe", "paper", "complete"): (
        13468.5844113,
        [158.4173, 151.7549, 143.1597, 121.1825, 111.0583],
        [159.2887, 158.3699, 160.707, 169.7904, 187.9313],
    ),
    ("digits", "mvtcae", "paper", "complete"): (
        13468.5844113,
        [87.3237, 85.45965, 81.79566, 66.49243, 56.28953],
        [88.68814, 88.16613, 88.85283, 92.22462, 94.57049],
    ),
    ("digits", "nn", "paper", "complete"): (
        13468.5844113,
        [2.284922, 2.14496, 2.006979, 1.653646, 1.524254],
        [2.292089, 2.300331, 2.44127, 2.905777, 3.517535],
    ),
    ("translation", "mvae", "coupled", "holes"): (
        2405109.6545422,
        [359.6061, 481.6324, 507.5198, 451.411, 416.9202],
        [598.4672, 585.8458, 576.6322, 564.5718, 556.8616],
    ),
}


def columns(model: MultimodalVAE, rows: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in model.names:
        if name == "image":
            found[name] = torch.rand((rows, 1, 8, 8), generator=generator)
        elif name == "label":
            found[name] = torch.randint(0, 10, (rows,), generator=generator)
        else:
            words = int(model.modalities[name].decoder.vocabulary)  # pyright: ignore[reportArgumentType]
            x = torch.randint(2, words, (rows, 10), generator=generator)
            lengths = torch.randint(1, 8, (rows,), generator=generator)
            x[torch.arange(10) >= lengths[:, None]] = 0
            found[name] = x
    return found


def with_holes(data: dict[str, torch.Tensor], rows: int) -> Table:
    generator = torch.Generator().manual_seed(5)
    present = {name: torch.rand(rows, generator=generator) < 0.7 for name in data}
    first = next(iter(data))
    present[first][0] = True
    present[first] |= ~torch.stack(list(present.values())).any(0)
    return Table(data, {name: p | (torch.arange(rows) == 1) for name, p in present.items()})


def measured(dataset: str, model: str, recipe: str, rows: str) -> tuple[float, list[float], list[float]]:
    holes = rows == "holes"
    full, made = built(dataset, recipe), built(dataset, recipe, model=model)
    data = columns(full, 12, 1)
    train = with_holes(data, 12) if holes else Table(data)
    if holes and made.needs_complete:
        train = Table(dict(train.take(train.present.all(1)).columns))
    size = sum(float(p.detach().double().abs().sum()) for p in made.parameters())
    schedule: dict[str, Any] = {"epochs": 5, "anneal_epochs": 2, "decay_epochs": 2 if recipe == "coupled" else 0}
    epochs = fit(made, train, validation=Table(columns(full, 5, 2)), batch_size=3, callbacks=[], **schedule).epochs
    return size, [e["train/loss"] for e in epochs], [e.get("validation/objective", 0.0) for e in epochs]


@pytest.mark.parametrize("case", RECORDED, ids=" ".join)
def test_models_have_the_recorded_numbers(case: tuple[str, str, str, str]) -> None:
    size, losses, objectives = measured(*case)
    expected = RECORDED[case]
    assert size == pytest.approx(expected[0], rel=1e-7)
    assert losses == pytest.approx(expected[1], rel=1e-4)
    assert objectives == pytest.approx(expected[2], rel=1e-4)
