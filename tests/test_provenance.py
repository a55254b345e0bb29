"""Numbers say which code made them, and whether it had been changed."""

import subprocess
from pathlib import Path

import pytest

from mvae import provenance


def checkout(root: Path) -> Path:
    """A git checkout with a package of one module and one subfolder, as this library has it; the path of its module."""
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
def test_a_change_anywhere_in_the_package_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    module = checkout(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(module))
    clean = provenance.commit()
    assert len(clean) >= 7
    assert clean.isalnum()
    (module.parent / changed).write_text("x = 2\n")
    assert provenance.commit() == clean + "+"


def test_a_change_outside_the_package_is_none_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = checkout(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(module))
    clean = provenance.commit()
    (tmp_path / "README.md").write_text("more")
    assert provenance.commit() == clean


def test_the_commit_is_of_this_code_and_not_of_a_checkout_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package installed in a virtual environment inside some project must not claim that project's commit."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == f"mvae {provenance.installed_version()}"
