"""The commands and the Python code of docs/own-tables.md run, with few epochs."""

import re
import shlex
from pathlib import Path

import pytest

import mvae as library
from tests.command import mvae
from tests.patients import FEW, csv_of, patients

TEXT = (Path(__file__).parents[1] / "docs" / "own-tables.md").read_text()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in ((0, "patients.csv"), (1, "new.csv")):
        csv_of(patients(seed=seed).rename(columns={"city": "diagnosis"}), tmp_path, name)
    return tmp_path


def test_page_is_short() -> None:
    assert len(TEXT.split()) <= 1000


def test_page_commands_run(here: Path) -> None:
    pytest.importorskip("pyarrow")
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.partition("#")[0])
            assert words[0] == "mvae"
            few = {"train": ["--epochs", 1], "score": ["--samples", 5], "evaluate": ["--samples", 5]}.get(words[1], [])
            result = mvae(*words[1:], *few)
            assert result.code == 0, (line, result.err)
            if "-o" in words:
                assert (here / words[words.index("-o") + 1]).stat().st_size > 0


def test_page_python_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_table = library.fit_table
    monkeypatch.setattr(
        library, "fit_table", lambda frame, **options: fit_table(frame, changes=FEW, callbacks=[], **options)
    )
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    assert (here / "patients.mvae").exists()
