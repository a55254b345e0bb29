"""Several files as one table, joined by a key: the column that names a row."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mvae.data.tables.frames import Frames, of_frame, pandas
from mvae.errors import DataError

__all__ = ["joined"]

_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")  # whole numbers are written so if one is missing


def joined(parts: Mapping[str, Frames], key: str | None) -> Frames:
    """Join files by a key, in memory (an outer join): if a file does not have a row, its columns are missing there.

    The rows are in the order of the first file, followed by new rows of later files. Keys are compared as text; whole
    numbers are equal in all types.

    Raises:
        DataError: no key; a file without it; a key that is empty or names two rows of a file; a column in two files.

    >>> from mvae.data.tables.frames import of_frame
    >>> labs, scans = of_frame({"id": [1, 2], "hb": [9.5, 8.0]}), of_frame({"id": ["2", "3"], "size": [4, 5]})
    >>> joined({"labs": labs, "scans": scans}, "id").whole()["hb"].tolist()
    [9.5, 8.0, nan]
    """
    if key is None:
        raise DataError(
            "several files are joined by a column that all of them have and that names a row: say which, "
            'with --key or in the declaration, [data] key = "id"'
        )
    found: Any = None
    groups: dict[str, tuple[str, ...]] = {}
    notes = [note for part in parts.values() for note in part.notes]
    for name, part in parts.items():
        frame = _by_key(part, key)
        groups[name] = tuple(column for column in part.names if column != key)
        if found is None:
            found = frame
            continue
        if shared := [column for column in groups[name] if column in found.columns]:
            raise DataError(f"{part.where} has a column {shared[0]!r}, and so has an earlier file: rename one")
        order = list(dict.fromkeys([*found.index, *frame.index]))
        if not found.index.isin(frame.index).any():
            notes.append(f"no row of {part.where} has a key {key!r} that an earlier file has")
        if alike := _alike(found.index, frame.index):
            notes.append(
                f"{part.where}: its key {alike[1]!r} differs from {alike[0]!r} of an earlier file ({alike[2]:,} such "
                "keys): write both the same way if they name one row"
            )
        keys = found[key].reindex(order)
        compared = pandas().Series(order, index=order, dtype=object, name=key)
        if found[key].dtype != frame[key].dtype:  # text and numbers
            keys = compared
        keys = keys.where(keys.notna(), compared if part.text else frame[key].reindex(order))
        both = [found.drop(columns=key).reindex(order), frame.drop(columns=key).reindex(order)]
        found = pandas().concat([keys, *both], axis=1)
    where, text = " and ".join(part.where for part in parts.values()), all(part.text for part in parts.values())
    table, first = of_frame(found.reset_index(drop=True), where), next(iter(parts.values()))
    return replace(
        first, where=where, names=table.names, read=table.read, groups=groups, text=text, key=key, notes=tuple(notes)
    )


def _alike(before: Any, now: Any) -> tuple[str, str, int] | None:
    """An example of two keys that differ only in case or leading zeros, as 007 and 7, and the number of such pairs."""
    pairs = (before, now), (now, before)
    known, new = ({_bare(key): key for key in one.difference(other, sort=False)} for one, other in pairs)
    both = [bare for bare in new if bare in known]
    return (known[both[0]], new[both[0]], len(both)) if both else None


def _bare(key: str) -> str:
    return key.casefold().lstrip("0") or "0"


def _by_key(part: Frames, key: str) -> Any:
    """The frame indexed by its keys as text."""
    frame = part.keyed(key).whole()
    keys = frame[key].map(_key_text, na_action="ignore")
    empty = (keys.isna() | (keys == "")).to_numpy(bool)
    if empty.any():
        raise DataError(f"{part.where}, row {int(empty.argmax())}: its key {key!r} is empty: give each row a key")
    twice = keys.duplicated(keep=False).to_numpy(bool)
    if twice.any():
        value = keys[twice].iloc[0]
        rows = (keys == value).to_numpy(bool).nonzero()[0].tolist()
        raise DataError(
            f"{part.where}: the key {value!r} names {len(rows)} rows ({', '.join(map(str, rows[:5]))}"
            f"{', …' if len(rows) > 5 else ''}): keep one, or give each its own key"
        )
    return frame.set_axis(pandas().Index(keys, dtype=object), axis=0)


def _key_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _WHOLE.sub(r"\1", str(value).strip())
