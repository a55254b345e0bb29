import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from tests.unchecked import unchecked

Made = tuple[dict[str, torch.Tensor | np.ndarray], dict[str, torch.Tensor], torch.Tensor]


@st.composite
def parts(draw: st.DrawFn, max_modalities: int = 4) -> Made:
    """Columns (tensors and arrays of several shapes and dtypes), masks for `Table`, and the mask of all cells.

    Row r of modality m holds the number 100·m + r, or NaN or -1 where it is missing.
    """
    rows = draw(st.integers(1, 8))
    modalities = draw(st.integers(1, max_modalities))
    bits = st.lists(st.booleans(), min_size=rows, max_size=rows)
    mask = torch.tensor([draw(bits) for _ in range(modalities)]).T
    mask[~mask.any(1), draw(st.integers(0, modalities - 1))] = True
    columns: dict[str, torch.Tensor | np.ndarray] = {}
    for m in range(modalities):
        event = draw(st.sampled_from([(), (2,), (1, 2, 3)]))
        dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.int16]))
        values = (100 * m + torch.arange(rows)).to(dtype)
        values[~mask[:, m]] = torch.nan if dtype.is_floating_point else -1
        column = values.reshape(rows, *[1] * len(event)).expand(rows, *event).clone()
        columns[f"m{m}"] = column.numpy() if draw(st.booleans()) else column
    present = {f"m{m}": mask[:, m] for m in range(modalities) if not mask[:, m].all() or draw(st.booleans())}
    return columns, present, mask


def same(a: object, b: object) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture
def _without_type_checks():
    """Switch off the tests' run-time type checks, which would raise before the table does."""
    with unchecked():
        yield


# Properties


@given(parts())
def test_a_table_holds_what_it_was_given(made: Made):
    table, mask = Table(*made[:2]), made[2]
    assert len(table) == len(mask)
    assert table.names == tuple(f"m{m}" for m in range(mask.shape[1]))
    assert table.complete == bool(mask.all())
    assert torch.equal(table.present, mask)
    assert table.nbytes == sum(np.asarray(column).nbytes for column in table.columns.values())


def test_columns_are_not_copied_and_keep_their_dtype():
    image = torch.zeros(3, 2, dtype=torch.uint8)
    array = np.zeros((3, 2), dtype=np.float16)
    table = Table({"image": image, "array": array})
    assert table.columns["image"] is image
    assert table.columns["array"] is array


def test_sequences_become_arrays_and_nothing_is_rounded():
    table = Table({"a": [[0.1, 1.0], [2.0, 3.0]], "b": [1, 2], "c": (True, False)}, {"b": [True, False]})
    assert [str(column.dtype) for column in table.columns.values()] == ["float64", "int64", "bool"]
    assert table["a"][0, 0] == 0.1
    assert table.present.tolist() == [[True, True, True], [True, False, True]]


def test_the_mask_is_copied():
    mask = np.array([True, False])
    table = Table({"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": mask})
    mask[0] = False
    assert table.present[:, 0].tolist() == [True, False]


def test_a_read_only_mask_is_accepted():
    mask = np.broadcast_to(np.array(True), 2)
    assert Table({"a": torch.zeros(2)}, {"a": mask}).complete


def test_only_the_mask_decides_what_is_missing():
    nan = torch.full((2, 3), torch.nan)
    assert Table({"a": nan, "b": torch.zeros(2)}).complete  # neither NaN nor 0 is guessed to mean missing
    table = Table({"a": nan, "b": torch.zeros(2)}, {"a": torch.tensor([False, False])})
    assert table.present.tolist() == [[False, True]] * 2
    assert torch.as_tensor(table.take([1]).columns["a"]).isnan().all()


def test_repr():
    table = Table({"image": torch.zeros(3, 1, 8, 8), "label": np.zeros(3, int)}, {"label": [True, False, True]})
    assert repr(table) == "Table(3 rows; image: 1×8×8 float32; label: scalar int64, present in 2)"


def test_the_repr_of_many_columns_is_short():
    table = Table({f"column {i}": [i] for i in range(1000)})
    assert len(repr(table)) < 1000
    assert repr(table).endswith("; … and 980 more columns)")


@given(st.text(min_size=1))
def test_any_string_is_a_valid_name(name: str):
    table = Table({name: [1, 2], name + ".type": [3, 4]}, {name: [True, False]})
    assert list(table) == [name, name + ".type"]
    assert name in table
    assert name + "?" not in table
    assert 0 not in table
    same(table[name], [1, 2])
    assert table.has(name).tolist() == [True, False]
    assert table.presence([name + ".type", "?" + name, name]).tolist() == [[True, False, True], [True, False, False]]


@given(parts(), st.data())
def test_indexing_gives_a_column_or_rows(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    number = data.draw(st.integers(-len(table), len(table) - 1))
    for index, expected in (
        (data.draw(st.slices(len(table))), None),
        (data.draw(st.lists(st.integers(-len(table), len(table) - 1), min_size=1)), None),
        (number, [number]),
        (np.int64(number), [number]),
    ):
        rows, index_of = table[index], index if expected is None else expected
        same(rows.present, np.asarray(mask)[index_of])
        for name in table:
            assert table[name] is table.columns[name]
            same(rows[name], np.asarray(table[name])[index_of])
    with pytest.raises(QueryError, match="no modality 'elsewhere' in this table"):
        table["elsewhere"]
    with pytest.raises(IndexError):
        table[len(table)]


# take


@given(parts(), st.data())
def test_take_agrees_with_indexing(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    index = data.draw(st.lists(st.integers(-len(table), len(table) - 1), max_size=12))
    batch = table.take(data.draw(st.sampled_from([index, tuple(index), np.array(index, int), torch.tensor(index)])))
    assert isinstance(batch, Table)
    assert batch.names == table.names
    same(batch.present, mask[index])
    for name, column in table.columns.items():
        assert isinstance(batch.columns[name], torch.Tensor)
        same(batch.columns[name], np.asarray(column)[np.array(index, int)])


@given(parts(), st.data())
def test_take_agrees_with_slicing(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    index = data.draw(st.slices(len(table)).filter(lambda s: s.step is None or s.step > 0))
    batch = table.take(index)
    same(batch.present, mask[index])
    for name, column in table.columns.items():
        assert isinstance(batch.columns[name], torch.Tensor)
        same(batch.columns[name], np.asarray(column)[index])


@given(parts(), st.data())
def test_a_boolean_mask_takes_the_rows_where_it_is_true(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    bits = data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table)))
    batch = table.take(torch.tensor(bits))
    assert len(batch) == sum(bits)
    same(batch.present, mask[bits])
    for name, column in table.columns.items():
        same(batch.columns[name], np.asarray(column)[np.array(bits)])


@given(parts(), st.data())
def test_take_composes(made: Made, data: st.DataObject):
    table = Table(*made[:2])
    rows = st.integers(0, len(table) - 1)
    first = data.draw(st.lists(rows, min_size=1, max_size=8))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=8))
    twice, once = table.take(first).take(second), table.take([first[i] for i in second])
    same(twice.present, once.present)
    for name in table.names:
        same(twice.columns[name], once.columns[name])


def test_row_numbers_may_have_any_integer_dtype():
    table = Table({"a": torch.arange(4), "b": np.arange(4)})
    for index in (torch.tensor([1, 0], dtype=torch.uint8), np.array([1, 0], np.int16), range(1, -1, -1)):
        batch = table.take(index)
        assert [column.tolist() for column in batch.columns.values()] == [[1, 0], [1, 0]]


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize("index", [torch.tensor(1), torch.tensor([[0, 1]]), [0.5], torch.tensor([True, False])])
def test_an_invalid_index_is_refused(index):
    with pytest.raises(DataError, match=r"cannot take rows by an index of shape .*mask of shape \(3,\)"):
        Table({"a": torch.zeros(3)}).take(index)


@pytest.mark.parametrize("column", [torch.zeros(3), np.zeros(3)])
def test_a_row_outside_the_table_is_an_index_error(column):
    with pytest.raises(IndexError):
        Table({"a": column}).take([3])


def test_arrays_in_a_foreign_byte_order_are_accepted():
    column = np.arange(6, dtype=">f4").reshape(3, 2)
    table = Table({"a": column})
    assert table.take([2]).columns["a"].tolist() == [[4, 5]]
    assert table.take(slice(1)).columns["a"].tolist() == [[0, 1]]


# Memory-mapped columns


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("index", [slice(1, 3), slice(None), [1, 2]])
def test_a_memory_mapped_column_is_read_on_take_and_never_written(tmp_path: Path, mode, index):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    path = tmp_path / "column"
    values.tofile(path)
    table = Table({"a": np.memmap(path, np.float32, mode, shape=(4, 3))}, {"a": [True] * 4})
    assert isinstance(table.columns["a"], np.memmap)
    taken = table.take(index).columns["a"]  # warnings are errors, and torch warns of read-only arrays
    assert isinstance(taken, torch.Tensor)
    same(taken, values[index])
    taken += 1
    same(np.fromfile(path, np.float32).reshape(4, 3), values)
    same(table.columns["a"], values)


def test_a_read_only_array_is_never_written():
    column = np.zeros(3, dtype=np.float32)
    column.flags.writeable = False
    taken = torch.as_tensor(Table({"a": column}).take(slice(2)).columns["a"])
    taken += 1
    assert column.tolist() == [0, 0, 0]


def test_memory_mapped_columns_survive_select_and_move_to_a_device(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(3))
    table = Table({"a": np.load(tmp_path / "a.npy", mmap_mode="r"), "b": torch.zeros(3)})
    assert isinstance(table.select(["a"]).columns["a"], np.memmap)
    moved = table.to("cpu")
    assert isinstance(moved.columns["a"], torch.Tensor)
    assert moved.columns["a"].tolist() == [0, 1, 2]


# presence, select, to


@given(parts(), st.data())
def test_presence_follows_the_requested_names(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    names = data.draw(st.permutations([*table.names, "elsewhere"]).flatmap(lambda p: st.sampled_from([p, p[:2]])))
    presence = table.presence(names)
    assert presence.dtype == torch.bool
    assert presence.shape == (1 if table.complete else len(table), len(names))
    for i, name in enumerate(names):
        expected = torch.zeros(len(table), dtype=torch.bool)
        if name in table.names:
            expected = mask[:, table.names.index(name)]
        assert torch.equal(presence[:, i].expand(len(table)), expected)


@given(parts(), st.data())
def test_presence_of_taken_rows_is_the_taken_presence(made: Made, data: st.DataObject):
    table = Table(*made[:2])
    index = data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, max_size=8))
    taken = table.take(index)
    same(taken.presence(table.names).expand(len(taken), -1), table.presence(table.names).expand(len(table), -1)[index])


@given(parts(), st.data())
def test_select_keeps_columns_and_masks_or_names_the_first_empty_row(made: Made, data: st.DataObject):
    table, mask = Table(*made[:2]), made[2]
    names = data.draw(st.permutations(table.names).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: p[:n])))
    chosen = mask[:, [table.names.index(name) for name in names]]
    empty = (~chosen.any(1)).nonzero().flatten().tolist()
    if empty:
        with pytest.raises(DataError, match=rf"^{len(empty)} of {len(table)} rows .*\(row {empty[0]}\b"):
            table.select(names)
        return
    selected = table.select(names)
    assert selected.names == tuple(names)
    same(selected.present, chosen)
    assert selected.complete == bool(chosen.all())
    for name in names:
        assert selected.columns[name] is table.columns[name]


def test_select_of_an_unknown_name_is_a_query_error():
    with pytest.raises(QueryError, match="no modality 'text' in this table; it has image, label"):
        Table({"image": torch.zeros(1), "label": torch.zeros(1)}).select(["text"])


@given(parts())
def test_to_makes_tensors_and_keeps_the_mask(made: Made):
    table, mask = Table(*made[:2]), made[2]
    moved = table.to("cpu")
    assert torch.equal(moved.present, mask)
    assert moved.complete == table.complete
    for name, column in table.columns.items():
        assert isinstance(moved.columns[name], torch.Tensor)
        same(moved.columns[name], column)


# Errors


@pytest.mark.parametrize(
    ("columns", "present", "says"),
    [
        ({}, None, "at least one column"),
        ({"a": torch.zeros(0, 3)}, None, "no rows (columns: 'a')"),
        ({"a": torch.zeros(2), "b": np.zeros(3)}, None, "('a' has 2, 'b' has 3)"),
        ({"a": torch.tensor(1)}, None, "'a' is a single value"),
        ({"a": ["x", "y"]}, None, "'a' has dtype <U1"),
        ({"a": np.array([None, 1])}, None, "'a' has dtype object"),
        ({"a": np.zeros(2, complex)}, None, "'a' has dtype complex128"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, None, "'a' has dtype torch.complex64"),
        ({"a": [[1], [2, 3]]}, None, "'a' does not make an array; do its rows differ in shape?"),
        ({"a": [torch.ones(1, requires_grad=True)]}, None, "'a' does not make an array"),
        ({"": torch.zeros(2)}, None, "not ''"),
        ({"a": torch.zeros(2)}, {"b": torch.ones(2).bool()}, "present names 'b', which is not a column"),
        ({"a": torch.zeros(2)}, {"a": torch.ones(2)}, "present['a'] has shape (2,) and dtype torch.float32"),
        ({"a": torch.zeros(2)}, {"a": [1, 0]}, "dtype torch.int64; a boolean mask of shape (2,)"),
        ({"a": torch.zeros(2)}, {"a": [True]}, "present['a'] has shape (1,)"),
        ({"a": torch.zeros(2)}, {"a": torch.ones(2, 1).bool()}, "present['a'] has shape (2, 1)"),
        ({"a": torch.zeros(2)}, {"a": ["yes", "no"]}, "present['a'] is not a boolean mask of shape (2,)"),
        ({"a": torch.zeros(2)}, {"a": [[True], [True, False]]}, "present['a'] is not a boolean mask"),
        ({"a": torch.zeros(2)}, {"a": [True, False]}, "1 of 2 rows have no modality present (row 1): drop them"),
        ({"a": torch.zeros(9)}, {"a": [True] + [False] * 8}, "8 of 9 rows"),
        ({"a": torch.zeros(9)}, {"a": [True] + [False] * 8}, "(row 1, 2, 3, 4, 5, …)"),
        (
            {"a": torch.zeros(3), "b": torch.zeros(3)},
            {"a": [True, False, False], "b": [False, True, False]},
            "1 of 3 rows have no modality present (row 2)",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(columns, present, says: str):
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        Table(columns, present)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.parametrize("values", [np.zeros((3, 4)), torch.zeros(3, 4), [[1.0, 2.0]]])
def test_the_error_for_a_bare_array_shows_how_to_name_it(values):
    with pytest.raises(DataError, match=r"Table\(\{'x': values\}\)"):
        Table(values)
    with pytest.raises(DataError, match=r"present=\{'label': has_label\}"):
        Table({"a": torch.zeros(3)}, values)


@pytest.mark.usefixtures("_without_type_checks")
def test_a_mask_of_none_or_a_non_string_name_is_refused():
    with pytest.raises(DataError, match=r"present\['a'\] is not a boolean mask"):
        Table({"a": torch.zeros(3)}, {"a": None})  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="not 3"):
        Table({3: torch.zeros(3)})  # pyright: ignore[reportArgumentType]
