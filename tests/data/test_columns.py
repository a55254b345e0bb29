"""Every array-like container is read by one rule: the dtype is kept, and missing values are never guessed."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from mvae.data.columns import as_tensor
from mvae.data.table import Table
from mvae.errors import DataError

NUMBERS = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(sizes=(8, 16, 32, 64)), hnp.unsigned_integer_dtypes(sizes=(8, 16, 32)),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)  # fmt: skip


@given(hnp.arrays(NUMBERS, hnp.array_shapes(max_dims=3, max_side=4)), st.data())
def test_any_byte_order_and_stride_gives_the_same_values(values: np.ndarray, data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([1, -1, -2]))
    column = values.astype(values.dtype.newbyteorder("S" if data.draw(st.booleans()) else "="))[::step]
    table = Table({"x": column})
    np.testing.assert_array_equal(np.asarray(table["x"]), values[::step])
    taken = table.take(range(len(table)))["x"]
    assert isinstance(taken, Tensor)
    np.testing.assert_array_equal(np.asarray(taken), values[::step])
    if values.dtype.kind != "u" or values.dtype.itemsize == 1:
        assert table["x"].dtype == values.dtype.newbyteorder("=")


def test_lists_arrays_and_tensors_of_doubles_give_the_same_column() -> None:
    values = [0.1, 1 / 3, 1e-300]
    table = Table({"list": values, "array": np.array(values), "tensor": torch.tensor(values, dtype=torch.float64)})
    assert all(as_tensor(table[name]).tolist() == values for name in table)


def test_unsigned_integers_that_pytorch_cannot_index_become_signed() -> None:
    table = Table({"a": np.array([1, 65535], np.uint16), "b": np.array([1, 2**32 - 1], np.uint32)})
    assert table.take([1])["a"].tolist() == [65535]
    assert table.take([1])["b"].tolist() == [2**32 - 1]
    with pytest.raises(DataError, match="'a' holds integers above 2⁶³ − 1"):
        Table({"a": np.array([2**64 - 1], np.uint64)})


# Masked arrays


def test_the_mask_of_a_masked_array_is_the_presence_mask() -> None:
    image = np.ma.array(np.ones((3, 2, 2)), mask=np.zeros((3, 2, 2), bool))
    image[1] = np.ma.masked
    table = Table({"image": image, "y": np.ma.masked_invalid([1.0, 2.0, np.nan])}, {"y": [False, True, True]})
    assert table.present.tolist() == [[True, False], [False, True], [True, False]]
    assert Table({"y": np.ma.array([1, 2])}).complete


def test_a_partly_masked_row_is_missing_single_values() -> None:
    wide = np.ma.array(np.ones((3, 2)), mask=np.array([[0, 0], [1, 1], [0, 1]], bool))
    table = Table({"wide": wide, "y": np.zeros(3)})
    assert table.has("wide").tolist() == [True, False, True]
    assert table.observed["wide"].tolist() == [[True, True], [False, False], [True, False]]


# Tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_keep_their_precision(dtype: torch.dtype) -> None:
    x = torch.arange(6, dtype=dtype).reshape(3, 2)
    table = Table({"x": x}, {"x": [True] * 3})
    assert table["x"] is x
    assert torch.equal(as_tensor(table[[2, 0]]["x"]), x[[2, 0]])


def test_no_gradient_reaches_the_callers_column() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    column = as_tensor(Table({"x": x})["x"])
    weight = torch.ones(2, requires_grad=True)
    (column @ weight).sum().backward()
    assert not column.requires_grad
    assert x.grad is None
    assert column.data_ptr() == x.data_ptr()


def test_an_inference_mode_tensor_can_be_trained_on() -> None:
    with torch.inference_mode():
        x = torch.ones(3, 2)
    weight = torch.ones(2, requires_grad=True)
    (as_tensor(Table({"x": x})["x"]) @ weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.eye(3).to_sparse(), "column 'x y.z' is a sparse or nested tensor: convert it with .to_dense()"),
        (lambda: torch.eye(3).to_sparse_csr(), "column 'x y.z' is a sparse or nested tensor"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "is a sparse or nested tensor"),
        (lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.quint8), "column 'x y.z' is a quantized tensor"),
        (lambda: torch.empty(3, 2, device="meta"), "column 'x y.z' is on the device 'meta', without data"),
        (lambda: torch.zeros(3, dtype=torch.complex64), "column 'x y.z' has dtype torch.complex64"),
        (lambda: torch.zeros(3).to(torch.float8_e4m3fn), "column 'x y.z' has dtype torch.float8_e4m3fn"),
        (lambda: torch.zeros(3, 0), "column 'x y.z' has shape (3, 0): its rows hold no values"),
        (lambda: np.zeros((3, 0, 2)), "column 'x y.z' has shape (3, 0, 2): its rows hold no values"),
        (lambda: torch.zeros(0), "no rows"),
        (lambda: [], "no rows"),
        (lambda: [1.0, None, 2.0], "column 'x y.z' has dtype object"),
        (lambda: np.array(["2020-01-01"], "datetime64[D]"), "column 'x y.z' has dtype datetime64[D]"),
        (lambda: np.zeros(3, np.longdouble), "column 'x y.z' has dtype"),
    ],
)
def test_unsupported_columns_are_refused_by_name(make, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        Table({"x y.z": make()})
    assert "\n" not in str(caught.value)


def test_invalid_masks_are_refused() -> None:
    for mask in (torch.empty(3, dtype=torch.bool, device="meta"), torch.ones(3).bool().to_sparse()):
        with pytest.raises(DataError, match=r"present\['x'\] has shape \(3,\)"):
            Table({"x": [1, 2, 3]}, {"x": mask})
    assert Table({"x": [1, 2], "y": [1, 2]}, {"x": np.ma.array([True, True], mask=np.array([False, True]))}).has(
        "x"
    ).tolist() == [
        True,
        False,
    ]


# Pandas


def test_series_and_frames_are_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [0.1, np.nan], "b": [1, 2], "type": [True, False]}, index=[7, 3])
    table = Table(frame)
    assert list(table) == ["a", "b", "type"]
    assert table.complete  # NaN is not guessed to mean missing
    assert [str(table[name].dtype) for name in table] == ["float64", "int64", "bool"]
    table = Table({"wide": frame[["a", "b"]], "y": frame["b"], "x": [1.0, 2.0]})
    assert table["wide"].shape == (2, 2)
    assert table["y"].tolist() == [1, 2]  # by position: the index is ignored
    with pytest.raises(DataError, match=r"'a' has 2, 'y' has 3"):
        Table({"a": frame["a"], "y": [1, 2, 3]})


@pytest.mark.parametrize(("kind", "dtype"), [("Int64", "int64"), ("Float32", "float32"), ("boolean", "bool")])
def test_nullable_columns_bring_their_own_mask(kind: str, dtype: str) -> None:
    pd = pytest.importorskip("pandas")
    series = pd.Series([1, None, 0], dtype=kind)
    table = Table(pd.DataFrame({"a": series, "b": [1, 2, 3]}))
    assert table["a"].dtype == dtype
    assert table.present.tolist() == [[True, True], [False, True], [True, True]]
    parts = Table({"wide": pd.DataFrame({"a": series, "b": [1, 2, 3]}), "y": [1, 2, 3]})
    assert parts.observed["wide"].tolist() == [[True, True], [False, True], [True, True]]
    whole = Table({"wide": pd.DataFrame({"a": series, "b": series}), "y": [1, 2, 3]})
    assert whole.has("wide").tolist() == [True, False, True]


def test_invalid_data_frames_are_refused_by_name() -> None:
    pd = pytest.importorskip("pandas")
    for frame, says in (
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the data frame has two columns 'a'"),
        (pd.DataFrame({0: [1]}), "the data frame has a column 0: a modality's name must be a non-empty string"),
        (pd.DataFrame({"a": ["x"]}), "column 'a' has dtype"),
        (pd.DataFrame({"a": pd.Series(["x"], dtype="category")}), "column 'a' has dtype"),
        (pd.DataFrame({"a": pd.Series(["x"], dtype="string")}), "column 'a' has dtype"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "column 'a' has dtype datetime64"),
        (pd.DataFrame({}), "at least one column"),
    ):
        with pytest.raises(DataError, match=re.escape(says)):
            Table(frame)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_memory_mapped_mask_stays_on_disk_and_is_never_written(mode: Literal["r", "r+"], tmp_path: Path) -> None:
    written = np.random.default_rng(0).random((40, 3)) < 0.7
    written[:, 0] = True
    np.save(tmp_path / "mask.npy", written)
    mask = np.load(tmp_path / "mask.npy", mmap_mode=mode)
    table = Table({"x": np.zeros((40, 3), np.float32)}, {"x": mask})
    held = table.observed["x"]
    assert torch.equal(held, torch.from_numpy(written))
    mapped = Path("/proc/self/maps").read_text().splitlines()
    places = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped if line.endswith("mask.npy")]
    assert any(start <= held.data_ptr() < stop for start, stop in places)
    held.zero_()
    assert np.array_equal(np.load(tmp_path / "mask.npy"), written)
    part = Table({"x": np.zeros((7, 3), np.float32)}, {"x": mask[3:10]})
    assert torch.equal(part.observed["x"], torch.from_numpy(written[3:10]))
