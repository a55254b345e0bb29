"""Correction by the errors of similar rows: against a naive loop, where it must help, and where it must not."""

from typing import Any

import numpy as np
import pytest
import torch

import mvae
from mvae.runs import neighbours
from mvae.runs.answers import Answer
from mvae.runs.copies import Copies
from mvae.runs.neighbours import Correction, _Neighbours, correction_of
from tests.patients import FEW

pd = pytest.importorskip("pandas")

ROWS = 400


def near_copies(seed: int = 0) -> Any:
    """A table in which each row has a near copy, and its numbers are otherwise independent."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(ROWS // 2, 4)), 2, 0) + 0.01 * rng.normal(size=(ROWS, 4))
    frame = pd.DataFrame(rows, columns=["a", "b", "c", "d"]).assign(d=lambda t: np.exp(t["d"]), kind="x")
    frame["kind"] = np.where(rows[:, 0] > 0, "high", "low")
    return frame


def with_holes(frame: Any) -> tuple[Any, np.ndarray]:
    hidden = np.random.default_rng(1).random(frame.shape) < 0.1
    hidden[:, -1] = False
    return frame.mask(hidden), hidden


@pytest.fixture(autouse=True)
def _smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Require fewer rows, so that the tests are fast."""
    monkeypatch.setattr(neighbours, "FEWEST", 300)


@pytest.fixture(scope="module")
def trained() -> mvae.TableModel:
    return mvae.fit_table(with_holes(near_copies())[0], changes=FEW, callbacks=[])


def test_near_copies_improve_missing_numbers(trained: mvae.TableModel) -> None:
    truth = near_copies()
    holes, hidden = with_holes(truth)
    plain, corrected = (trained.impute(holes, neighbours=own, samples=50, interval=0.9) for own in (False, True))

    def error(found: Any) -> float:
        return float(np.sqrt(((found[["a", "b", "c"]] - truth[["a", "b", "c"]]).to_numpy()[hidden[:, :3]] ** 2).mean()))

    assert error(corrected) < 0.75 * error(plain)
    seen = ~hidden
    assert (corrected[list(truth)].to_numpy(object)[seen] == truth.to_numpy(object)[seen]).all()
    assert corrected["d"].gt(0).all()
    gone = hidden[:, 0]
    assert (corrected["a.low"] <= corrected["a"])[gone].all()
    assert (corrected["a"] <= corrected["a.high"])[gone].all()
    one, other = (
        trained.impute(holes, neighbours=own, samples=50, draws=3)[:ROWS].drop(columns=[".imp", ".id"])
        for own in (False, True)
    )
    assert error(other) < 0.9 * error(one)


def test_too_few_rows_are_reported(trained: mvae.TableModel, caplog: pytest.LogCaptureFixture) -> None:
    trained.impute(with_holes(near_copies())[0].iloc[:5], neighbours=True, samples=2)
    said = "neighbours need 1,000 rows at once: 5 of the table's 5 rows are filled in without them"
    assert caplog.messages == [said]


def test_neighbours_are_the_default_in_tables_of_some_size(
    trained: mvae.TableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes, _ = with_holes(near_copies())
    plain, corrected = (trained.impute(holes, neighbours=own, samples=20) for own in (False, True))
    assert not plain.equals(corrected)
    for fewest, most, expected in ((401, 500, plain), (400, 400, corrected), (300, 399, plain)):
        monkeypatch.setattr("mvae.runs.tables.FEWEST", fewest)
        monkeypatch.setattr("mvae.runs.tables.NEIGHBOURS_AMONG", most)
        pd.testing.assert_frame_equal(trained.impute(holes, samples=20), expected)


def test_uninformative_neighbours_change_nothing(trained: mvae.TableModel) -> None:
    alone = pd.DataFrame(np.random.default_rng(5).normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    holes = alone.mask(np.random.default_rng(6).random(alone.shape) < 0.2)
    own = mvae.fit_table(holes, changes=FEW, callbacks=[])
    pd.testing.assert_frame_equal(own.impute(holes, samples=50), own.impute(holes, neighbours=True, samples=50))
    few = with_holes(near_copies())[0].iloc[: neighbours.FEWEST - 1]
    pd.testing.assert_frame_equal(trained.impute(few, samples=20), trained.impute(few, neighbours=True, samples=20))


def test_parts_of_a_table_are_corrected_alike(trained: mvae.TableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    holes, _ = with_holes(near_copies())
    whole = trained.impute(holes, neighbours=True, samples=20)
    monkeypatch.setattr("mvae.runs.tables.MOST_ROWS", 150)  # the number of rows answered together does not matter
    pd.testing.assert_frame_equal(trained.impute(holes, neighbours=True, samples=20), whole, rtol=1e-3)
    monkeypatch.setattr("mvae.runs.tables.NEIGHBOURS_AMONG", 200)  # too few rows for a correction
    plain = trained.impute(holes, samples=20)
    pd.testing.assert_frame_equal(trained.impute(holes, neighbours=True, samples=20), plain, rtol=1e-3)


def test_draws_at_a_bound_stay_there() -> None:
    """Rain of 0 is not moved to 2 mm with the other draws, so that intervals still begin at 0."""
    columns = mvae.Columns.of(["rain"], latent_dim=2)
    columns.scaling.fit(mvae.Table({"t": torch.linspace(0.0, 10.0, 50).double()[:, None]}), "t")
    draws = np.array([0.0, 1.0, 11.0, 5.0]).reshape(4, 1, 1)
    plain = {"t": Answer(np.full((1, 1), 4.0), draws, {})}
    one = {"t": np.ones((1, 1))}
    found = Correction(one, one, {"t": np.full((1, 1), np.nan)}).applied(mvae.MVAE({"t": columns}, 2), plain)["t"]
    std = columns.scaling.std.item()
    np.testing.assert_allclose(found.draws[:, 0, 0], [0.0, 1 + std, 11.0, 5 + std])
    np.testing.assert_allclose(found.point, 4 + std)


@pytest.mark.parametrize("way", neighbours.WAYS)
def test_neighbours_errors_match_a_naive_loop(way: tuple[int, float]) -> None:
    rng = np.random.default_rng(2)
    filled, errors = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    errors[rng.random(errors.shape) < 0.3] = np.nan
    rows, seen = np.array([3, 7, 3, 9]), np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    found = _Neighbours(filled, errors).errors_of(rows, seen, [way])[0]
    for row, mask, own in zip(rows, seen, found, strict=True):
        expected = np.zeros(3)
        if mask.any():
            far = ((filled[:, mask] - filled[row, mask]) ** 2).mean(1)
            far[row] = np.inf
            near = np.argsort(far)[: way[0]]
            for i in range(3):
                known = [n for n in near if not np.isnan(errors[n, i])]
                weight = [1 / (far[n] + way[1]) for n in known]
                expected[i] = np.average(errors[known, i], weights=weight) if known else 0.0
        np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-4)


def test_numbers_of_copies_match_a_naive_loop() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(0, 2, size=(60, 5)) + rng.normal(size=(60, 1)).round() * 1e3  # rows far from the mean, too
    here = rng.random(x.shape) < 0.7
    rows = np.arange(60)
    seen = here & (rng.random(x.shape) < 0.8)
    found = Copies(x, here).numbers_of(rows, seen)
    for row in rows:
        both = [here[other] & seen[row] for other in rows]
        copies = [
            n for n in rows
            if n != row and 2 * both[n].sum() >= 5 and (x[n] == x[row])[both[n]].all()
        ]  # fmt: skip
        for i in range(5):
            own = [x[n, i] for n in copies if here[n, i]]
            np.testing.assert_allclose(found[row, i], np.mean(own) if own else np.nan)
    assert 0.1 < np.isnan(found).mean() < 0.9


def test_numbers_of_copied_rows_are_found() -> None:
    """Half of the rows have a copy, half have none: the copies' missing numbers become those of the other one."""
    rng = np.random.default_rng(8)
    once = pd.DataFrame(rng.normal(size=(300, 5)).round(3), columns=list("abcde"))
    truth = pd.concat([once, once.iloc[:100]], ignore_index=True)
    hidden = rng.random(truth.shape) < 0.1
    hidden[:100] = False  # so that the first of two copies is whole
    holes = truth.mask(hidden)
    own = mvae.fit_table(holes, changes=FEW, callbacks=[])
    found = own.impute(holes, neighbours=True, samples=50, interval=0.9)
    error = (found[list("abcde")] - truth).abs().to_numpy()
    assert (error[300:][hidden[300:]] < 0.05).mean() > 0.9
    assert error[100:300][hidden[100:300]].mean() > 0.3
    width = np.stack([found[f"{name}.high"] - found[f"{name}.low"] for name in "abcde"], 1)
    assert np.nanmedian(width[300:]) < 0.5 * np.nanmedian(width[100:300])


def test_tables_without_numbers_or_missing_cells_are_not_corrected(trained: mvae.TableModel) -> None:
    frame = near_copies()
    assert trained.impute(frame, neighbours=True, samples=20).equals(frame)
    words = pd.DataFrame({name: np.random.default_rng(3).choice(["x", "y", "z"], ROWS) for name in "uv"})
    own = mvae.fit_table(words.mask(np.random.default_rng(4).random(words.shape) < 0.2), changes=FEW, callbacks=[])
    assert own.impute(words.iloc[:5], neighbours=True, samples=20).equals(words.iloc[:5])
    values, present = own.schema.encode(words)
    assert not correction_of(own.model, values, present, list(values)).shift
