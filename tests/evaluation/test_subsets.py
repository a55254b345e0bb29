"""Coherence by subset size, unconditional coherence and linear accuracy of latents, with known true values."""

import math
from functools import partial

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation import subsets
from mvae.evaluation.representation import linear_accuracy_by_number
from mvae.evaluation.subsets import coherence_by_number, subsets_of, unconditional_coherence
from mvae.likelihoods import Gaussian
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE

NAMES, CLASSES = ("a", "b", "c"), 3


class CertainExpert(nn.Module):
    """An expert that is almost certain that z equals x."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.full_like(x, -20.0)


class ScaledLatent(nn.Module):
    """A decoder that returns z times a factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, z: Tensor) -> Tensor:
        return self.factor * z


def nearest(x: Tensor) -> Tensor:
    """The logits of a classifier that predicts the nearest integer."""
    return -(x - torch.arange(CLASSES)).square()


CLASSIFIERS = dict.fromkeys(NAMES, nearest)


@pytest.fixture
def model() -> MVAE:
    """A model whose modalities all equal the class; the decoder of c always returns 0."""
    parts = {n: Modality(CertainExpert(), ScaledLatent(float(n != "c")), Gaussian(), standardise=False) for n in NAMES}
    return MVAE(parts, 1, cross_from=()).eval()


def rows(count: int = 30, noise: float = 0.0) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    label = torch.randint(0, CLASSES, (count,))
    return {name: label[:, None] + noise * torch.randn(count, 1) for name in NAMES}, label


def test_coherence_is_the_mean_over_subsets_and_targets(model: MVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subsets, "ROWS", 7)  # a batch size that does not divide the rows
    data, label = rows()
    zero = float((label == 0).double().mean())
    found = coherence_by_number(model, CLASSIFIERS, data, label)
    assert found.shares[("a",), "b"] == found.shares[("b", "c"), "a"] == 1
    assert found.shares[("a", "b"), "c"] == pytest.approx(zero)
    assert found.by_number == pytest.approx({1: (4 + 2 * zero) / 6, 2: (2 + zero) / 3})
    assert coherence_by_number(model, CLASSIFIERS, data, label.numpy()) == found
    assert coherence_by_number(model, CLASSIFIERS, data, label.tolist()) == found
    some = coherence_by_number(model, {"c": nearest}, data, label, numbers=[2])
    assert some.by_number == pytest.approx({2: zero})


def test_rows_missing_a_part_of_a_subset_are_not_counted(model: MVAE) -> None:
    data, label = rows()
    has = label != 1
    table = Table(data | {"a": torch.where(has[:, None], data["a"], 99.0), "label": label}, {"a": has})
    found = coherence_by_number(model, CLASSIFIERS, table, label)
    assert found.shares[("a",), "b"] == 1
    assert found.shares[("a",), "c"] == pytest.approx(float((label[has] == 0).double().mean()))


def test_unconditional_coherence_is_the_rate_of_agreement(model: MVAE) -> None:
    """a and b return z ~ N(0, 1) and c returns 0, so they agree where z < ½."""
    expected = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    found = unconditional_coherence(model, CLASSIFIERS, 4000)
    assert found.share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))
    assert found.largest == 1  # c is always 0


def test_the_largest_class_among_agreeing_draws_shows_collapse(model: MVAE) -> None:
    """a and b are equal: the classes are those of z ~ N(0, 1)."""
    found = unconditional_coherence(model, dict.fromkeys("ab", nearest), 4000)
    assert found.share == 1
    assert found.largest == pytest.approx(0.5 * (1 + math.erf(0.5 / math.sqrt(2))), abs=0.03)
    never = {"a": nearest, "b": lambda x: nearest(x).roll(1, -1)}
    assert math.isnan(unconditional_coherence(model, never, 100).largest)


def test_linear_accuracy_equals_that_of_a_regression_on_the_values(model: MVAE) -> None:
    train, test = rows(200, 0.4), rows(100, 0.5)
    found = linear_accuracy_by_number(model, train, test)
    assert linear_accuracy_by_number(model, (train[0], train[1].numpy()), (test[0], test[1].tolist())) == found
    expected = []
    for name in NAMES:
        x, y = (data[name].numpy() for data, _ in (train, test))
        expected.append(LogisticRegression().fit(x, train[1].numpy()).score(y, test[1].numpy()))
    assert found[1] == pytest.approx(sum(expected) / 3, abs=0.011)
    assert found.keys() == {1, 2, 3}
    assert found[3] > found[1]


def test_a_repeatable_sample_of_many_subsets_is_drawn() -> None:
    names = [f"x{i}" for i in range(50)]
    drawn = subsets_of(names, 25, seed=3)
    assert len(set(drawn)) == 20
    assert drawn == subsets_of(names, 25, seed=3) != subsets_of(names, 25, seed=4)
    assert all(list(subset) == sorted(subset, key=names.index) for subset in drawn)
    assert len(subsets_of(names[:6], 3)) == 20  # all of them


def test_invalid_queries_are_refused(model: MVAE) -> None:
    data, label = rows()
    coherence = partial(coherence_by_number, model, CLASSIFIERS, data)
    with pytest.raises(DataError, match="5 labels for 30 rows"):
        coherence(label[:5])
    with pytest.raises(DataError, match="30 × 1 labels for 30 rows"):
        coherence(label[:, None])
    with pytest.raises(QueryError, match="4 modalities cannot be given"):
        coherence(label, numbers=[4])
    with pytest.raises(QueryError, match="no modality is left"):
        coherence(label, numbers=[3])
    with pytest.raises(QueryError, match="no modality 'd'"):
        coherence_by_number(model, {"d": nearest}, data, label)
    with pytest.raises(QueryError, match="of two at least"):
        unconditional_coherence(model, {"a": nearest})
    with pytest.raises(QueryError, match="of one class"):
        linear_accuracy_by_number(model, (data, torch.zeros_like(label)), (data, label))
