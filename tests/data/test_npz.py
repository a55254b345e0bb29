"""The .npz reader returns what was saved, and no file uses more memory than the data it really contains."""

import io
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvae.data import npz
from mvae.data.npz import read_npz
from mvae.data.table import Table
from mvae.errors import DataError


def packed(path: Path, member: bytes, name: str = "x.npy", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, member)
    return path


def npy(values: np.ndarray, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=pickled)
    return file.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@given(
    hnp.arrays(st.one_of(hnp.scalar_dtypes().filter(lambda d: d.kind in "biuf"), hnp.unicode_string_dtypes(min_len=1)),
               hnp.array_shapes(max_dims=3, max_side=4)),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_arrays_are_read_back_as_saved(tmp_path_factory, values: np.ndarray, small: bool, fortran: bool) -> None:
    path = tmp_path_factory.mktemp("npz") / "rows.npz"
    values = np.asfortranarray(values) if fortran else values
    (np.savez_compressed if small else np.savez)(
        path, **{"a.b c": values, "a.b c__present": np.ones(len(values), bool)}
    )
    columns, present = read_npz(path)
    assert columns["a.b c"].dtype == values.dtype
    np.testing.assert_array_equal(columns["a.b c"], values)
    assert present["a.b c"].all()


def test_columns_and_masks_make_a_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(3.0), y=np.arange(3), y__present=np.array([True, False, True]))
    table = Table(*read_npz(tmp_path / "t.npz"))
    assert table.names == ("x", "y")
    assert table.has("y").tolist() == [True, False, True]


WHOLE = npy(np.arange(1000.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "absent.npz", "cannot read {p}/absent.npz (there is no such file): correct the path"),
        (lambda p: p, "cannot read {p} (it is a directory, not a file)"),
        (lambda p: (p / "e.npz").write_bytes(b"") * 0 or p / "e.npz", "e.npz is not an intact .npz file"),
        (lambda p: (p / "e.npz").write_bytes(WHOLE) * 0 or p / "e.npz", "e.npz is not an intact .npz file"),
        (lambda p: packed(p / "e.npz", b"hello world"), "array 'x': it cannot be unpacked (the magic string is not"),
        (lambda p: packed(p / "e.npz", WHOLE[:-8]), "'x': its header announces 8,000 bytes where there are 7,992"),
        (lambda p: packed(p / "e.npz", WHOLE + b"x"), "'x': its header announces 8,000 bytes where there are 8,001"),
        (lambda p: packed(p / "e.npz", header("(10**9, 10**9)")), "array 'x': it cannot be unpacked"),
        (lambda p: packed(p / "e.npz", header("(1000000000000, 1000000000)")), "its header announces 8,000,000,000,00"),
        (lambda p: packed(p / "e.npz", header("(-1,)")), "e.npz array 'x': "),
        (lambda p: packed(p / "e.npz", npy(np.array([{}]), True)), "'x': its dtype is object; save numbers, booleans"),
        (lambda p: packed(p / "e.npz", npy(np.array(1.0))), "array 'x': it is a single value"),
        (lambda p: packed(p / "e.npz", npy(np.array([True])), "x__present.npy"), "x__present is a mask, but there is"),
    ],
)
def test_invalid_files_are_refused_in_one_line(tmp_path: Path, make, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says.format(p=tmp_path))) as caught:
        read_npz(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_empty_archives_and_invalid_masks_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    with pytest.raises(DataError, match="holds no array"):
        read_npz(tmp_path / "none.npz")
    for mask in (np.ones(3), np.ones(2, bool)):
        np.savez(tmp_path / "m.npz", x=np.arange(3), x__present=mask)
        with pytest.raises(DataError, match="x__present must be boolean, one for each of the 3 rows of x"):
            read_npz(tmp_path / "m.npz")


@given(st.data())
def test_any_damage_raises_only_a_data_error(tmp_path_factory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("npz") / "rows.npz"
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(
        path, x=np.arange(50), name=np.array(["a", "b"] * 25)
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    with suppress(DataError):
        read_npz(path)


def test_an_archive_of_a_later_zip_version_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(5))
    content = bytearray((tmp_path / "rows.npz").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] = 99  # the version needed to extract it
    (tmp_path / "rows.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.npz is not an intact \.npz file"):
        read_npz(tmp_path / "rows.npz")


def test_a_false_size_is_refused(tmp_path: Path) -> None:
    """The file claims up to 2⁴⁰ bytes for a member of a few bytes and is refused before unpacking."""
    path = packed(tmp_path / "bomb.npz", header(f"({2**37},)") + bytes(100))
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[: place + 24] + (2**32 - 2).to_bytes(4, "little") + content[place + 28 :])
    with pytest.raises(DataError, match="are announced and not there"):
        read_npz(path)


def test_an_array_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "large.npz", x=np.zeros(10**6))
    monkeypatch.setattr("mvae.data.npz.memory_of_machine", lambda: 10**6)
    with pytest.raises(DataError, match=r"unpacks to 8,000,1.. bytes, more than this machine's memory"):
        read_npz(tmp_path / "large.npz")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_uncompressed_array_is_memory_mapped(
    order: Literal["C", "F"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = np.asarray(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), order=order)
    arrays = {"label": np.arange(50), "x": x, "name": np.array(["a", "b"] * 25), "x__present": np.arange(50) > 3}
    monkeypatch.setattr(npz, "LARGE", 400)
    np.savez(tmp_path / "some.npz", **arrays)
    columns, masks = read_npz(tmp_path / "some.npz")
    assert {name: type(column) for name, column in columns.items()} == {
        "label": np.memmap,
        "x": np.memmap,
        "name": np.ndarray,
    }
    for name, values in {**columns, "x__present": masks["x"]}.items():
        assert np.array_equal(values, arrays[name]), name
    taken = Table(columns | {"name": np.arange(50)}, masks).take([7, 9])["x"]
    assert np.array_equal(np.asarray(taken), x[[7, 9]])

    content = bytearray((tmp_path / "some.npz").read_bytes())
    content[content.index(x.tobytes(order="A")) + 5] ^= 1
    (tmp_path / "some.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        read_npz(tmp_path / "some.npz")
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    assert type(read_npz(tmp_path / "small.npz")[0]["x"]) is np.ndarray


def test_a_sparse_matrix_of_scipy_is_refused_with_what_to_do(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz(tmp_path / "rna.npz", sparse.csr_matrix(np.eye(3)))
    with pytest.raises(DataError, match=r"rna\.npz is a sparse matrix of SciPy: .*scipy\.sparse\.load_npz"):
        read_npz(tmp_path / "rna.npz")
