"""Detection of categories that may be several spellings of one, and of cells that list several values."""

from collections.abc import Sequence

from mvae.errors import abridged

__all__ = ["spelling_notes"]

YES, NO = ("yes", "y", "true", "t", "1", "on"), ("no", "n", "false", "f", "0", "off")
MARKS = (";", "|", ",", "/")  # between the values of a list


def spelling_notes(name: str, categories: Sequence[object]) -> list[str]:
    """Notes on a column's categories: several spellings of yes and no, differences in case, lists of values.

    >>> spelling_notes("smokes", ["yes", "Y", "no", "0"])
    ["smokes: 'yes' and 'Y', 'no' and '0' are categories of their own; where they mean the same, write one of them"]
    >>> spelling_notes("channel", ["TV", "Web", "TV;Web"])
    ["channel: 'TV;Web' is one category, no list; a column of yes and no for each value says more"]
    >>> spelling_notes("city", ["Oslo", "Bergen"])
    []
    """
    words = [str(category) for category in categories]
    truth = all(_folded(word) in (*YES, *NO) for word in words)
    meant: dict[str, list[str]] = {}
    for word in words:
        folded = _folded(word)
        meant.setdefault(str(folded in YES) if truth else folded, []).append(word)
    several = [" and ".join(map(repr, alike)) for alike in meant.values() if len(alike) > 1]
    notes = []
    if several:
        shown = ", ".join(several[:3]) + (" …" if len(several) > 3 else "")
        notes.append(f"{name}: {shown} are categories of their own; where they mean the same, write one of them")
    if (listed := _first_list(words)) is not None:
        notes.append(
            f"{name}: {abridged(listed)} is one category, no list; a column of yes and no for each value says more"
        )
    return notes


def _folded(word: str) -> str:
    """The word without differences that do not change its meaning: case, and white space."""
    return " ".join(word.casefold().split())


def _first_list(words: Sequence[str]) -> str | None:
    """The first word that lists several values, if the words share their values; else None."""
    for mark in MARKS:
        parts = [[part.strip() for part in word.split(mark)] for word in words]
        lists = [word for word, own in zip(words, parts, strict=True) if len(own) > 1]
        values = {value for own in parts for value in own}
        if lists and all(values) and len(values) <= len(words):
            return lists[0]
    return None
