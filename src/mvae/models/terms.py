"""Which ELBO terms a step optimises (Sec. 2.2, Eq. 5).

Each row contributes the ELBO of all its modalities, of each of them alone, and of k random subsets of them. A term is
planned for all rows at once as two masks: *given*, the modalities that the posterior is given, and *of*, the modalities
whose likelihood is scored. For the paper's terms they are the same; other models differ in little else.
"""

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mvae.errors import SettingsError

__all__ = [
    "FULL",
    "MANY",
    "Terms",
    "concatenate",
    "cross",
    "draws_of",
    "explaining",
    "full",
    "mvae_terms",
    "random_subsets",
    "single",
    "singles",
    "term_name",
]

MANY = 32  # with more modalities, single terms are kept without masks, and latents are gathered at once


@dataclass(frozen=True, eq=False)
class Terms:
    """A plan of terms. A rows axis of length 1 means that every row has the same terms.

    ``weight`` is 0 where a row does not have the term. ``likelihood_weight``, if given, replaces the modalities' own λ
    in every term.

    For M modalities, the masks of the M single terms would take M² entries per row. With many modalities, the single
    terms are therefore the last M terms and have no masks: the i-th of them is given the i-th modality, and scores it,
    in the rows of ``alone``. Whatever is stored by modality and term (``likelihood_weight``, log p) then has one more
    entry, the last, for the modality's own single term.

    A plan on the CPU is inspected: networks run on exactly the rows and terms that it needs. A plan on a GPU is not
    (every look would wait for the device), so networks run on everything and masks select what counts. The result is
    the same if no network mixes rows, and every shape is known beforehand.
    """

    names: tuple[str, ...]
    given: Bool[Tensor, "masks #rows modalities"]
    of: Bool[Tensor, "masks #rows modalities"]
    weight: Float[Tensor, "terms #rows"]
    likelihood_weight: Float[Tensor, "entries modalities"] | None = None
    #: What each term is: `FULL`, ``single(i)`` of the i-th modality, or None. Names are for people.
    keys: tuple[Hashable, ...] = ()
    alone: Bool[Tensor, "#rows modalities"] | None = None
    #: How much each row of the batch counts; None: each counts once.
    row_weight: Float[Tensor, "rows"] | None = None
    #: If every row has the same terms: which entries are given each modality, and which score it. Otherwise None.
    shared_given: tuple[tuple[bool, ...], ...] | None = field(default=None, init=False, repr=False)
    shared_of: tuple[tuple[bool, ...], ...] | None = field(default=None, init=False, repr=False)
    _on_device: dict[torch.device, "Terms"] = field(default_factory=dict, init=False, repr=False)
    _narrowed: dict[Callable[..., Any], "Terms"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, mask in (("shared_given", _and(self.given, self.alone)), ("shared_of", self.scored)):
            if mask.shape[1] == 1 and mask.device.type == "cpu":  # inspected once, so that a step need not
                object.__setattr__(self, name, tuple(map(tuple, mask[:, 0].T.tolist())))

    @classmethod
    def symmetric(
        cls, names: Sequence[str], subset: Bool[Tensor, "terms #rows modalities"], keys: Sequence[Hashable] = ()
    ) -> "Terms":
        """Terms that score exactly what they are given (Eq. 2), in the rows where they are given anything."""
        return cls(tuple(names), subset, subset, subset.any(-1).float(), keys=tuple(keys))

    @property
    def masked(self) -> bool:
        """Whether this plan is on a GPU, and applied as masks."""
        return self.given.is_cuda

    @property
    def alike(self) -> bool:
        """Whether all rows have the same terms."""
        return self.of.shape[1] == 1

    @property
    def scored(self) -> Bool[Tensor, "entries #rows modalities"]:
        """Which entries score which modality."""
        return _and(self.of, None if self.alone is None else self.alone & (self.weight[len(self.of) :].T > 0))

    @property
    def given_anywhere(self) -> Bool[Tensor, "#rows modalities"]:
        """The modalities that at least one term is given, in each row."""
        here = self.given.any(0)
        return here if self.alone is None else here | self.alone

    @property
    def number_given(self) -> Shaped[Tensor, "terms #rows 1"]:
        """The number of modalities that each term is given."""
        number = self.given.sum(-1, keepdim=True)
        return number if self.alone is None else torch.cat([number, self.alone.T[..., None].to(number.dtype)])

    def find(self, key: Hashable) -> int | None:
        """The index of the term with this key; None if the plan has no such term."""
        return self.keys.index(key) if key in self.keys else None

    def by_term(self, values: Float[Tensor, "modalities entries rows"]) -> Float[Tensor, "terms rows"]:
        """Values by modality and entry, summed by term."""
        if self.alone is None:
            return values.sum(0)
        return torch.cat([values[:, :-1].sum(0), values[:, -1]])

    def rows(self, index: Tensor | slice) -> "Terms":
        """The terms of some rows."""
        alone = None if self.alone is None else self.alone[index]
        parts = {"given": self.given[:, index], "of": self.of[:, index], "weight": self.weight[:, index]}
        return replace(self, **parts, alone=alone)

    def weighing(self, row_weight: Float[Tensor, "rows"]) -> "Terms":
        """The same plan for a batch with these row weights."""
        other = copy.copy(self)  # not replace(), which would lose what was inspected or copied to a device
        object.__setattr__(other, "row_weight", row_weight)
        return other

    @property
    def weight_of_rows(self) -> Float[Tensor, "terms #rows"]:
        """``weight`` times the row weights."""
        return self.weight if self.row_weight is None else self.weight * self.row_weight

    def mean(self, values: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
        """The mean over the rows of the batch, with their weights."""
        return (values if self.row_weight is None else values * self.row_weight).mean()

    def on_device(self, device: torch.device) -> "Terms":
        """The plan on a device, copied there once; `mvae.models.plan` inspects the one on the CPU."""
        if self.given.device == device:
            return self
        if device not in self._on_device:
            names = ("given", "of", "weight", "likelihood_weight", "alone")
            tensors = {name: getattr(self, name) for name in names}
            moved = {name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()}
            self._on_device[device] = replace(self, **moved)
        there = self._on_device[device]
        return there if self.row_weight is None else there.weighing(self.row_weight.to(device))

    def narrowed(self, used: Callable[[Any, int], Any]) -> "Terms":
        """The same plan, given nothing where ``used(number given, number of modalities)`` is false; cached."""
        if used not in self._narrowed:
            count = self.given.shape[-1]
            here = used(self.given.sum(-1, keepdim=True), count)
            alone = None if self.alone is None else self.alone & used(1, count)
            self._narrowed[used] = replace(self, given=self.given & here, alone=alone)
        return self._narrowed[used]

    def unscored(self) -> "Terms":
        """The same plan with nothing scored and all weights 0: its posteriors serve a penalty only."""
        return replace(self, of=torch.zeros_like(self.of), weight=torch.zeros_like(self.weight))

    def parted(self) -> "tuple[Terms, Terms | None]":
        """The terms with masks, and those without (None if all have masks)."""
        if self.alone is None:
            return self, None

        def some(terms: slice, entries: slice, **masks: Tensor | None) -> Terms:
            weights = None if self.likelihood_weight is None else self.likelihood_weight[entries]
            parts = {"names": self.names[terms], "weight": self.weight[terms], "keys": self.keys[terms]}
            return replace(self, **parts, likelihood_weight=weights, **masks)

        count, none = len(self.of), self.given[:0]
        return some(slice(count), slice(-1), alone=None), some(slice(count, None), slice(-1, None), given=none, of=none)

    def spread(self) -> "Terms":
        """The same plan with masks for every term, even with many modalities."""
        if self.alone is None:
            return self
        each = torch.eye(self.given.shape[-1], dtype=torch.bool, device=self.given.device)[:, None] & self.alone
        of = each & (self.weight[len(self.of) :] > 0)[..., None]
        weights = self.likelihood_weight
        if weights is not None:
            weights = torch.cat([weights[:-1], weights[-1:].expand(len(each), -1)])
        masks = {"given": torch.cat([self.given, each]), "of": torch.cat([self.of, of])}
        return replace(self, **masks, likelihood_weight=weights, alone=None)


def _and(
    masks: Bool[Tensor, "masks #rows modalities"], alone: Tensor | None
) -> Bool[Tensor, "entries #rows modalities"]:
    return masks if alone is None else torch.cat([masks, alone[None]])


FULL = "full"


def single(i: int) -> Hashable:
    """The key of the single term of the i-th modality."""
    return "single", i


def term_name(name: str, modalities: Sequence[str]) -> str:
    """A name for a term that no modality has: modalities' names denote their single terms.

    >>> term_name("full", ["image", "full"])
    'full (term)'
    """
    while name in modalities:
        name += " (term)"
    return name


def cross(present: Bool[Tensor, "rows modalities"], names: Sequence[str], source: str) -> Terms:
    """E_{q(z | x_source)}[Σ_i λ_i log p(x_i | z)] − KL: everything explained from the posterior of one modality.

    Only rows with more modalities than the source have this term: for the others it would be the single term.
    """
    i = names.index(source)
    paired = present[:, i] & (present.sum(-1) > 1)
    given = torch.zeros_like(present)
    given[:, i] = paired
    of = present & paired[:, None]
    name = term_name(f"{source} to all", names)
    return Terms((name,), given[None], of[None], paired[None].float())


def concatenate(*parts: Terms) -> Terms:
    """All terms of the parts, in order; those without masks, which only one part may have, come last.

    Raises:
        SettingsError: only some of the parts have likelihood weights, so that λ would be lost silently.
    """
    if len({part.likelihood_weight is None for part in parts}) > 1:
        raise SettingsError("either all parts of a plan have likelihood weights, or none has")
    pairs = [part.parted() for part in parts]
    parts = (*(first for first, _ in pairs), *(last for _, last in pairs if last is not None))
    weights = [part.likelihood_weight for part in parts if part.likelihood_weight is not None]
    return Terms(
        tuple(name for part in parts for name in part.names),
        torch.cat([part.given for part in parts]),
        torch.cat([part.of for part in parts]),
        torch.cat([part.weight for part in parts]),
        torch.cat(weights) if weights else None,
        tuple(key for part in parts for key in part.keys or [None] * len(part.names)),
        parts[-1].alone,
    )


def explaining(
    names: Sequence[str],
    given: Bool[Tensor, "terms rows modalities"],
    present: Bool[Tensor, "rows modalities"],
    dtype: torch.dtype,
) -> Terms:
    """Terms that each explain all of a row's modalities; a row's terms have equal weights, which add up to 1."""
    has = given.any(-1)
    return Terms(tuple(names), given, present & has[..., None], has.to(dtype) / has.sum(0).clamp(min=1))


def full(present: Bool[Tensor, "rows modalities"], names: Sequence[str] = ()) -> Terms:
    """The first term of Eq. 5: all of a row's modalities. (``names``: the modalities', which the term's must avoid.)"""
    return Terms.symmetric((term_name("full", names),), present[None], (FULL,))


def singles(present: Bool[Tensor, "rows modalities"], names: Sequence[str]) -> Terms:
    """The second part of Eq. 5: each of a row's modalities alone."""
    keys = [single(i) for i in range(len(names))]
    if len(names) > MANY:
        none = present[None][:0]
        return Terms(tuple(names), none, none, present.T.float(), keys=tuple(keys), alone=present)
    each = torch.eye(len(names), dtype=torch.bool)[:, None] & present[None]
    return Terms.symmetric(names, each, keys)


def random_subsets(
    present: Bool[Tensor, "rows modalities"],
    k: int,
    generator: torch.Generator | None = None,
    names: Sequence[str] = (),
) -> Terms:
    """The third part of Eq. 5: k random subsets of each row's modalities, drawn once per step.

    For a row with n modalities, a subset's size is uniform in 2 … n−1, and the subset is uniform among those of that
    size; rows with n < 3 have none. A draw is an order of the modalities and one uniform number: each row takes the
    first `size` of its modalities in that order. This costs O(M) per row; the 2^M subsets are never enumerated.

    Rows with the same modalities share the draw; each row's subset on its own is uniform.

    >>> terms = random_subsets(torch.ones(1, 5, dtype=torch.bool), k=1, generator=torch.Generator().manual_seed(0))
    >>> int(terms.given.sum()) in (2, 3, 4)
    True
    """
    modalities = present.shape[1]
    order = torch.rand(k, modalities, generator=generator).argsort(-1)
    count = present.sum(-1)  # n of each row
    choices = (count - 2).clamp(min=1)
    size = 2 + (torch.rand(k, 1, generator=generator) * choices).long().clamp(max=choices - 1)
    in_order = present[None].expand(k, -1, -1).gather(2, order[:, None].expand(-1, len(present), -1))
    chosen = in_order & (in_order.cumsum(-1) <= size[..., None]) & (count >= 3)[None, :, None]
    subset = torch.zeros_like(chosen).scatter(2, order[:, None].expand_as(chosen), chosen)
    return Terms.symmetric([term_name(f"random {j + 1}", names) for j in range(k)], subset)


def draws_of(k: int, modalities: int) -> int:
    """The number of draws for k random subsets of M modalities: at most 64 per possible subset, by which all occur.

    >>> draws_of(5, 19), draws_of(10**6, 3)
    (5, 192)
    """
    return min(k, 64 * max(0, 2**modalities - modalities - 2))


def _repeats(subset: Bool[Tensor, "terms rows modalities"]) -> Bool[Tensor, "terms rows"]:
    """Which terms repeat the subset of an earlier term of the same row."""
    terms, rows, modalities = subset.shape
    if terms < 2:
        return torch.zeros(terms, rows, dtype=torch.bool)
    numbers = subset.reshape(-1, modalities).unique(dim=0, return_inverse=True)[1].reshape(terms, rows)
    ordered, order = numbers.sort(dim=0, stable=True)
    again = torch.cat([torch.zeros(1, rows, dtype=torch.bool), ordered[1:] == ordered[:-1]])
    return torch.zeros_like(again).scatter(0, order, again)


def mvae_terms(
    present: Bool[Tensor, "rows modalities"],
    names: Sequence[str],
    k: int = 0,
    generator: torch.Generator | None = None,
    distinct: bool = True,
) -> Terms:
    """Eq. 5's terms for rows with these modalities: full, singles, k random subsets.

    Args:
        present: each row's observed modalities (one row stands for all if all are the same).
        names: the modalities.
        k: the number of random subsets per row.
        generator: source of the random subsets.
        distinct: count a repeated subset of a row once: a row with one modality has that modality's term, and no full
            term. ``False`` is Eq. 5 read literally.

    Raises:
        SettingsError: k < 0.

    >>> terms = mvae_terms(torch.tensor([[True, True], [False, True]]), ["image", "label"])
    >>> terms.names, terms.weight.tolist()
    (('full', 'image', 'label'), [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    """
    if k < 0:
        raise SettingsError(f"the number of random subsets k must be ≥ 0, not {k}")
    terms = concatenate(full(present, names), singles(present, names))
    k = draws_of(k, len(names)) if distinct else k
    if k and len(names) > 2:
        terms = concatenate(terms, random_subsets(present, k, generator, names))
    if not distinct:
        return terms
    terms, alone = terms.parted()
    weight = terms.weight.clone()
    # The full term can only repeat a row's one modality; random subsets (of 2 … n−1) can only repeat each other.
    weight[0] *= (present.sum(-1) > 1).float()
    drawn = len(terms.names) - (k if len(names) > 2 else 0)
    weight[drawn:] *= ~_repeats(terms.given[drawn:])
    kept = weight.any(1).nonzero().flatten().tolist()  # no work is done for a modality that no row of the batch has
    counted = (weight > 0)[..., None]  # no network runs for a repeat that does not count
    given, of = (terms.given & counted)[kept], (terms.of & counted)[kept]
    names, keys = tuple(terms.names[i] for i in kept), tuple(terms.keys[i] for i in kept)
    terms = Terms(names, given, of, weight[kept], keys=keys)
    return terms if alone is None else concatenate(terms, alone)
