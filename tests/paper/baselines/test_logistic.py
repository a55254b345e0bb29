"""Logistic regression on the digits: the accuracy it must reach, and the rows it may learn from."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from mvae.data.dataset import Dataset
from mvae.data.masking import complete_rows, pair_fraction
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.paper.baselines import logistic
from mvae.paper.baselines.features import latents, pixels, rbm
from mvae.paper.baselines.logistic import logistic_accuracy, shifted_copies
from mvae.paper.datasets import digits
from mvae.training.fit import fit
from tests.built import built


@pytest.fixture(scope="module")
def splits() -> Dataset:
    return digits.load()


def test_pixels_reach_expected_accuracy(splits: Dataset) -> None:
    assert logistic_accuracy(pixels, splits, 1.0) > 0.95
    assert 0.8 < logistic_accuracy(pixels, splits, 0.1) < 0.95
    assert 0.4 < logistic_accuracy(pixels, splits, 0.01) < 0.8  # 12 pairs


def test_copies_are_shifted_by_one_pixel_and_keep_class() -> None:
    image = torch.arange(1, 25, dtype=torch.uint8).reshape(2, 1, 3, 4)
    copies = shifted_copies(Table({"image": image, "label": torch.tensor([7, 8])}), 1)
    rolled = [image] + [torch.roll(image, by, axis) for by, axis in ((1, -2), (-1, -2), (1, -1), (-1, -1))]
    for found, expected, edge in zip(copies[1:], rolled[1:], ("0,:", "2,:", ":,0", ":,3"), strict=True):
        first, second = edge.split(",")  # what torch.roll brings round is zero
        place = (slice(None) if first == ":" else int(first), slice(None) if second == ":" else int(second))
        expected[..., place[0], place[1]] = 0
        assert torch.equal(torch.as_tensor(found.columns["image"]), expected)
        assert torch.as_tensor(found.columns["label"]).tolist() == [7, 8]
    assert torch.equal(torch.as_tensor(copies[0].columns["image"]), image)


@pytest.mark.parametrize("seed", range(4))
def test_strength_is_selected_by_validation_pairs_and_five_folds(splits: Dataset, seed: int) -> None:
    train, validation = (complete_rows(pair_fraction(p, 0.1, seed)) for p in (splits.train, splits.validation))
    assert train is not None
    assert validation is not None
    x, y = pixels(train), np.asarray(train.columns["label"])
    x_known, y_known = pixels(validation), np.asarray(validation.columns["label"])
    x_test, y_test = pixels(splits.test), np.asarray(splits.test.columns["label"])
    folds = PredefinedSplit(np.arange(len(train)) % 5)
    right: list[float] = []
    scores: list[float] = []
    for c in logistic.STRENGTHS:
        classifier = LogisticRegression(C=c, max_iter=300)
        guesses = cross_val_predict(classifier, x, y, cv=folds)
        classifier.fit(x, y)
        right.append(float(np.sum(guesses == y)) + classifier.score(x_known, y_known) * len(y_known))
        scores.append(classifier.score(x_test, y_test))
    assert len(set(scores)) > 1
    assert logistic_accuracy(pixels, splits, 0.1, seed) == scores[right.index(max(right))]


def test_shifted_copies_share_a_fold() -> None:
    """The classes are random; training on copies of a fold's images would predict nearly all of them."""
    g = np.random.default_rng(0)
    x, y, image = g.normal(size=(40, 60)), g.integers(0, 2, 40), np.arange(40)
    x, y, image = np.tile(x, (5, 1)), np.tile(y, 5), np.tile(image, 5)
    assert logistic._right_in_folds(x, y, image, 10.0) / 5 < 30
    assert logistic._right_in_folds(x, y, np.arange(200) // 5, 10.0) / 5 == 40


def test_copies_weigh_as_much_as_one_pair(splits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "shifted_copies", lambda table, pixels: [table] * 5)
    for level in (0.01, 0.1):
        assert logistic_accuracy(pixels, splits, level, shift=1) == pytest.approx(
            logistic_accuracy(pixels, splits, level), abs=0.005
        )


def test_shifting_non_image_is_refused(splits: Dataset) -> None:
    flat = {"image": torch.rand(40, 64), "label": torch.arange(40) % 2}
    parts = Dataset("flat", train=Table(flat), validation=Table(flat), test=Table(flat))
    with pytest.raises(DataError, match="image is not an image, so it cannot be shifted by pixels"):
        logistic_accuracy(pixels, parts, 1.0, shift=1)


def test_rbm_features_are_accurate(splits: Dataset) -> None:
    assert logistic_accuracy(rbm(splits.train, epochs=150), splits, 1.0) > 0.9


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_unsupervised_latents_are_accurate(name: str, splits: Dataset) -> None:
    model = built("digits", model=name)
    fit(model, splits.train, epochs=8, callbacks=[])
    assert logistic_accuracy(latents(model, splits.train), splits, 1.0) > 0.85


def test_only_pairs_are_learned_from(splits: Dataset) -> None:
    """Corrupting every label that is hidden at this level, in training and validation rows, changes nothing."""

    def spoilt(table: Table) -> Table:
        kept = complete_rows(pair_fraction(table, 0.1, 3))
        assert kept is not None
        known = {row.numpy().tobytes() for row in torch.as_tensor(kept.columns["image"])}
        label = torch.as_tensor(table.columns["label"]).clone()
        hidden = [row.numpy().tobytes() not in known for row in torch.as_tensor(table.columns["image"])]
        label[hidden] = (label[hidden] + 1) % 10
        assert sum(hidden) > 0.85 * len(table)
        return Table({"image": table.columns["image"], "label": label})

    others = dataclasses.replace(splits, train=spoilt(splits.train), validation=spoilt(splits.validation))
    assert logistic_accuracy(pixels, others, 0.1, seed=3) == logistic_accuracy(pixels, splits, 0.1, seed=3)
    assert logistic_accuracy(pixels, others, 1.0, seed=3) < 0.5


def test_single_pair_predicts_its_class(splits: Dataset) -> None:
    (pair,) = torch.as_tensor(pair_fraction(splits.train, 0.001).columns["label"])[
        pair_fraction(splits.train, 0.001).present.all(1)
    ].tolist()
    share = (np.asarray(splits.test.columns["label"]) == pair).mean()
    assert logistic_accuracy(pixels, splits, 0.001) == pytest.approx(share)


def test_data_without_pairs_or_classes_is_refused(splits: Dataset) -> None:
    with pytest.raises(SettingsError, match="0 of 1297 rows leave no pair to learn from"):
        logistic_accuracy(pixels, splits, 0.0)
    several = Table({"image": splits.train.columns["image"], "label": torch.zeros(1297, 4, dtype=torch.int64)})
    with pytest.raises(DataError, match="label is not one class per row"):
        logistic_accuracy(pixels, dataclasses.replace(splits, train=several), 0.1)
