"""Questions to the estimators that cannot be answered."""

import re
from typing import Any

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.likelihood import log_likelihood
from tests.oracle import LinearGaussian


@pytest.fixture(scope="module")
def wrong() -> LinearGaussian:
    return LinearGaussian(2, [3, 4], seed=0, perturb=0.4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"of": ["x9"]}, "no modality 'x9' in this model; it has x1, x2"),
        ({"of": ["x1"], "given": ["x9"]}, "no modality 'x9'"),
        ({"of": ["x1"], "proposal": ["x9"]}, "no modality 'x9'"),
        ({"of": ["x1", "x2"], "given": ["x2"]}, "x2 cannot be both scored and given"),
        ({"of": []}, "of=[...] names no modality to score"),
        ({"of": "x1"}, "name modalities in a list: ['x1']"),
        ({"of": ["x1"], "given": "x2"}, "name modalities in a list: ['x2']"),
        ({"of": ["x1"], "proposal": "x2"}, "name modalities in a list: ['x2']"),
        ({"of": ["x1"], "samples": 1}, "samples must be at least 2 (the paper uses 1,000), not 1"),
        ({"of": ["x1"], "given": ["x2"], "denominator": "guess"}, "'importance' or from the 'prior', not by 'guess'"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(
    wrong: LinearGaussian, asked: dict[str, Any], message: str
) -> None:
    from beartype.roar import BeartypeCallHintViolation
    from jaxtyping import TypeCheckError

    try:
        with pytest.raises(QueryError, match=re.escape(message)):
            log_likelihood(wrong.model, wrong.data(3, seed=1), **asked)
    except (BeartypeCallHintViolation, TypeCheckError):
        assert "denominator" in asked  # the runtime type checks of these tests refuse what is no Literal


def test_a_table_without_anything_to_score_is_refused(wrong: LinearGaussian) -> None:
    table = wrong.data(4, seed=1)
    without = Table(dict(table.columns), {"x1": torch.zeros(4, dtype=torch.bool)})
    for part in (without, table.select(["x2"])):
        with pytest.raises(QueryError, match="no row of the table has any of x1"):
            log_likelihood(wrong.model, part, ["x1"], samples=5)


def test_a_bad_denominator_is_refused_before_any_work(wrong: LinearGaussian) -> None:
    with pytest.raises(QueryError, match="denominator_samples must be at least 2, not -1"):
        log_likelihood(wrong.model, wrong.data(2, seed=1), ["x1"], ["x2"], denominator_samples=-1)
