"""The tables in the documents show the recorded numbers."""

from pathlib import Path

import pytest

from mvae.errors import DataError
from mvae.paper.readme import (
    TABLES_OF_DOCUMENTS,
    coherence_table,
    coupling_table,
    few_pairs_table,
    fill,
    fill_documents,
    goals_table,
    runs_table,
    sentences_table,
    tasks_table,
)
from mvae.paper.results import read_rows

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({file for file, _ in TABLES_OF_DOCUMENTS})


@pytest.mark.parametrize("file", DOCUMENTS)
def test_document_tables_are_generated_from_results(file: str, tmp_path: Path) -> None:
    for name in (*DOCUMENTS, *(f"results/{path.name}" for path in (ROOT / "results").glob("*.json"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fill_documents(TABLES_OF_DOCUMENTS, tmp_path)
    assert (tmp_path / file).read_text() == (ROOT / file).read_text(), "run python -m mvae.paper.readme"


def test_runs_table_has_one_line_per_run_with_published_value() -> None:
    rows = read_rows(ROOT / "results" / "table2.json")
    lines = runs_table(rows).splitlines()[2:]
    runs = {(r["model"], r["recipe"], r["budget"], r["n"], r["seed"], r["commit"]) for r in rows}
    assert len(lines) >= len(runs)
    assert any("(-90.619)" in line for line in lines)


def test_coupling_table_averages_seeds() -> None:
    settings = {"pairs": 0.01, "repeat_pairs": 20, "anneal_epochs": 3, "epochs": 8, "weights": {"label": 50.0}}
    numbers = ({"log p(x1)": -90.0, "coupling": 2.0}, {"log p(x1)": -92.0, "coupling": 3.0})
    rows = [
        {"dataset": "mnist", "model": "mvae", "recipe": "paper", "seed": seed, "settings": settings, "metric": metric}
        | {"value": value}
        for seed, found in enumerate(numbers)
        for metric, value in (found | {"log p(x1,x2)": -92.5, "accuracy x1->x2": 0.5}).items()
    ]
    line = coupling_table(rows).splitlines()[-1]
    assert line == "| mnist | mvae, `paper` | 50 | 3 of 8 | 1% × 20 | 2 | -91.00 | -1.50 | 50.0% | 2.50 |"


def test_few_pairs_table_averages_seeds_and_shows_published_values() -> None:
    found = {("nn", 0.01): (0.8, 0.9), ("mvae", 0.01): (0.85,), ("mvae", 0.1): (0.94,)}
    rows = [
        {"dataset": "mnist", "model": model, "recipe": "coupled", "metric": "accuracy x1->x2", "value": value}
        | {
            "seed": seed,
            "settings": {"pairs": level, "cross_share": 1.0},
            "paper": 0.875 if model == "nn" else None,
        }
        for (model, level), values in found.items()
        for seed, value in enumerate(values)
    ]
    assert few_pairs_table(rows).splitlines()[2:] == [
        "| mnist | nn | 2 | 85.0 ± 5.0 (87.5) | – |",
        "| mnist | mvae, coupled | 1 | 85.0 | 94.0 |",
    ]


def test_goals_table_has_only_runs_with_decay() -> None:
    table2, figure2 = (read_rows(ROOT / "results" / f"{item}.json") for item in ("table2", "figure2"))
    lines = goals_table([*table2, *figure2]).splitlines()[3:]
    assert [line.split(" | ")[1:3] for line in lines] == [["120 of 500 epochs", str(seed)] for seed in range(3)]


def test_coherence_table_shows_classifier_accuracy() -> None:
    run = {"dataset": "mnist", "model": "mvae", "recipe": "coupled", "budget": "laptop", "seed": 1}
    seen = run | {"metric": "agreement x2->x1", "value": 0.875}
    worth = run | {"metric": "classifier accuracy on test rows", "value": 0.99}
    assert coherence_table([seen, worth]).splitlines()[2:] == [
        "| mnist | mvae, `coupled` | laptop | 1 | 87.5% | 99.0% |"
    ]


def test_fill_changes_only_its_table() -> None:
    assert fill("a<!-- x -->1<!-- /x -->b<!-- y -->2<!-- /y -->", "y", "3") == (
        "a<!-- x -->1<!-- /x -->b<!-- y -->\n3\n<!-- /y -->"
    )
    with pytest.raises(DataError, match="lacks <!-- y --> or"):
        fill("a<!-- x -->1<!-- /x -->", "y", "3")


def test_tasks_table_has_one_line_per_task_with_references() -> None:
    values = {"NLL": -12.3, "F1": 0.5, "NLL, training mean": 2000.4, "F1, nearest neighbour": 0.25}
    rows = [{"metric": f"image->mask {name}", "value": value, "seed": 0} for name, value in values.items()]
    assert tasks_table(rows).splitlines()[2] == "| image → mask | −12 | 2,000 | – | 0.50 | – | 0.25 | – | – | – |"


def test_sentences_table_has_one_column_per_share_and_budget() -> None:
    rows = [
        {"metric": metric, "value": value, "settings": {"level": level, "rows": of}, "paper": None}
        | {"budget": budget, "seed": seed}
        for metric, level, of, budget, seed, value in (
            ("gap a->b", 1.0, 8000, "laptop", 0, 5.0),
            ("gap a->b", 1.0, 8000, "laptop", 1, 7.0),
            ("coupling/share", 0.001, 8000, "laptop", 0, 0.5),
            ("gap a->b", 1.0, None, "laptop", 0, 9.0),
            ("gap a->b", 1.0, None, "9 of 100 epochs", 0, 10.0),
        )
    ]
    assert sentences_table(rows).splitlines() == [
        "| | 100.0%, 9 of 100 epochs | 100.0% | 100.0% of 8,000 | 0.1% of 8,000 |",
        "|---|---:|---:|---:|---:|",
        "| gap a → b | 10.0 | 9.0 | 6.0 ± 1.0 | – |",
        "| coupling/share | – | – | – | 50% |",
    ]
