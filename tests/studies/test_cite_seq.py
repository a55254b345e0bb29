"""The study of cells on simulated data: its split, its metrics against loops, and the whole command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mvae.errors import DataError
from mvae.paper.command import reproduce_command
from mvae.paper.results import read_rows
from mvae.studies.cite_seq_cells import Components, drawn_cells, log_normalised, metrics_of, read_cells, variable_genes
from mvae.studies.totalvi import of_totalvi


def test_split_tests_the_first_fifth_of_a_permutation() -> None:
    cells = drawn_cells(50)
    train, test = cells.split(3)
    order = np.random.default_rng(3).permutation(50)
    np.testing.assert_array_equal(test.rna, cells.rna[order[:10]])
    np.testing.assert_array_equal(train.protein, cells.protein[order[10:]])


def test_metrics_are_means_over_proteins_of_log_counts() -> None:
    random = np.random.default_rng(0)
    truth, prediction = random.poisson(20, (40, 3)), random.normal(3, 1, (40, 3))
    found = metrics_of(truth, prediction, random.poisson(20, (500, 40, 3)).astype(float))
    log = np.log1p(truth)
    assert found["Pearson"] == pytest.approx(
        np.mean([np.corrcoef(prediction[:, j], log[:, j])[0, 1] for j in range(3)])
    )
    rmsle = [np.sqrt(np.mean((prediction[:, j] - log[:, j]) ** 2)) for j in range(3)]
    assert found["RMSLE"] == pytest.approx(np.mean(rmsle))
    assert 0.85 < found["coverage of 90 %"] < 0.97


def test_encoder_input_is_principal_components_and_the_total() -> None:
    from sklearn.decomposition import PCA

    rna = drawn_cells().rna
    seen = Components(rna, 5)
    found = seen(torch.from_numpy(rna).float()).numpy()
    expected = PCA(5, svd_solver="full").fit_transform(log_normalised(rna))
    for j in range(5):
        assert abs(np.corrcoef(found[:, j], expected[:, j])[0, 1]) > 0.99
    assert found[:, 5].std() == pytest.approx(0.5, abs=1e-3)
    assert seen.width == 6


def test_most_variable_genes_are_taken_in_order() -> None:
    genes = variable_genes(drawn_cells().rna, 7)
    spread = log_normalised(drawn_cells().rna).var(0)
    assert list(genes) == sorted(genes)
    assert spread[genes].min() >= np.delete(spread, genes).max()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no pbmc10k\.npz.*get it from"):
        read_cells(tmp_path)


@pytest.mark.parametrize("item", ["cite-seq", "mfeat"])
def test_study_runs_and_is_recorded_once(item: str, tmp_path: Path) -> None:
    words = [item, "--budget", "smoke", "--results", str(tmp_path)]
    first = CliRunner().invoke(reproduce_command, words)
    assert first.exit_code == 0, first.output
    assert "mvae" in first.output
    rows = read_rows(tmp_path / f"{item}.json")
    assert {row["model"] for row in rows} > {"mvae"}
    assert all(np.isfinite(row["value"]) for row in rows)
    assert CliRunner().invoke(reproduce_command, words).exit_code == 0
    assert read_rows(tmp_path / f"{item}.json") == rows


def test_totalvi_predicts_hidden_proteins() -> None:
    pytest.importorskip("scvi")
    train, test = drawn_cells(120, 30).split(0)
    found = of_totalvi(train, test, seed=0, epochs=2)
    assert found["RMSLE"] > 0
    assert -1 <= found["Pearson"] <= 1
