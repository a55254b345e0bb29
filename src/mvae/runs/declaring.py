"""Writes a declaration for a table, as text to edit: what `describe` found, with the reasons as comments."""

import json
from collections.abc import Sequence
from typing import Any

from mvae.data.tables.cells import Missing
from mvae.data.tables.column import ALONE
from mvae.data.tables.describe import Description

__all__ = ["declaration_of"]


def declaration_of(found: Description, sources: Sequence[str], key: str | None = None, missing: Missing = ()) -> str:
    """The TOML that `mvae train` takes: each column with its kind, and the reason for it.

    Columns that are left out or have a problem are listed in comments.

    >>> from mvae.data.tables.describe import describe
    >>> from mvae.data.tables.frames import of_frame
    >>> found = describe(of_frame({"age": [41.5, 73.25, 12.0], "sex": ["f", "m", None]}))
    >>> print(declaration_of(found, ["patients.csv"]))
    # 3 rows of patients.csv. Change kinds, move columns, delete lines; then: mvae train FILE
    <BLANKLINE>
    [data]
    source = "patients.csv"
    # missing = [-999, "?"]  # cells that mean missing, besides empty ones
    <BLANKLINE>
    [modalities.table]
    kind = "columns"
    <BLANKLINE>
    [modalities.table.kinds]
    age = "real"    # numbers with fractions, 12 to 73.25
    sex = "binary"  # two values: f, m; 33% missing
    <BLANKLINE>
    """
    source = _written(sources[0] if len(sources) == 1 else list(sources))
    lines = [
        _comment(f"{found.rows:,} rows of {', '.join(sources)}. ")
        + "Change kinds, move columns, delete lines; then: mvae train FILE",
        "",
        "[data]",
        f"source = {source}",
    ]
    lines += [f"key = {_written(key)}"] if key is not None else []
    lines.append(
        f"missing = {_written(list(missing))}"
        if missing
        else '# missing = [-999, "?"]  # cells that mean missing, besides empty ones'
    )
    named = {column.name: column for column in found.columns}
    for modality, names in found.modalities.items():
        kind = named[names[0]].kind
        lines += ["", f"[modalities.{_key(modality)}]", f'kind = "{kind if kind in ALONE else "columns"}"']
        if kind in ALONE:
            lines.append(f"columns = {_written(list(names))}  {_comment(named[names[0]].reason)}")
            continue
        entries = [f"{_key(name)} = {_written(named[name].kind)}" for name in names]
        width = max(map(len, entries))
        comments = [
            _comment(f"{named[n].reason}{f'; {named[n].missing:.0%} missing' if named[n].missing else ''}")
            for n in names
        ]
        lines += ["", f"[modalities.{_key(modality)}.kinds]"]
        lines += [f"{entry:{width}}  {comment}" for entry, comment in zip(entries, comments, strict=True)]
    used = {name for names in found.modalities.values() for name in names}
    if left := [column for column in found.columns if column.name not in used]:
        lines += ["", "# Left out:"]
        lines += [_comment(f"  {_written(c.name)}: {c.problem or c.reason}") for c in left]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """A comment of TOML: one line, without control characters."""
    return "# " + "".join(sign if sign.isprintable() else " " for sign in text)


def _written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else _written(name)
