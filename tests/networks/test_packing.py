"""Packed sequences compared with lists."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvae.data.tokens import lengths_to_stop
from mvae.networks.packing import pack


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_pack_orders_elements_by_step_and_length(lengths: list[int]) -> None:
    packed = pack(torch.tensor(lengths))
    elements = list(zip(packed.step.tolist(), packed.row.tolist(), strict=True))
    assert sorted(elements) == sorted((step, row) for row, n in enumerate(lengths) for step in range(n))
    assert packed.step.tolist() == sorted(packed.step.tolist())
    assert packed.counts == [sum(n > step for n in lengths) for step in range(max(lengths))]
    order = packed.order.tolist()
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)
    start = 0
    for count in packed.counts:  # at each step, the sequences that have not ended
        assert packed.row[start : start + count].tolist() == order[:count]
        start += count


@pytest.mark.parametrize(
    ("row", "length"), [([0, 0, 0], 1), ([4, 0, 0], 2), ([4, 5, 0], 3), ([4, 5, 6], 3), ([4, 0, 6], 2)]
)
def test_length_includes_first_stop_token(row: list[int], length: int) -> None:
    assert lengths_to_stop(torch.tensor([row]), stop=0).tolist() == [length]
