"""The numbers of the rows that have the named modalities, and an error if there are none."""

import pytest
import torch

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation.rows import rows_with


def test_rows_with_all_named_modalities_are_found() -> None:
    x, has = torch.arange(4.0), torch.tensor([True, False, True, True])
    table = Table({"a": x, "b": x}, {"a": has, "b": torch.tensor([True, True, False, True])})
    assert rows_with(table, ["a"]).tolist() == [0, 2, 3]
    assert rows_with(table, ["a", "b"]).tolist() == [0, 3]
    assert rows_with(Table({"a": x, "b": x}), ["a", "b"]).tolist() == [0, 1, 2, 3]
    with pytest.raises(QueryError, match="no row has a and c"):
        rows_with(table, ["a", "c"])


def test_partly_observed_rows_are_refused_where_whole_ones_are_needed() -> None:
    table = Table({"labs": torch.ones(2, 2)}, {"labs": torch.tensor([[True, False], [True, True]])})
    assert rows_with(table, ["labs"]).tolist() == [0, 1]
    with pytest.raises(DataError, match="labs"):
        rows_with(table, ["labs"], whole=True)
