"""The studies' tables in docs/research show the recorded numbers."""

from pathlib import Path

import pytest

from mvae.paper.readme import fill_documents
from mvae.studies.documents import TABLES_OF_DOCUMENTS, errors_table, polymnist_table, pooling_table
from mvae.studies.tables import NO_COPIES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({file for file, _ in TABLES_OF_DOCUMENTS})


@pytest.mark.parametrize("file", DOCUMENTS)
def test_tables_in_documents_are_generated_from_results(file: str, tmp_path: Path) -> None:
    for name in (*DOCUMENTS, *(f"results/{item}.json" for item in ("tables", "pooling", "polymnist"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fill_documents(TABLES_OF_DOCUMENTS, tmp_path)
    assert (tmp_path / file).read_text() == (ROOT / file).read_text(), "run python -m mvae.studies.documents"


def test_errors_table_averages_masks_and_bolds_the_lowest_error() -> None:
    shared = {"dataset": "wine", "settings": {"hidden": "cells 10 %"}, "metric": "error"}
    rows = [{**shared, "model": m, "value": v} for m, v in [("mvae", 0.1), ("mvae", 0.3), ("kNN", 0.25)]]
    line = errors_table(rows).splitlines()[-1]
    assert line == "| wine | cells 10 % | 2 | **0.200** | | | 0.250 | | | | |"
    apart = [{**row, "metric": NO_COPIES} for row in rows]
    line = errors_table([*rows, *apart]).splitlines()[-1]
    assert line == "| wine | cells 10 %, rows without a copy | 2 | **0.200** | | | 0.250 | | | | |"


def test_polymnist_table_lists_runs_above_published_numbers() -> None:
    shared = {"model": "mvae", "recipe": "coupled", "budget": "laptop", "seed": 0}
    settings = {"classifier_accuracy": 0.98, "kept": 0.5}
    values = {"coherence given 1": 0.5, "log p(x)": -7000.4}
    rows = [{**shared, "metric": m, "value": v, "settings": settings} for m, v in values.items()]
    first, second = polymnist_table(rows).splitlines()[2:4]
    assert first == "| mvae, coupled, 50% missing | laptop, seed 0 | .500 | | | | | | | | | -7000 | | | .980 |"
    assert second.startswith("| mvae | published | .290 | .420 |")


def test_pooling_table_has_a_line_per_effect() -> None:
    rows = [
        {"model": model, "metric": f"{what} of {effect}", "value": value, "stderr": 0.01}
        for model in ("mvae", "complete rows")
        for effect in ("x1", "s")
        for what, value in (("bias", -0.125), ("coverage", 0.75))
    ]
    lines = pooling_table(rows).splitlines()
    assert lines[0] == "| effect | mvae | complete rows |"
    assert lines[2:] == [f"| {e} | -0.125 ± 0.010, 75% | -0.125 ± 0.010, 75% |" for e in ("x1", "s")]
