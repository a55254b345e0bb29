"""The manual: the code of each page runs in order in an empty folder; pages are short; Sphinx builds strictly."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mvae as library
from mvae.evaluation import likelihood as estimators
from mvae.models import MODELS
from tests.command import mvae

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name not in ("research", "_build"))
BLOCK = re.compile(r"^```(python|sh|toml)\n(.*?)^```", re.M | re.S)
NAMED = re.compile(r"`([\w-]+\.toml)`")
NEEDS = {"mvae report": "plotly", "mvae compare": "plotly", "mvae export": "onnxscript", "import anndata": "anndata"}


def relative(path: Path) -> str:
    return str(path.relative_to(DOCS))


# tests/test_own_tables.py runs the first page on a table, tests/test_notebooks.py the others as notebooks
TESTED_ELSEWHERE = {"own-tables.md", "tutorials/mnist.md", "tutorials/table.md"}
WITH_CODE = [path for path in PAGES if relative(path) not in TESTED_ELSEWHERE and BLOCK.search(path.read_text())]


@pytest.mark.filterwarnings("ignore:Matplotlib")
@pytest.mark.parametrize("path", WITH_CODE, ids=relative)
def test_page_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    for command, module in NEEDS.items():
        if f"\n{command} " in text:
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(estimators.CHUNK, "cpu", 20_000)  # fewer calls with checked shapes
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    for found in BLOCK.finditer(text):
        language, code = found.groups()
        if language == "python":
            exec(compile(code, str(path), "exec"), names)
        elif language == "toml":
            (tmp_path / NAMED.findall(text[: found.start()])[-1]).write_text(code)
        else:
            for line in code.splitlines():
                program, *words = shlex.split(line, comments=True)
                result = mvae(*words, *(["--device", "cpu"] if words[0] == "train" else []))
                assert (program, result.code) == ("mvae", 0), (line, result.err)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=relative)
def test_page_has_at_most_1000_words(path: Path) -> None:
    """Rows of tables do not count, because nobody reads them word by word."""
    assert sum(len(line.split()) for line in path.read_text().splitlines() if not line.startswith("|")) <= 1000


def test_every_model_has_an_indexed_page() -> None:
    index = (DOCS / "models/index.md").read_text()
    for name in MODELS:
        text = (DOCS / f"models/{name}.md").read_text()
        assert f'model.name = "{name}"' in text
        assert f"({name}.md)" in index
        for heading in ("Generative model", "Objective", "What it answers", "Limits", "Cost"):
            assert f"\n## {heading}" in text


def test_manual_builds_without_warnings(tmp_path: Path) -> None:
    for module in ("sphinx", "myst_parser", "furo", "sphinx_click", "jupytext"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(DOCS), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    assert done.returncode == 0, done.stderr
    built = (tmp_path / "html/reference/configuration.html").read_text()
    assert "training.anneal_epochs" in built
    assert "mvae report" in (tmp_path / "html/reference/command-line.html").read_text()
    api = (tmp_path / "html/reference/api.html").read_text()
    assert re.search(r">DataError</strong></a> – rows that do not fit the model, or from", api)  # an entry of its own
    html = "".join(file.read_text() for file in (tmp_path / "html").rglob("*.html"))
    public = {name for name in library.__all__ if not inspect.ismodule(getattr(library, name))}
    assert not {name for name in public if f'id="mvae.{name}"' not in html}
    assert 'href="mnist.ipynb"' in (tmp_path / "html/tutorials/mnist.html").read_text()
    assert (tmp_path / "html/tutorials/mnist.ipynb").is_file()
