"""A page of the manual as a notebook: `python docs/notebooks.py FOLDER` writes those of the tutorials (extra `docs`).

Blocks of Python are cells, and so are those of the shell. Pictures go into the notebook; links to other pages of the
manual become their text, as they lead nowhere from there.
"""

import base64
import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat

TUTORIALS = ("tutorials/table.md", "tutorials/mnist.md")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^):]+\.png)\)")
HEAD = "---\njupyter:\n  kernelspec: {name: python3, display_name: Python 3, language: python}\n---\n\n"
LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)[^)]+\)")


def notebook(path: Path) -> Any:
    """The notebook of a page."""
    text = re.sub(r"^```sh$", "```bash", path.read_text(encoding="utf-8"), flags=re.M)
    found = jupytext.reads(HEAD + text, fmt="md")
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"^%%bash$", "%%bash -e", cell.source, flags=re.M)  # the first failure ends it
            continue
        files = {Path(name).name: path.parent / name for _, name in PICTURE.findall(cell.source)}
        shown = PICTURE.sub(lambda found: f"![{found[1]}](attachment:{Path(found[2]).name})", cell.source)
        cell.source = LINK.sub(r"\1", shown)
        if files:
            cell.attachments = {
                name: {"image/png": base64.b64encode(file.read_bytes()).decode()} for name, file in files.items()
            }
    return found


def write_notebooks(folder: Path) -> list[Path]:
    """Those of the tutorials, each where its page is."""
    docs = Path(__file__).parent
    written = []
    for page in TUTORIALS:
        file = (folder / page).with_suffix(".ipynb")
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(docs / page), file)
        written.append(file)
    return written


if __name__ == "__main__":
    for written in write_notebooks(Path(sys.argv[1])):
        print(written)
