"""Which ELBO terms a step optimises (Sec. 2.2, Eq. 5).

Each row contributes the ELBO of all it has, of each single modality it has, and of k random subsets of what it
has. A term is planned for all rows at once as two masks: what the posterior is *given*, and *of* what the
likelihood is scored. For the paper's terms they are the same; other models differ in little else.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvae.errors import SettingsError

__all__ = [
    "CROSS_SHARE",
    "FULL",
    "Recipe",
    "Terms",
    "check_share",
    "concatenate",
    "cross",
    "cross_weight",
    "crossing",
    "draws_of",
    "full",
    "mvae_terms",
    "random_subsets",
    "single",
    "singles",
    "term_name",
]

CROSS_SHARE = 1.0  # of λ, in a cross term: what is scored counts there as much as in a term of its own


@dataclass(frozen=True, eq=False)
class Terms:
    """A plan of terms. A rows axis of length 1 means that every row has the same terms.

    ``weight`` is 0 where a row does not have the term. ``likelihood_weight`` replaces the modalities' own λ
    in every term, where given.

    A plan on the CPU is looked into: networks run on exactly the rows and terms that it asks for. A plan on a GPU
    cannot be (each look would wait for the device), so there networks run on everything and masks pick what counts;
    the result is the same where no network mixes rows, and every shape is known beforehand.
    """

    names: tuple[str, ...]
    given: Bool[Tensor, "terms #rows modalities"]
    of: Bool[Tensor, "terms #rows modalities"]
    weight: Float[Tensor, "terms #rows"]
    likelihood_weight: Float[Tensor, "terms modalities"] | None = None
    #: What each term is: `FULL`, ``single(i)``, ``crossing(i)`` of the i-th modality, or None. Names are for people.
    keys: tuple[Hashable, ...] = ()
    #: Where every row has the same terms: which terms are given each modality, and which score it. None elsewhere.
    shared_given: tuple[tuple[bool, ...], ...] | None = field(default=None, init=False, repr=False)
    shared_of: tuple[tuple[bool, ...], ...] | None = field(default=None, init=False, repr=False)
    _on_device: dict[torch.device, "Terms"] = field(default_factory=dict, init=False, repr=False)
    _narrowed: dict[Callable[..., Any], "Terms"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, mask in (("shared_given", self.given), ("shared_of", self.of)):
            if mask.shape[1] == 1 and mask.device.type == "cpu":  # looked into once, so that a step need not
                object.__setattr__(self, name, tuple(map(tuple, mask[:, 0].T.tolist())))

    @classmethod
    def symmetric(
        cls, names: Sequence[str], subset: Bool[Tensor, "terms #rows modalities"], keys: Sequence[Hashable] = ()
    ) -> "Terms":
        """Terms that score exactly what they are given (Eq. 2), for the rows where that is anything."""
        return cls(tuple(names), subset, subset, subset.any(-1).float(), keys=tuple(keys))

    @property
    def masked(self) -> bool:
        """Is this a plan on a GPU, to be applied as masks?"""
        return self.given.is_cuda

    @property
    def alike(self) -> bool:
        """Has every row the same terms?"""
        return self.of.shape[1] == 1

    def find(self, key: Hashable) -> int | None:
        """The place of the term of this key; None where the plan has none."""
        return self.keys.index(key) if key in self.keys else None

    def rows(self, index: Tensor | slice) -> "Terms":
        """The terms of some rows."""
        return replace(self, given=self.given[:, index], of=self.of[:, index], weight=self.weight[:, index])

    def on_device(self, device: torch.device) -> "Terms":
        """The plan on a device, copied there once; `mvae.models.plan` looks into the one on the CPU."""
        if self.given.device == device:
            return self
        if device not in self._on_device:
            weights = self.likelihood_weight
            self._on_device[device] = replace(
                self,
                given=self.given.to(device),
                of=self.of.to(device),
                weight=self.weight.to(device),
                likelihood_weight=None if weights is None else weights.to(device),
            )
        return self._on_device[device]

    def narrowed(self, used: Callable[[Any, int], Any]) -> "Terms":
        """The same plan, given nothing where ``used(number given, number of modalities)`` is false; made once."""
        if used not in self._narrowed:
            here = used(self.given.sum(-1, keepdim=True), self.given.shape[-1])
            self._narrowed[used] = replace(self, given=self.given & here)
        return self._narrowed[used]


FULL = "full"


def single(i: int) -> Hashable:
    """The key of the single term of the i-th modality."""
    return "single", i


def crossing(i: int) -> Hashable:
    """The key of the cross term from the i-th modality."""
    return "cross", i


def term_name(name: str, modalities: Sequence[str]) -> str:
    """A term's name that is no modality's: these name their single terms.

    >>> term_name("full", ["image", "full"])
    'full (term)'
    """
    while name in modalities:
        name += " (term)"
    return name


@dataclass(frozen=True)
class Recipe:
    """Which cross terms are added to Eq. 5's, and how λ counts in each kind of term then.

    A joint posterior's terms have every λ = 1, as bounds on log p(X). λ counts in full where a modality is alone, and
    as `cross_weight` says in cross terms. Without any ``cross_from`` it is Eq. 5 to the letter: λ in every term.

    Args:
        cross_from: modalities whose posterior is asked to explain everything else in a row.
        share: the share of λ in a cross term that every row has, above 0 and at most 1.

    Raises:
        SettingsError: a share outside its range.

    >>> recipe = Recipe(("image",))
    >>> terms = full(torch.ones(1, 2, dtype=torch.bool))
    >>> terms = recipe.extend(terms, torch.ones(1, 2, dtype=torch.bool), ("image", "label"), torch.tensor([1.0, 50.0]))
    >>> terms.names, terms.likelihood_weight.tolist()
    (('full', 'image to all'), [[1.0, 1.0], [1.0, 50.0]])
    """

    cross_from: tuple[str, ...] = ()
    share: float = CROSS_SHARE

    def __post_init__(self) -> None:
        check_share(self.share)

    def alone(self, own: Float[Tensor, "modalities"]) -> Float[Tensor, "modalities"]:
        """Every λ in the term of a single modality, from the modalities' ``own``."""
        return own

    def joint(self, own: Float[Tensor, "modalities"]) -> Float[Tensor, "modalities"]:
        """Every λ in a term given several modalities that are all scored."""
        return torch.ones_like(own)

    def crossed(self, own: Float[Tensor, "modalities"], rows: Float[Tensor, "rows"]) -> Float[Tensor, "modalities"]:
        """Every λ in a cross term that these rows (1 or 0) of a batch have."""
        return cross_weight(own, rows, self.share)

    def extend(
        self,
        terms: Terms,
        present: Bool[Tensor, "rows modalities"],
        names: Sequence[str],
        own: Float[Tensor, "modalities"],
    ) -> Terms:
        """Eq. 5's terms with their λ, and the cross terms after them."""
        if not self.cross_from:
            return terms
        alone = {single(i) for i in range(len(names))}
        weights = torch.stack([self.alone(own) if key in alone else self.joint(own) for key in terms.keys])
        parts = [replace(terms, likelihood_weight=weights)]
        for source in self.cross_from:
            part = cross(present, names, source)
            weights = self.crossed(own, part.weight[0].to(own))
            parts.append(replace(part, likelihood_weight=weights[None]))
        return concatenate(*parts)


def cross(present: Bool[Tensor, "rows modalities"], names: Sequence[str], source: str) -> Terms:
    """E_{q(z | x_source)}[Σ_i λ_i log p(x_i | z)] − KL: everything explained from the posterior of one modality.

    Only rows with something besides the source have it: for the others it is the single term.
    """
    i = names.index(source)
    paired = present[:, i] & (present.sum(-1) > 1)
    given = torch.zeros_like(present)
    given[:, i] = paired
    of = present & paired[:, None]
    name = term_name(f"{source} to all", names)
    return Terms((name,), given[None], of[None], paired[None].float(), keys=(crossing(i),))


def check_share(share: float) -> None:
    """Raises SettingsError where this can be no share of λ in cross terms."""
    if not 0 < share <= 1:
        raise SettingsError(f"cross_share, a share of λ, must be above 0 and at most 1, not {share}")


def cross_weight(
    own: float | Float[Tensor, "modalities"], rows: Float[Tensor, "rows"], share: float = CROSS_SHARE
) -> Float[Tensor, "..."]:
    """λ in a cross term that these rows of a batch have: max(1, c λ), c = ``share`` over their part of it, at most 1.

    The rarer such rows, the more each counts.

    >>> cross_weight(50.0, torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]), share=0.2)
    tensor(16.6667)
    """
    return (share / rows.mean().clamp(min=share) * own).clamp(min=1)


def concatenate(*parts: Terms) -> Terms:
    """All the terms of the parts, in order.

    Raises:
        SettingsError: likelihood weights are given in some parts and not in others, so that λ would be lost silently.
    """
    weights = [part.likelihood_weight for part in parts]
    if len({weight is None for weight in weights}) > 1:
        raise SettingsError("either all parts of a plan have likelihood weights, or none has")
    return Terms(
        tuple(name for part in parts for name in part.names),
        torch.cat([part.given for part in parts]),
        torch.cat([part.of for part in parts]),
        torch.cat([part.weight for part in parts]),
        None if any(w is None for w in weights) else torch.cat([w for w in weights if w is not None]),
        tuple(key for part in parts for key in part.keys or [None] * len(part.names)),
    )


def full(present: Bool[Tensor, "rows modalities"], names: Sequence[str] = ()) -> Terms:
    """The first term of Eq. 5: everything a row has. (``names``: the modalities', which the term's must not be.)"""
    return Terms.symmetric((term_name("full", names),), present[None], (FULL,))


def singles(present: Bool[Tensor, "rows modalities"], names: Sequence[str]) -> Terms:
    """The second: each modality a row has, alone."""
    each = torch.eye(len(names), dtype=torch.bool)[:, None] & present[None]
    return Terms.symmetric(names, each, [single(i) for i in range(len(names))])


def random_subsets(
    present: Bool[Tensor, "rows modalities"],
    k: int,
    generator: torch.Generator | None = None,
    names: Sequence[str] = (),
) -> Terms:
    """The third: k random subsets of what each row has, drawn once a step.

    Of a row's n modalities, a subset's size is uniform in 2 … n−1 and the subset uniform among those of that
    size; rows with n < 3 have none. A draw is an order of the modalities and one uniform number: each row takes
    the first `size` of those it has, in that order. That is O(M) a row, and nothing enumerates the 2^M subsets.

    Rows that have the same modalities share the draw; each row's subset is uniform by itself.

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
    """How many draws k random subsets of M modalities need: with 64 for each there is, all come up, and more add none.

    >>> draws_of(5, 19), draws_of(10**6, 3)
    (5, 192)
    """
    return min(k, 64 * max(0, 2**modalities - modalities - 2))


def _repeats(subset: Bool[Tensor, "terms rows modalities"]) -> Bool[Tensor, "terms rows"]:
    """Which terms of a row have the subset of an earlier one of it."""
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
        present: what each row has (one row stands for all where all are alike).
        names: the modalities.
        k: random subsets a row.
        generator: source of the random subsets.
        distinct: count a subset once where it comes up twice: a row with one modality has that modality's term, and
            no full one. ``False`` is Eq. 5 read literally.

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
    weight = terms.weight.clone()
    # The full term can only repeat a row's one modality; random subsets (of 2 … n−1) can only repeat each other.
    weight[0] *= (present.sum(-1) > 1).float()
    weight[1 + len(names) :] *= ~_repeats(terms.given[1 + len(names) :])
    keep = weight.any(1)
    if not keep.all():  # e.g. a batch in which nobody has the modality: no work for it
        index = keep.nonzero().flatten()
        kept = tuple(terms.names[i] for i in index.tolist())
        keys = tuple(terms.keys[i] for i in index.tolist())
        terms = Terms(kept, terms.given[index], terms.of[index], weight[index], keys=keys)
        weight = terms.weight
    counted = (weight > 0)[..., None]  # no network runs for a repeat that does not count
    return replace(terms, given=terms.given & counted, of=terms.of & counted, weight=weight)
