"""Imputed values of a table: they minimise the expected error, and equal those of `mvae.impute`."""

import numpy as np
import pytest
import torch

import mvae
from mvae.models.prior import MixturePrior
from mvae.runs.answers import Answer, answers

FIELDS = ({"name": "ward", "kind": "categorical", "classes": 5}, {"name": "stage", "kind": "ordinal", "classes": 5})


def test_class_is_the_most_probable_and_ordered_class_the_median() -> None:
    torch.manual_seed(3)
    model = mvae.MVAE({"t": mvae.Columns.of(FIELDS, latent_dim=2)}, latent_dim=2)
    values, nothing = np.zeros((1, 2)), np.zeros((1, 2), bool)
    differ = 0
    for seed in range(20):
        found = answers(model, {"t": values}, {"t": nothing}, ["t"], samples=4, seed=seed)["t"]
        ward, stage = (found.probabilities[i][0] for i in range(2))
        median = next(k for k in range(5) if stage[: k + 1].sum() >= 0.5)
        assert found.point[0].tolist() == [ward.argmax(), median]
        differ += median != stage.argmax()
    assert differ > 0


def test_answers_equal_impute() -> None:
    torch.manual_seed(0)
    model = mvae.MVAE({"t": mvae.Columns.of(FIELDS, latent_dim=2)}, latent_dim=2)
    values, present = np.array([[1.0, 0.0], [4.0, 0.0]]), np.array([[True, False], [True, False]])
    filled = mvae.impute(
        model, mvae.Table({"t": torch.from_numpy(values)}, present={"t": present}), samples=4000, draws=2
    )
    found = answers(model, {"t": values}, {"t": present}, ["t"], samples=4000)["t"]
    assert found.point[:, 1].tolist() == torch.as_tensor(filled.table["t"])[:, 1].tolist()


def test_only_empty_rows_use_the_fitted_prior() -> None:
    model = mvae.MVAE({"t": mvae.Columns.of(["u", "v"], latent_dim=2)}, latent_dim=2).eval()
    values, present = np.array([[0.0, 0.0], [0.5, 0.0]]), np.array([[False, False], [True, False]])
    model.prior = MixturePrior(torch.ones(1), torch.tensor([[3.0, -2.0]]), 0.01 * torch.eye(2)[None])
    found = answers(model, {"t": values}, {"t": present}, ["t"], samples=4_000)["t"].point
    expected = model.generate(n=4_000, of=["t"], seed=0)["t"].mean((0, 1)).detach().numpy()
    np.testing.assert_allclose(found[0], expected, atol=0.02)
    alone = answers(model, {"t": values[1:]}, {"t": present[1:]}, ["t"], samples=4_000)["t"].point
    np.testing.assert_allclose(found[1], alone[0], atol=0.02)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("at_least", [0.0, 0.02, 0.3, 0.95])
def test_intervals_with_many_zeros_cover_their_share(share: float, at_least: float) -> None:
    """An interval excludes both tails of numbers; of columns that are often zero it can exclude only the upper one."""
    random = np.random.default_rng(0)
    draws = np.maximum(random.normal(size=(4_000, 1, 1)) - np.quantile(random.normal(size=4_000), at_least), 0.0)
    draws = draws if at_least else draws + random.normal(size=draws.shape)
    for sign in (1, -1):  # columns that are often at their maximum are the mirror image
        low, high = Answer(draws[0], sign * draws, {}).between(share)
        covered = ((sign * draws >= low) & (sign * draws <= high)).mean()
        assert max(share, at_least) == pytest.approx(covered, abs=0.022)


def test_intervals_of_whole_numbers_have_whole_ends() -> None:
    draws = np.random.default_rng(0).poisson(3.0, size=(400, 300, 1)).astype(float)
    low, high = Answer(draws[0], draws, {}).between(0.9)
    assert np.array_equal(low, low.round())
    assert np.array_equal(high, high.round())
    assert ((draws >= low) & (draws <= high)).mean(0).min() >= 0.9
