"""The README's numbers are the recorded ones."""

from pathlib import Path

import pytest

from mvae.report.readme import fill, main, measured
from mvae.report.results import read_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["README.md", "docs/coupling.md"])
def test_the_tables_in_the_documents_are_generated_from_results(file: str, tmp_path: Path) -> None:
    for name in ("README.md", "docs/coupling.md", "results/table2.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    main(tmp_path)
    assert (tmp_path / file).read_text() == (ROOT / file).read_text(), "run python -m mvae.report.readme"


def test_every_run_is_one_line_with_the_published_value_beside_ours() -> None:
    rows = read_rows(ROOT / "results" / "table2.json")
    lines = measured(rows).splitlines()[2:]
    runs = {(r["model"], r["recipe"], r["budget"], r["n"], r["seed"], r["commit"]) for r in rows}
    assert len(lines) >= len(runs)
    assert any("(-90.619)" in line for line in lines)


def test_filling_leaves_the_rest_alone() -> None:
    assert fill("a<!-- x -->1<!-- /x -->b<!-- y -->2<!-- /y -->", "y", "3") == (
        "a<!-- x -->1<!-- /x -->b<!-- y -->\n3\n<!-- /y -->"
    )
