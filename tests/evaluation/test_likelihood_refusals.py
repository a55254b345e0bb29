"""Invalid queries to the likelihood estimators."""

import re
from typing import Any

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation.likelihood import Denominator, log_likelihood
from tests.oracle import LinearGaussian


@pytest.fixture(scope="module")
def wrong() -> LinearGaussian:
    return LinearGaussian(2, [3, 4], seed=0, perturb=0.4)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"of": ["x9"]}, "no modality 'x9' in this model; it has x1, x2"),
        ({"of": ["x1"], "given": ["x9"]}, "no modality 'x9'"),
        ({"of": ["x1"], "proposal": ["x9"]}, "no modality 'x9'"),
        ({"of": ["x1", "x2"], "given": ["x2"]}, "x2 cannot be both scored and given"),
        ({"of": []}, "of=[...] names no modality to score"),
        ({"of": "x1"}, "name modalities in a list: ['x1']"),
        ({"of": ["x1"], "given": "x2"}, "name modalities in a list: ['x2']"),
        ({"of": ["x1"], "proposal": "x2"}, "name modalities in a list: ['x2']"),
        ({"of": ["x1"], "samples": 1}, "samples must be at least 2, not 1"),
    ],
)
def test_invalid_queries_are_refused(wrong: LinearGaussian, query: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        log_likelihood(wrong.model, wrong.data(3, seed=1), **query)


def test_a_table_without_anything_to_score_is_refused(wrong: LinearGaussian) -> None:
    table = wrong.data(4, seed=1)
    without = Table(dict(table.columns), {"x1": torch.zeros(4, dtype=torch.bool)})
    for part in (without, table.select(["x2"])):
        with pytest.raises(QueryError, match="no row of the table has any of x1"):
            log_likelihood(wrong.model, part, ["x1"], samples=5)


def test_a_bad_denominator_is_refused() -> None:
    with pytest.raises(QueryError, match="the denominator's samples must be at least 2, not -1"):
        Denominator(samples=-1)
    with pytest.raises(QueryError, match="'importance' or from the 'prior', not by 'guess'"):
        Denominator("guess")


@pytest.mark.parametrize("as_data", [dict, Table])
def test_non_finite_arrays_are_refused(wrong: LinearGaussian, as_data: Any) -> None:
    columns = dict(wrong.data(3, seed=1).columns)
    assert log_likelihood(wrong.model, as_data(columns), ["x1"], samples=5).values.isfinite().all()
    torch.as_tensor(columns["x1"])[1, 0] = torch.inf
    with pytest.raises(DataError, match="modality 'x1', row 1: finite numbers are needed"):
        log_likelihood(wrong.model, as_data(columns), ["x1"], samples=5)
