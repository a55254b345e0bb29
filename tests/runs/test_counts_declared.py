"""Counts and covariates in a declaration: built, trained from a file, saved, opened and queried."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvae
from mvae.errors import DataError, SettingsError
from mvae.runs.run import open_run
from tests.command import mvae as mvae_command


def declared(folder: Path, **modality: Any) -> mvae.Config:
    random = np.random.default_rng(0)
    batch = random.integers(0, 2, 80)
    np.savez(
        folder / "cells.npz",
        rna=random.poisson(3 + 10 * batch[:, None], (80, 4)),
        group=batch ^ (random.random(80) < 0.1),
        batch=np.array(["b1", "b2"])[batch],
        age=random.normal(50, 10, 80),
    )
    return mvae.Config.from_dict(
        {
            "data": {"source": str(folder / "cells.npz")},
            "model": {"latents": 2},
            "modalities": {"rna": {"kind": "count", **modality}, "group": {"kind": "categorical"}},
            "covariates": {"batch": {"kind": "categorical"}, "age": {}},
            "training": {"epochs": 2},
        }
    )


@pytest.mark.parametrize(
    "likelihood",
    [None, "poisson", "negative_binomial", {"name": "negative_binomial", "features": 4, "exposure": True},
     "zero_inflated_negative_binomial"],
)  # fmt: skip
def test_counts_and_covariates_train_from_a_file(tmp_path: Path, likelihood: Any) -> None:
    config = declared(tmp_path, **({} if likelihood is None else {"likelihood": likelihood}))
    run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    assert run.config.covariates["batch"].categories == ["b1", "b2"]
    again = open_run(tmp_path / "run").model
    query = {"rna": np.array([[3, 1, 0, 2]]), "batch": ["b2"], "age": [44.0]}
    drawn = again.generate(query, n=5, covariates={"batch": "b1"}, seed=0)["rna"]
    assert drawn.shape == (5, 1, 4)
    assert torch.equal(drawn, drawn.round())
    assert again.predict(query, of="rna", covariates={"batch": "b1"}).shape == (1, 4)
    with pytest.raises(DataError, match="no column 'batch'"):
        again.posterior({"rna": np.array([[3, 1, 0, 2]])})


@pytest.mark.parametrize("value", [-1, 0.5])
def test_invalid_counts_are_named_by_row(tmp_path: Path, value: float) -> None:
    config = declared(tmp_path)
    with np.load(tmp_path / "cells.npz") as file:
        columns = dict(file)
    columns["rna"] = columns["rna"].astype(float)
    columns["rna"][3, 1] = value
    np.savez(tmp_path / "cells.npz", **columns)
    with pytest.raises(DataError, match=r"'rna', row 3: .*whole numbers ≥ 0"):
        mvae.train(config, tmp_path / "run", callbacks=[])


def test_declared_categories_keep_their_order_and_others_may_be_unknown(tmp_path: Path) -> None:
    config = declared(tmp_path)
    with np.load(tmp_path / "cells.npz") as file:
        columns = dict(file)
    columns["batch"] = np.where(np.arange(80) % 8 == 0, "rare", columns["batch"])
    np.savez(tmp_path / "cells.npz", **columns)
    listed = {"covariates": {"batch": {"categories": ["b2", "b1"]}}}
    with pytest.raises(DataError, match=r"'batch', row 0: the category 'rare'.* Known are 'b2', 'b1'"):
        mvae.train(config.change(listed), tmp_path / "none", callbacks=[])
    unknown = config.change(listed).change({"covariates": {"batch": {"unknown": True}}})
    run, _ = mvae.train(unknown, tmp_path / "run", callbacks=[])
    again = open_run(tmp_path / "run")
    for opened in (run, again):
        assert opened.model.covariates["batch"].categories == ("b2", "b1")
        assert opened.config.covariates["batch"].categories == ["b2", "b1"]
        parts = [opened.data.train, opened.data.validation, opened.data.test]
        assert sum(int((~part.has("batch")).sum()) for part in parts) == 10
        codes = np.concatenate([np.asarray(part["batch"])[part.has("batch").numpy()] for part in parts])
        assert (codes == 0).sum() == (columns["batch"] == "b2").sum()
    with pytest.raises(DataError, match="no row has one of the categories x, y"):
        mvae.train(
            unknown.change({"covariates": {"batch": {"categories": ["x", "y"]}}}), tmp_path / "none", callbacks=[]
        )


def test_category_only_in_test_rows_may_be_unknown(tmp_path: Path) -> None:
    config = declared(tmp_path)
    run, _ = mvae.train(config, tmp_path / "plain", callbacks=[])
    with np.load(tmp_path / "cells.npz") as file:
        columns = dict(file)
    ages = np.asarray(run.data.test["age"])
    columns["batch"] = np.where(np.isin(columns["age"], ages), "new", columns["batch"])
    columns["batch__present"] = np.arange(80) % 5 > 0
    np.savez(tmp_path / "cells.npz", **columns)
    unknown = config.change({"covariates": {"batch": {"unknown": True}}})
    run, _ = mvae.train(unknown, tmp_path / "run", callbacks=[])
    assert run.config.covariates["batch"].categories == ["b1", "b2"]
    assert not run.data.test.has("batch").any()
    assert len(run.model.posterior(run.data.test).mean) == len(run.data.test)


def test_unknown_covariate_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"covariates\.batch\.kinds"):
        declared(tmp_path).change({"covariates": {"batch": {"kinds": "real"}}})


def test_cell_files_and_array_runs_refer_to_python(tmp_path: Path) -> None:
    cells = tmp_path / "cells.h5ad"
    for command in (["train", cells], ["describe", cells]):
        said = mvae_command(*command)
        assert (said.code, "read them in Python with mvae.data.annotated.read_anndata" in said.err) == (2, True)
    config = declared(tmp_path).change({"data": {"source": str(cells)}})
    with pytest.raises(DataError, match=r"read_anndata.*or the command line save arrays"):
        mvae.train(config, tmp_path / "none", callbacks=[])
    mvae.train(declared(tmp_path), tmp_path / "run", callbacks=[])
    said = mvae_command("embed", tmp_path / "run", tmp_path / "cells.npz")
    assert "not a model of a table: use it in Python, model = mvae.load(" in said.err
    assert mvae.load(tmp_path / "run").names == ("rna", "group")


def test_partly_overlapping_panels_train_together() -> None:
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, 200)
    counts = random.poisson(np.where(kind[:, None] == 1, 30, 3), (200, 14)).astype(np.float32)
    panel = np.ones((200, 14), bool)
    panel[:100, 10:] = False  # the first batch measures 10 of 14 proteins
    panel[100:, :2] = False  # the second batch measures all but two
    fields = [{"name": f"protein {i}", "kind": "count"} for i in range(14)]
    torch.manual_seed(0)
    model = mvae.MVAE({"protein": mvae.Columns.of(fields, 2, [32])}, 2)
    seen = np.where(panel, counts, np.nan)
    table = mvae.Table({"protein": seen}, present={"protein": panel})
    mvae.fit(model, table, epochs=40, batch_size=20, learning_rate=1e-2, callbacks=[])
    z = model.posterior(table).mean
    filled = model.modalities["protein"].generate(z, mean=True).detach().numpy()
    hidden = ~panel
    high = kind[:, None].repeat(14, 1)[hidden] == 1
    assert filled[hidden][high].mean() > 2 * filled[hidden][~high].mean()
    other = seen.copy()
    other[~panel] = 1e6  # the contents of missing values are never read
    again = model.posterior(mvae.Table({"protein": other}, present={"protein": panel})).mean
    torch.testing.assert_close(again, z)
