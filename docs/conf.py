"""The manual: `sphinx-build -W docs docs/_build` (extra `docs`). Broken links and references are errors."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import TUTORIALS, write_notebooks

project = "mvae"
author = "The mvae contributors"
release = metadata.version("mvae")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "mvae"
html_show_sourcelink = html_copy_source = html_show_copyright = False
default_role = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand in the signature of the source; jaxtyping's names are not Sphinx's
napoleon_attr_annotations = False
autodoc_default_options = {"members": True, "show-inheritance": False}
suppress_warnings = ["myst.header"]  # research pages may begin with a list


def _escaped(_: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: stars and bars mean nothing in them."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``|`.*?`)", line)
            parts[::2] = [
                re.sub(r"(?<!\\)([*|])", r"\\\1", re.sub(r"(\w)_(?=\W|$)", r"\1\\_", part)) for part in parts[::2]
            ]
            lines[i] = "".join(parts)


def _one_error_per_line(_: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Each error of a section "Raises" begins a line, as Napoleon needs it."""
    found, inside = [], False
    for line in lines:
        inside = line == "Raises:" or (inside and line.startswith(" "))
        start = re.compile(r"(?:^ +|(?<=\.) )(?=(?:\w+Error, )*\w+Error: )")
        found += start.sub("\n    ", line).lstrip("\n").split("\n") if inside else [line]
    lines[:] = found


def _outside(_: Sphinx, name: str, content: list[str]) -> None:
    """Links to files outside the manual become their names; `tests/test_documents.py` checks that these exist."""
    up = "../" * (name.count("/") + 1)
    content[0] = re.sub(rf"(?<!!)\[([^\]]+)\]\({re.escape(up)}([^)#]*)(#[^)]*)?\)", r"\1 (`\2`)", content[0])


def _as_notebook(_: Sphinx, name: str, content: list[str]) -> None:
    """A tutorial's page offers itself as a notebook; in a checkout there is none to link to."""
    if f"{name}.md" in TUTORIALS:
        file = name.rpartition("/")[2] + ".ipynb"
        title, _, rest = content[0].partition("\n")
        content[0] = f'{title}\n\n<p><a href="{file}" download>This page as a Jupyter notebook</a></p>\n{rest}'


def _write_notebooks(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write_notebooks(Path(app.outdir))


def _settings(model: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Every key of a declaration with its default and its sentence."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [kind for kind in kinds if hasattr(kind, "model_fields")]
        key = f"{prefix}{name}"
        if inner:
            yield from _settings(inner[0], f"{key}.NAME." if len(kinds) > 2 else f"{key}.")
        elif field.description:
            default = "needed" if field.is_required() else repr(field.default)
            yield key, default, field.description


class Configuration(SphinxDirective):
    """A table of every key of a declaration."""

    def run(self) -> list[nodes.Node]:
        """Read from the classes that check declarations, so that nothing is written twice."""
        from mvae.runs.config import Config

        lines = ["| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{k}` | `{d}` | {text.replace('|', '&#124;')} |" for k, d, text in _settings(Config, "")]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> None:
    """Register what stands above."""
    app.add_directive("configuration", Configuration)
    app.connect("autodoc-process-docstring", _one_error_per_line, priority=400)
    app.connect("autodoc-process-docstring", _escaped, priority=400)
    app.connect("source-read", _outside)
    app.connect("source-read", _as_notebook)
    app.connect("build-finished", _write_notebooks)
