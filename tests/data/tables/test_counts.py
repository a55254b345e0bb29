"""Integers that other columns predict more precisely than any count are not treated as counts."""

import numpy as np
import pytest

from mvae.data.tables.counts import closer_than_counts
from mvae.data.tables.frames import DataFrame, of_frame
from mvae.data.tables.schema import learn_columns

pandas = pytest.importorskip("pandas")
ROWS = 2_000


def table(holes: float = 0.0) -> DataFrame:
    random = np.random.default_rng(0)
    rate = np.exp(0.8 * random.normal(size=ROWS))
    visits = random.poisson(4 * rate)
    return pandas.DataFrame(
        {
            "visits": visits,
            "calls": random.poisson(3 * rate),  # correlated with visits; Poisson given the rate
            "errors": random.poisson(2, ROWS),
            "score": np.round(visits / 2 + random.normal(size=ROWS) / 4).clip(0),  # almost determined by visits
            "site": random.choice(["north", "south"], ROWS),
        }
    ).mask(random.random((ROWS, 5)) < holes)


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_a_score_is_real_and_counts_stay_counts(holes: float) -> None:
    frame = table(holes)
    columns = learn_columns(of_frame(frame), frame)
    kinds = {name: column.kind for name, column in columns.items()}
    assert kinds == {"visits": "real", "calls": "count", "errors": "count", "score": "real", "site": "binary"}
    assert columns["score"].reason.endswith("closer to what other columns predict than counts can be")


def test_declared_kinds_are_kept() -> None:
    frame = table()
    columns = learn_columns(of_frame(frame), frame, kinds={"score": "count", "visits": "count"})
    assert [columns[name].kind for name in ("score", "visits", "calls")] == ["count"] * 3


def test_too_few_rows_change_no_kind() -> None:
    frame = table().iloc[:30]
    columns = learn_columns(of_frame(frame), frame, kinds=dict.fromkeys(["visits", "score"], "count"))
    assert closer_than_counts(columns, ["score"], frame) == {}


def test_columns_of_a_table_too_wide_to_be_tested_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    columns = learn_columns(of_frame(frame), frame)
    monkeypatch.setattr("mvae.data.tables.counts.MOST", len(frame.columns) - 1)
    monkeypatch.setattr("mvae.data.tables.counts._numbers", lambda *given: pytest.fail("a column was read"))
    assert closer_than_counts(columns, frame.columns, frame) == {}
