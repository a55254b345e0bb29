"""log p of rows, and of their parts given the rest, compared with estimates from many samples."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

import mvae
from mvae.runs.answers import scores
from tests.modality.test_columns import Exact, linear_gaussian
from tests.patients import FEW, patients

pd = pytest.importorskip("pandas")


def test_log_p_given_the_rest_matches_log_likelihood() -> None:
    """With two modalities it equals `log_likelihood` of the same rows.

    The model is trained, because estimates vary by a nat and more where the posterior is still a bad proposal.
    """
    frame = patients(missing=0.1)
    groups = {"blood": ["hb", "crp"], "other": ["city", "share"]}
    changes = {"training": {"epochs": 40, "learning_rate": 1e-2, "anneal_epochs": 5}}
    model = mvae.fit_table(frame, modalities=groups, changes=changes, callbacks=[])
    assert model.model.names == ("blood", "other")
    found = model.score(frame, samples=2000)  # all rows share their noise, so that errors do not average out
    values, present = model.schema.encode(frame)
    rows = present["blood"].all(1) & present["other"].all(1)
    table = mvae.Table({n: v[rows] for n, v in values.items()})
    expected = mvae.log_likelihood(model.model, table, of=["blood"], given=["other"], samples=200, seed=1).values
    difference = found["log p(blood | rest)"].to_numpy()[rows] - expected.double().numpy()
    assert np.abs(np.mean(difference)) < 0.1
    assert np.std(difference) < 0.5  # for each row


@pytest.fixture(scope="module")
def wide_and_narrow() -> tuple[mvae.TableModel, Any]:
    """A model of thirty numbers that depend on three latents and one that says little about them, and its table."""
    random = np.random.default_rng(0)
    z = random.normal(size=(200, 3))
    wide = z @ random.normal(size=(3, 30)) + 0.1 * random.normal(size=(200, 30))
    frame = pd.DataFrame(wide, columns=[f"w{i}" for i in range(30)]).assign(narrow=z[:, 0] + random.normal(size=200))
    groups = {"wide": [f"w{i}" for i in range(30)], "narrow": ["narrow"]}
    changes = {"training": {"epochs": 40, "learning_rate": 1e-2, "anneal_epochs": 5}}
    model = mvae.fit_table(frame, modalities=groups, changes=changes, callbacks=[])
    return model, frame


def test_log_p_of_many_values_given_one_is_not_far_too_low(
    wide_and_narrow: tuple[mvae.TableModel, Any],
) -> None:
    """Hardly any z proposed from one number explains thirty others, such as those of a picture."""
    model, frame = wide_and_narrow
    found = model.score(frame.head(20))["log p(wide | rest)"]
    table = mvae.Table(model.schema.encode(frame.head(20))[0])
    expected = mvae.log_likelihood(model.model, table, of=["wide"], given=["narrow"], samples=2000, seed=1).values
    assert abs(found.mean() - float(expected.mean())) < 1


def test_scores_depend_only_on_the_row_and_are_at_most_0() -> None:
    """Whatever the other rows are, and however few samples are drawn."""
    frame = patients()
    groups = {"class": ["sex"], "other": ["hb", "crp", "city"]}
    model = mvae.fit_table(frame, modalities=groups, changes=FEW, callbacks=[])
    found = model.score(frame, samples=10)
    assert found["log p(class | rest)"].max() <= 0
    assert found["log p(class | rest)"].notna().sum() == frame["sex"].notna().sum()
    again = model.score(frame.iloc[::-1], samples=10).iloc[::-1]
    np.testing.assert_allclose(found, again, atol=1e-5)


def test_log_p_of_many_values_given_nothing_is_that_of_the_row(
    wide_and_narrow: tuple[mvae.TableModel, Any],
) -> None:
    """Hardly any z drawn from the prior explains thirty numbers."""
    model, frame = wide_and_narrow
    alone = frame.head(20).assign(narrow=np.nan)
    found = model.score(alone)
    assert abs(found["log p(wide | rest)"] - found["log p"]).max() < 1
    assert found["log p(narrow | rest)"].isna().all()
    again = model.score(alone.iloc[::-1]).iloc[::-1]
    np.testing.assert_allclose(found, again, atol=1e-4)


def test_log_p_of_each_of_many_values_matches_the_closed_form() -> None:
    """More columns than blocks, some of them missing, some copies of others, and one row full of outliers."""
    torch.manual_seed(0)
    w, sd = torch.randn(100, 3).double() / 2, torch.rand(100).double() + 0.5
    w[40:80] = w[:40]  # as informative as their copies, which most blocks hold together
    model = linear_gaussian(w, sd, Exact(w, sd.square()))
    x = torch.randn(12, 3).double() @ w.T + sd * torch.randn(12, 100).double()
    x[5, ::7] += 3.0
    observed = torch.rand(12, 100) < 0.8
    total, parts = scores(model, {"x": x.numpy()}, {"x": observed.numpy()}, samples=400)
    assert np.isfinite(total).all()
    found = np.stack([parts[f"x{i}"] for i in range(100)], 1)
    assert (np.isnan(found) == ~observed.numpy()).all()
    errors = []
    for row, place in observed.nonzero().tolist():
        rest = observed[row].clone()
        rest[place] = False
        of, given = w[place], w[rest]
        precision = torch.eye(3).double() + given.T @ torch.diag(sd[rest] ** -2) @ given
        mean = of @ torch.linalg.solve(precision, given.T @ (x[row, rest] / sd[rest].square()))
        variance = of @ torch.linalg.solve(precision, of) + sd[place].square()
        expected = norm.logpdf(x[row, place].item(), mean.item(), variance.sqrt().item())
        errors.append(found[row, place] - expected)
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.05
