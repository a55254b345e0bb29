"""Values of a modality as text, for printing and for ``--given label=5``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Codec", "class_names", "present_names", "unknown_words", "yes_or_no"]


@dataclass(frozen=True)
class Codec:
    """How the values of one modality are written as text.

    Args:
        parse: text → value (an event, without the rows axis); raises ValueError with a description of valid text.
        format: value → text; the inverse.
        unknown: text → the parts of it for which `parse` has no number.
    """

    parse: Callable[[str], Tensor]
    format: Callable[[Tensor], str]
    unknown: Callable[[str], list[str]] | None = None


def unknown_words(codecs: Mapping[str, Codec], texts: Iterable[tuple[str, str]]) -> list[str]:
    """The words of these texts, by modality, that are not in its vocabulary, each once; they are read as ``<unk>``."""
    found: list[str] = []
    for name, text in texts:
        codec = codecs.get(name)
        found += codec.unknown(text) if codec is not None and codec.unknown else []
    return list(dict.fromkeys(found))


def class_names(classes: Sequence[str | int]) -> Codec:
    """Class numbers by name; case is ignored unless two names differ only by case.

    >>> label = class_names(["cat", "dog"])
    >>> label.parse("Dog"), label.format(torch.tensor(0))
    (tensor(1), 'cat')
    """
    names = [str(name) for name in classes]
    lowered = [name.lower() for name in names]
    exact = len(set(lowered)) < len(names)

    def parse(text: str) -> Tensor:
        known, wanted = (names, text) if exact else (lowered, text.lower())
        if wanted not in known:
            raise ValueError(f"one of {', '.join(names)}")
        return torch.tensor(known.index(wanted))

    return Codec(parse, lambda value: names[int(value)])


def present_names(names: Sequence[str]) -> Codec:
    """A row of booleans, written as the names of those that are true.

    >>> attributes = present_names(["Male", "Smiling", "Eyeglasses"])
    >>> attributes.format(attributes.parse("smiling, Male"))
    'Male,Smiling'
    >>> attributes.format(attributes.parse("none"))
    'none'
    """
    lowered = [name.lower() for name in names]

    def parse(text: str) -> Tensor:
        value = torch.zeros(len(names), dtype=torch.bool)
        for part in text.split(",") if text.strip().lower() not in ("", "none") else ():
            if part.strip().lower() not in lowered:
                raise ValueError(f"none, or some of {', '.join(names)}, separated by commas")
            value[lowered.index(part.strip().lower())] = True
        return value

    def write(value: Tensor) -> str:
        return ",".join(name for name, here in zip(names, value.flatten().tolist(), strict=True) if here) or "none"

    return Codec(parse, write)


def yes_or_no() -> Codec:
    """One boolean, written as yes or no.

    >>> yes_or_no().parse("yes"), yes_or_no().format(torch.tensor([0.0]))
    (tensor([True]), 'no')
    """

    def parse(text: str) -> Tensor:
        if text.lower() not in ("yes", "no"):
            raise ValueError("yes or no")
        return torch.tensor([text.lower() == "yes"])

    return Codec(parse, lambda value: "yes" if value.item() else "no")
