"""Documents: links lead somewhere, and lines of prose fit in a terminal."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")})
SOURCES = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
WIDEST = 160


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    """The text with fenced and indented blocks emptied; lines keep their numbers."""
    text = re.sub(r"^(```|~~~).*?^\1", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    return re.sub(r"^ {4,}.*$", "", text, flags=re.M)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them.

    Words are in lower case, spaces are hyphens, and punctuation is dropped.
    """
    headings = re.findall(r"^#+ (.+)$", without_code(text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text)))


def test_anchors_and_links_ignore_code() -> None:
    text = "# At the paper's budget\n```sh\n# no heading\n[no](link.md)\n```\n`[no](link.md)` [a](b.md#c) ![d](e.png)\n"
    assert anchors(text) == {"at-the-papers-budget"}
    assert links(text) == ["b.md#c", "e.png"]


def test_documents_are_found() -> None:
    found = {relative(path) for path in DOCUMENTS}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/design.md", "benchmarks/README.md"} <= found


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_relative_links_exist(path: Path) -> None:
    broken = []
    for link in links(path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_document_contains_no_local_paths(path: Path) -> None:
    assert not re.findall(r"(?<![\w./])/(?:work|tmp|home|root|Users|mnt)/[^\s`)]*|\b[A-Z]:\\\S*", path.read_text())


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_prose_lines_are_not_too_wide(path: Path) -> None:
    lines = enumerate(without_code(path.read_text()).splitlines(), 1)
    assert not {number: len(line) for number, line in lines if len(line) > WIDEST and not line.startswith("|")}


def test_documents_named_in_code_exist() -> None:
    named = {name for path in SOURCES for name in re.findall(r"\b(?:docs|benchmarks)/[\w/-]+\.md\b", path.read_text())}
    assert named
    assert not {name for name in named if not (ROOT / name).exists()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_commands_have_only_options_that_exist(path: Path) -> None:
    cli, unknown = importlib.import_module("mvae.cli.main").cli, []
    text = path.read_text().partition("## Older commands")[0]
    for name, rest in re.findall(r"\bmvae ([a-z-]+) ((?:\\\n|[^`\n\"#|])*)", text):
        command = cli.get_command(None, name) if name in cli.list_commands(None) else None
        known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts} | {"--help"}
        known |= {option for parameter in getattr(command, "params", ()) for option in parameter.secondary_opts}
        unknown += [(name, option) for option in re.findall(r"--[a-z-]+", rest) if command and option not in known]
    assert not unknown


def test_every_picture_in_docs_is_shown() -> None:
    shown = {(path.parent / link).resolve() for path in DOCUMENTS for link in links(path.read_text())}
    assert not {relative(path) for path in ROOT.glob("docs/**/*.png") if path not in shown}
