"""Provenance: the commit of the code, and whether the code has been changed since."""

import subprocess
from pathlib import Path

import pytest

from mvae import provenance


def checkout(root: Path) -> Path:
    """Make a git checkout with a package like this library's; return the path of its module."""
    package = root / "src" / "mvae"
    (package / "models").mkdir(parents=True)
    (package / "provenance.py").write_text("")
    (package / "models" / "mvae.py").write_text("x = 1\n")
    (root / "README.md").write_text("")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
    return package / "provenance.py"


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), *words], check=True)


@pytest.mark.parametrize("changed", ["models/mvae.py", "models/new.py", "provenance.py"])
def test_commit_marks_a_change_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    module = checkout(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(module))
    clean = provenance.commit()
    assert len(clean) >= 7
    assert clean.isalnum()
    (module.parent / changed).write_text("x = 2\n")
    assert provenance.commit() == clean + "+"


def test_commit_ignores_changes_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = checkout(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(module))
    clean = provenance.commit()
    (tmp_path / "README.md").write_text("more")
    assert provenance.commit() == clean


def test_commit_is_not_that_of_a_surrounding_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package installed in a virtual environment inside some project must not claim that project's commit."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == f"mvae {provenance.installed_version()}"
