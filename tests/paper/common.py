"""Where a test's items are recorded and trained, and that nothing is made twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mvae.paper.item import Paths

Rows = list[dict[str, Any]]


def paths(folder: Path) -> Paths:
    return Paths(folder / "results", folder / "runs", device="cpu", callbacks=[])


def assert_made_once(make: Callable[[], Rows], rows: Rows, folder: Path) -> None:
    """Making the item again returns the same rows and writes no file."""
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert make() == rows
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == before


def assert_picture(path: Path) -> None:
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
