"""The tutorials as notebooks: made from the manual's pages, and run as a reader runs them, in an empty folder."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.module import module_at

for module in ("jupytext", "nbclient", "ipykernel", "pandas", "plotly"):
    pytest.importorskip(module)
pytestmark = pytest.mark.filterwarnings("ignore")  # from the kernel's own libraries
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def notebooks() -> Any:
    """The module docs/notebooks.py."""
    return module_at(DOCS / "notebooks.py")


@pytest.mark.parametrize("page", ["tutorials/table.md", "tutorials/mnist.md"])
def test_tutorial_runs_as_a_notebook(
    page: str, notebooks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    assert page in notebooks.TUTORIALS
    monkeypatch.delenv("MVAE_DATA", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = notebooks.notebook(DOCS / page)
    nbformat.validate(found)
    assert "".join(cell.source for cell in found.cells).count("](") == len(
        notebooks.PICTURE.findall((DOCS / page).read_text())
    )
    NotebookClient(found, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs").is_dir()
    assert all(cell.execution_count for cell in found.cells if cell.cell_type == "code")


def test_notebooks_keep_the_paths_of_their_pages(notebooks: Any, tmp_path: Path) -> None:
    files = notebooks.write_notebooks(tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == ["tutorials/table.ipynb", "tutorials/mnist.ipynb"]
    assert all(file.read_text().count('"image/png"') == 1 for file in files)
