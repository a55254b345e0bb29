"""AnnData and MuData, read and written: order, names, missing values, and errors that list the known places."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from mvae.data.annotated import Annotated, read_anndata, write_anndata
from mvae.data.sparse import SparseRows
from mvae.errors import DataError, SettingsError

anndata = pytest.importorskip("anndata")
pytestmark = pytest.mark.filterwarnings("ignore")  # raised inside anndata
if hasattr(anndata.settings, "allow_write_nullable_strings"):
    anndata.settings.allow_write_nullable_strings = True  # for the text dtype of pandas 3

CELLS, GENES = 12, 5
COUNTS = np.random.default_rng(0).poisson(1.0, (CELLS, GENES)).astype(np.float32)
PROTEINS = np.arange(CELLS * 3, dtype=np.float64).reshape(CELLS, 3)


def cells() -> Any:
    obs = pd.DataFrame(
        {
            "batch": ["b1", "b2", "b1"] * 4,
            "has_protein": [True] * 8 + [False] * 4,
            "depth": np.arange(CELLS) / 2,
        },
        index=[f"cell {i}" for i in range(CELLS)],
    )
    made = anndata.AnnData(np.log1p(COUNTS), obs=obs)
    made.var_names = [f"gene {i}" for i in range(GENES)]
    made.layers["counts"] = sparse.csr_matrix(COUNTS)
    made.obsm["protein"] = pd.DataFrame(PROTEINS, index=made.obs_names, columns=["CD3", "CD4", "CD8"])
    return made


PLACES = {"rna": "layers/counts", "protein": "obsm/protein", "batch": "obs/batch", "depth": "obs/depth"}


def rows(found: Annotated, name: str, index: Any = slice(None)) -> np.ndarray:
    return found.table[index].columns[name].numpy()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("kept", ["object", "file", "backed"])
def test_a_table_keeps_the_order_of_cells(kept: str, tmp_path: Path) -> None:
    source: Any = cells()
    if kept != "object":
        source.write_h5ad(tmp_path / "c.h5ad")
        source = tmp_path / "c.h5ad"
    found = read_anndata(source, PLACES, present={"protein": "obs/has_protein"}, backed=kept == "backed")
    assert isinstance(found.table.columns["rna"], SparseRows)
    np.testing.assert_array_equal(rows(found, "rna", [7, 2, 2]), COUNTS[[7, 2, 2]])
    np.testing.assert_array_equal(rows(found, "protein"), PROTEINS)
    assert found.table.has("protein").tolist() == [True] * 8 + [False] * 4
    assert rows(found, "batch").tolist() == [0, 1, 0] * 4
    assert found.categories == {"batch": ("b1", "b2")}
    assert rows(found, "depth").tolist() == [i / 2 for i in range(CELLS)]
    assert found.features == {"rna": tuple(f"gene {i}" for i in range(GENES)), "protein": ("CD3", "CD4", "CD8")}
    assert found.cells[3] == "cell 3"


def test_backed_matrices_stay_on_disk(tmp_path: Path) -> None:
    mudata = pytest.importorskip("mudata")
    cells().write_h5ad(tmp_path / "c.h5ad")
    mudata.MuData({"rna": cells()[[3, 1, 2]].copy(), "all": cells()}).write_h5mu(tmp_path / "c.h5mu")
    for file, layer, log in (("c.h5ad", "layers/counts", "X"), ("c.h5mu", "rna:layers/counts", "all:X")):
        found = read_anndata(tmp_path / file, {"rna": layer, "log": log}, backed=True)
        column: Any = found.table.columns["rna"]
        assert hasattr(column._matrix, "group")  # it reads from the open file
        for row, cell in enumerate(found.cells):
            if found.table.has("rna")[row]:
                np.testing.assert_array_equal(column[[row]][0], COUNTS[int(cell.split()[1])])


@pytest.mark.parametrize("kept", ["object", "file", "backed"])
def test_raw_counts_are_read(kept: str, tmp_path: Path) -> None:
    source: Any = cells()
    source.X = COUNTS
    source.raw = source
    source = source[:, :2].copy()  # raw keeps all genes
    if kept != "object":
        source.write_h5ad(tmp_path / "c.h5ad")
        source = tmp_path / "c.h5ad"
    found = read_anndata(source, {"rna": "raw/X", "some": "X"}, backed=kept == "backed")
    np.testing.assert_array_equal(rows(found, "rna"), COUNTS)
    assert [len(found.features[name]) for name in ("rna", "some")] == [GENES, 2]


@pytest.mark.parametrize("backed", [False, True])
def test_a_missing_x_is_refused(backed: bool, tmp_path: Path) -> None:
    made = anndata.AnnData(obs=cells().obs, layers={"counts": sparse.csr_matrix(COUNTS)})
    made.write_h5ad(tmp_path / "c.h5ad")
    for place in ("X", "raw/X"):
        with pytest.raises(DataError, match=f"has no {place}: write X, raw/X"):
            read_anndata(tmp_path / "c.h5ad", {"rna": place}, backed=backed)
    found = read_anndata(tmp_path / "c.h5ad", {"rna": "layers/counts"}, backed=backed)
    np.testing.assert_array_equal(rows(found, "rna"), COUNTS)


def test_zeros_are_observed_and_nan_is_missing() -> None:
    made = cells()
    values = PROTEINS.copy()
    values[0], values[1], values[2, 1] = np.nan, 0, np.nan
    made.obsm["protein"] = values
    found = read_anndata(made, PLACES).table
    assert found.has("protein").tolist() == [False] + [True] * 11
    assert found.observed["protein"][1:3].tolist() == [[True] * 3, [True, False, True]]


def test_an_unseen_category_gets_code_minus_one() -> None:
    made = cells()
    made.obs["batch"] = ["b2", "b9", "b1"] * 4
    found = read_anndata(made, PLACES, categories={"batch": ("b1", "b2")})
    assert rows(found, "batch", [0, 1, 2]).tolist() == [1, -1, 0]


def test_numeric_pandas_categories_stay_categories() -> None:
    made = cells()
    made.obs["donor"] = pd.Categorical([2, 10, None] * 4)
    found = read_anndata(made, PLACES | {"donor": "obs/donor"})
    assert found.categories["donor"] == ("2", "10")
    assert rows(found, "donor", [0, 1]).tolist() == [0, 1]
    assert found.table.has("donor").tolist() == [True, True, False] * 4
    made.obs["donor"] = made.obs["donor"].astype(float)  # as pandas stores integers with missing values
    for categories in (("10", "2"), [10, 2]):
        again = read_anndata(made, PLACES | {"donor": "obs/donor"}, categories={"donor": categories})
        assert rows(again, "donor", [0, 1]).tolist() == [1, 0]


@pytest.mark.parametrize("backed", [False, True])
def test_features_follow_the_training_order(backed: bool, tmp_path: Path) -> None:
    trained = read_anndata(cells(), PLACES | {"log": "X"})
    shuffled = cells()[:, [3, 0, 4, 2, 1]].copy()
    shuffled.obsm["protein"] = shuffled.obsm["protein"][["CD8", "CD3", "CD4"]]
    shuffled.write_h5ad(tmp_path / "c.h5ad")
    places = PLACES | {"log": "X"}
    found = read_anndata(tmp_path / "c.h5ad", places, features=trained.features, backed=backed)
    assert found.features == trained.features
    for name, values in {"rna": COUNTS, "protein": PROTEINS, "log": np.log1p(COUNTS)}.items():
        np.testing.assert_array_equal(rows(found, name), values)
        np.testing.assert_array_equal(rows(found, name, [7, 2, 2]), values[[7, 2, 2]])
    alone = read_anndata(shuffled, {"rna": "layers/counts"}, features=trained.features, categories=trained.categories)
    np.testing.assert_array_equal(rows(alone, "rna"), COUNTS)
    some = read_anndata(shuffled, PLACES, features={"rna": ["gene 4", "gene 1"]})
    np.testing.assert_array_equal(rows(some, "rna"), COUNTS[:, [4, 1]])
    np.testing.assert_array_equal(some.table.first(3)[[2, 0]].columns["rna"], COUNTS[[2, 0]][:, [4, 1]])


def test_missing_or_duplicate_features_are_named() -> None:
    with pytest.raises(DataError, match=r"layers/counts lacks 1 of the 2 requested features, such as 'gene 9'"):
        read_anndata(cells(), PLACES, features={"rna": ["gene 1", "gene 9"]})
    with pytest.raises(DataError, match="depth has no feature names"):
        read_anndata(cells(), PLACES, features={"depth": ["a"]})
    with pytest.raises(SettingsError, match="features names 'prot', which is not a column"):
        read_anndata(cells(), PLACES, features={"prot": ["CD3"]})
    with pytest.raises(SettingsError, match="categories names 'bacth', which is not a column"):
        read_anndata(cells(), PLACES, categories={"bacth": ["b1"]})
    made = cells()
    made.var_names = ["a", "b", "a", "c", "d"]
    assert read_anndata(made, PLACES).features["rna"] == ("a", "b", "a", "c", "d")
    with pytest.raises(DataError, match="the feature 'a' occurs twice"):
        read_anndata(made, PLACES, features={"rna": ["a", "b"]})


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("layers/count", r"no layers/count: layers has counts.*did you mean"),
        ("obsm/rna", "no obsm/rna: obsm has protein"),
        ("obs/donor", "no obs/donor: obs has batch"),
        ("Y", "is not a place in this object: write X"),
        ("rna:X", "no modality 'rna'"),
    ],
)
def test_an_unknown_place_is_refused_with_the_known_ones(place: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_anndata(cells(), {"rna": place})


def test_duplicate_cells_and_wrong_files_are_refused(tmp_path: Path) -> None:
    made = cells()
    made.obs_names = ["a", "b"] * 6
    with pytest.raises(DataError, match="the cell 'a' occurs twice"):
        read_anndata(made, PLACES)
    with pytest.raises(DataError, match="no such file"):
        read_anndata(tmp_path / "none.h5ad", PLACES)
    (tmp_path / "bad.h5ad").write_bytes(b"nothing")
    for backed in (False, True):
        with pytest.raises(DataError, match="is damaged"):
            read_anndata(tmp_path / "bad.h5ad", PLACES, backed=backed)
    with pytest.raises(DataError, match=r"neither a \.h5ad nor a \.h5mu"):
        read_anndata(tmp_path / "c.csv", PLACES)
    with pytest.raises(DataError, match="present needs booleans"):
        read_anndata(cells(), PLACES, present={"protein": "obs/depth"})


def test_results_are_written_to_cells_by_name(tmp_path: Path) -> None:
    made = cells()
    found = read_anndata(made, PLACES)
    latents, scores = np.arange(CELLS * 2.0).reshape(CELLS, 2), np.arange(CELLS) * 1.0
    other = made[np.random.default_rng(0).permutation(CELLS)][:9].copy()
    write_anndata(other, {"obsm/X_mvae": latents, "obs/log_p": scores, "layers/denoised": COUNTS}, found.cells)
    other.write_h5ad(tmp_path / "out.h5ad")
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    for row, cell in enumerate(again.obs_names):
        own = found.cells.index(cell)
        np.testing.assert_array_equal(again.obsm["X_mvae"][row], latents[own])
        np.testing.assert_array_equal(again.layers["denoised"][row], COUNTS[own])
        assert again.obs["log_p"].iloc[row] == scores[own]


def test_cells_without_a_result_get_nan_and_wrong_shapes_are_refused() -> None:
    made = cells()
    write_anndata(made, {"obs/log_p": np.ones(3)}, ("cell 5", "cell 1", "elsewhere"))
    assert np.flatnonzero(~np.isnan(made.obs["log_p"])).tolist() == [1, 5]
    names = tuple(made.obs_names)
    with pytest.raises(DataError, match="values of shape"):
        write_anndata(made, {"layers/denoised": np.ones((CELLS, 2))}, names)
    with pytest.raises(DataError, match="twice"):
        write_anndata(made, {"obs/log_p": np.ones(2)}, ("cell 1", "cell 1"))
    with pytest.raises(DataError, match="no cell has a name"):
        write_anndata(made, {"obs/log_p": np.ones(1)}, ("elsewhere",))
    with pytest.raises(SettingsError, match="answers go to"):
        write_anndata(made, {"uns/x": np.ones(CELLS)}, names)


def test_predicted_classes_and_tensors_are_written(tmp_path: Path) -> None:
    made = cells()
    some = {
        "obs/kind": ["T", "B"],
        "obs/p": np.ones((2, 1)),
        "obsm/z": torch.tensor([[1.0], [2.0]], requires_grad=True),
    }
    write_anndata(made, some | {"layers/d": sparse.csr_matrix(COUNTS[[5, 1]])}, ["cell 5", "cell 1"])
    assert made.obs["kind"].isna().sum() == CELLS - 2
    made.write_h5ad(tmp_path / "c.h5ad")
    again = anndata.read_h5ad(tmp_path / "c.h5ad")
    assert again.obs["kind"][["cell 5", "cell 1"]].tolist() == ["T", "B"]
    assert again.obsm["z"][[5, 1], 0].tolist() == [1, 2]
    np.testing.assert_array_equal(again.layers["d"][[5, 1]], COUNTS[[5, 1]])


def test_results_that_do_not_fit_are_refused() -> None:
    mudata = pytest.importorskip("mudata")
    made, names = cells(), [f"cell {i}" for i in range(CELLS)]
    with pytest.raises(DataError, match=r"obs/p: rows of shape \(3,\), but obs has one value per cell: use obsm/p"):
        write_anndata(made, {"obs/p": np.ones((CELLS, 3))}, names)
    with pytest.raises(DataError, match=r"obsm/z: .* is not an array with a row for each cell"):
        write_anndata(made, {"obsm/z": object()}, names)
    with pytest.raises(DataError, match="which have none"):
        write_anndata(made, {"obs/p": []}, [])
    both = mudata.MuData({"rna": made})
    with pytest.raises(SettingsError, match="answers go to obsm/NAME, obs/NAME of this object, not to 'layers/d'"):
        write_anndata(both, {"layers/d": COUNTS}, names)


def test_mudata_modalities_are_aligned_by_cell_name(tmp_path: Path) -> None:
    mudata = pytest.importorskip("mudata")
    rna = cells()
    protein = anndata.AnnData(PROTEINS[[5, 2, 9]].astype(np.float32))
    protein.obs_names, protein.var_names = ["cell 5", "cell 2", "cell 9"], ["CD3", "CD4", "CD8"]
    both = mudata.MuData({"rna": rna, "prot": protein})
    both.write_h5mu(tmp_path / "b.h5mu")
    for source in (both, tmp_path / "b.h5mu"):
        found = read_anndata(source, {"rna": "rna:layers/counts", "protein": "prot:X"})
        order = [rna.obs_names.get_loc(cell) for cell in found.cells]
        np.testing.assert_array_equal(rows(found, "rna"), COUNTS[order])
        has = found.table.has("protein")
        assert [found.cells[i] for i in has.nonzero().flatten()] == [
            cell for cell in found.cells if cell in ("cell 5", "cell 2", "cell 9")
        ]
        for row in torch.arange(CELLS)[has]:
            np.testing.assert_array_equal(rows(found, "protein", [int(row)])[0], PROTEINS[order[int(row)]])


def test_mudata_annotations_are_aligned_by_cell_name() -> None:
    mudata = pytest.importorskip("mudata")
    order = [3, 1, 2, 0, *range(4, 10)]  # two cells fewer
    protein = anndata.AnnData(PROTEINS[order])
    protein.obs_names = [f"cell {i}" for i in order]
    protein.obs["who"] = [f"cell {i}" for i in order]
    protein.obs["number"] = np.array(order, float)
    protein.obs["good"] = np.array(order) % 2 == 0
    both = mudata.MuData({"rna": cells(), "prot": protein})
    places = {"rna": "rna:X", "protein": "prot:X", "who": "prot:obs/who", "number": "prot:obs/number"}
    found = read_anndata(both, places, present={"protein": "prot:obs/good"})
    absent = [cell in ("cell 10", "cell 11") for cell in found.cells]
    assert [not has for has in found.table.has("who").tolist()] == absent
    for row, cell in enumerate(found.cells):
        if not absent[row]:
            assert found.categories["who"][int(rows(found, "who")[row])] == cell
            assert f"cell {rows(found, 'number')[row]:g}" == cell
    good = [cell for cell, has in zip(found.cells, found.table.has("protein"), strict=True) if has]
    assert sorted(good) == [f"cell {i}" for i in range(0, 10, 2)]


def test_a_name_may_contain_a_colon() -> None:
    mudata = pytest.importorskip("mudata")
    both = mudata.MuData({"rna": cells()})  # as MuData names the columns of its parts
    assert read_anndata(both, {"rna": "rna:X", "batch": "obs/rna:batch"}).categories == {"batch": ("b1", "b2")}


@pytest.mark.parametrize("listed", [tuple, np.array, pd.Index, lambda names: pd.Series(names, index=["i", "j"])])
def test_names_may_be_any_list_array_or_index(listed: Any) -> None:
    found = read_anndata(
        cells(), PLACES, features={"protein": listed(["CD8", "CD3"])}, categories={"batch": listed(["b2", "b1"])}
    )
    np.testing.assert_array_equal(rows(found, "protein"), PROTEINS[:, [2, 0]])
    assert rows(found, "batch").tolist() == [1, 0, 1] * 4
    made = cells()
    write_anndata(made, {"obs/score": np.arange(2)}, listed(["cell 3", "cell 1"]))
    assert made.obs["score"].dropna().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["X"]}, r"columns of read_anndata must be a mapping by name to text, not \['X'\]"),
        ({"columns": {"rna": None}}, "columns of read_anndata must be a mapping by name to text"),
        ({"present": {"rna": pd.Series([True])}}, "present of read_anndata must be a mapping by name to text or None"),
        ({"features": {"rna": "gene 1"}}, "features of 'rna' must be a list of names, not 'gene 1'"),
        ({"categories": {"rna": 3}}, "categories of 'rna' must be a list of names, not 3"),
    ],
)
def test_arguments_of_wrong_type_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_anndata(cells(), **{"columns": {"rna": "X"}, **arguments})


def test_objects_without_cells_are_refused() -> None:
    for other in (None, np.ones((3, 2)), pd.DataFrame({"a": [1]})):
        with pytest.raises(DataError, match=r"give an AnnData or MuData object, or a path that ends in \.h5ad"):
            read_anndata(other, {"rna": "X"})
    with pytest.raises(DataError, match=r"give an AnnData or MuData object, not 'c\.h5ad'"):
        write_anndata("c.h5ad", {"obs/a": [1]}, ["a"])
    with pytest.raises(SettingsError, match="cells must be a list of names, not None"):
        write_anndata(cells(), {"obs/a": [1]}, None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("matrix", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.lil_matrix])
def test_nan_in_sparse_matrix_is_missing(matrix: Any) -> None:
    made, x = cells(), COUNTS.copy()
    x[0], x[1, 3] = np.nan, np.nan
    try:
        made.layers["counts"] = matrix(x)
    except ValueError:
        pytest.skip("this version of anndata stores only CSR and CSC matrices")
    places = {"rna": "layers/counts", "batch": "obs/batch"}
    found = read_anndata(made, places, features={"rna": made.var_names[::-1]})
    assert found.table.has("rna").tolist() == [False] + [True] * (CELLS - 1)
    np.testing.assert_array_equal(found.table.observed["rna"].numpy(), ~np.isnan(x[:, ::-1]))


def test_present_takes_nullable_booleans_unless_one_is_missing() -> None:
    made = cells()
    made.obs["some"] = pd.array([True, False] * 6, dtype="boolean")
    found = read_anndata(made, PLACES, present={"protein": "obs/some"})
    assert found.table.has("protein").tolist() == [True, False] * 6
    made.obs["unknown"] = pd.array([True, None] * 6, dtype="boolean")
    with pytest.raises(DataError, match="obs/unknown holds <NA>: present needs booleans, one for each cell"):
        read_anndata(made, PLACES, present={"protein": "obs/unknown"})


def test_number_1_and_text_1_are_one_category() -> None:
    made = cells()
    made.obs["plate"] = pd.Series(["1", 1, 2] * 4, index=made.obs_names, dtype=object)
    found = read_anndata(made, {"rna": "X", "plate": "obs/plate"})
    assert found.categories == {"plate": ("1", "2")}
    assert rows(found, "plate").tolist() == [0, 0, 1] * 4
