"""Logistic regression from features to classes, on the digits: what it must reach, and from what it may learn."""

import dataclasses

import numpy as np
import pytest
import torch

from mvae.baselines.features import latents, pixels, rbm
from mvae.baselines.logistic import accuracy
from mvae.data import digits
from mvae.data.splits import Splits
from mvae.data.table import Table
from mvae.data.weak import complete_rows, weak_supervision
from mvae.errors import DataError, SettingsError
from mvae.experiments import build, experiment
from mvae.progress import Silent
from mvae.training import fit


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits.load()


def test_pixels_reach_what_logistic_regression_reaches_on_the_digits(splits: Splits) -> None:
    assert accuracy(pixels, splits, 1.0) > 0.95
    assert 0.8 < accuracy(pixels, splits, 0.1) < 0.95
    assert 0.4 < accuracy(pixels, splits, 0.01) < 0.8  # 12 pairs


def test_an_rbms_units_are_good_features(splits: Splits) -> None:
    assert accuracy(rbm(splits.train, epochs=150), splits, 1.0) > 0.9


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_codes_of_networks_trained_without_labels_are_good_features(name: str, splits: Splits) -> None:
    model = build(experiment("digits"), model=name)
    fit(model, splits.train, epochs=8, reporter=Silent())
    assert accuracy(latents(model, splits.train), splits, 1.0) > 0.85


def test_it_learns_from_the_pairs_alone(splits: Splits) -> None:
    """Spoiling every label that is hidden at this level, in training and validation rows, changes nothing."""

    def spoilt(table: Table) -> Table:
        kept = complete_rows(weak_supervision(table, 0.1, 3))
        assert kept is not None
        known = {row.numpy().tobytes() for row in torch.as_tensor(kept.columns["image"])}
        label = torch.as_tensor(table.columns["label"]).clone()
        hidden = [row.numpy().tobytes() not in known for row in torch.as_tensor(table.columns["image"])]
        label[hidden] = (label[hidden] + 1) % 10
        assert sum(hidden) > 0.85 * len(table)
        return Table({"image": table.columns["image"], "label": label})

    others = dataclasses.replace(splits, train=spoilt(splits.train), validation=spoilt(splits.validation))
    assert accuracy(pixels, others, 0.1, seed=3) == accuracy(pixels, splits, 0.1, seed=3)
    assert accuracy(pixels, others, 1.0, seed=3) < 0.5


def test_a_single_pair_teaches_its_class(splits: Splits) -> None:
    (pair,) = torch.as_tensor(weak_supervision(splits.train, 0.001).columns["label"])[
        weak_supervision(splits.train, 0.001).present.all(1)
    ].tolist()
    share = (np.asarray(splits.test.columns["label"]) == pair).mean()
    assert accuracy(pixels, splits, 0.001) == pytest.approx(share)


def test_what_it_cannot_learn_is_refused(splits: Splits) -> None:
    with pytest.raises(SettingsError, match="0 of 1297 rows leave no pair to learn from"):
        accuracy(pixels, splits, 0.0)
    several = Table({"image": splits.train.columns["image"], "label": torch.zeros(1297, 4, dtype=torch.int64)})
    with pytest.raises(DataError, match="label is not one class a row"):
        accuracy(pixels, dataclasses.replace(splits, train=several), 0.1)
