"""Execution of a plan of terms: on which rows an encoder runs, and which (term, row) pairs a decoder scores.

A model only declares how its posteriors are built (`Experts`, `JointEncoder`); everything else is done here. There are
three kinds of plan (`mvae.models.terms.Terms`):

*The same terms for every row*, on the CPU: they are known beforehand, so that networks run on whole batches and no
shape depends on a value. *Terms by row*, on the CPU: networks run on exactly the rows and pairs that are needed.
*Terms by row on a GPU*: they cannot be inspected without waiting for the device, so networks run on everything and
masks select what counts. The results are the same if no network mixes rows.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvae.errors import QueryError
from mvae.gaussian import Gaussian, map_parameters
from mvae.modality import bank
from mvae.modality.base import Context, Modality
from mvae.models.terms import MANY, Terms

if TYPE_CHECKING:  # the models import this module
    from mvae.models.base import MultimodalVAE as Model
else:
    Model = nn.Module

__all__ = [
    "Experts",
    "JointEncoder",
    "all_given",
    "anything",
    "at_most_one",
    "experts",
    "posteriors",
    "require_posterior",
    "scores",
    "several",
]

Used = Callable[[Any, int], Any]


def anything(number: Any, modalities: int) -> Any:
    """Any subset is given."""
    return number >= 0


def at_most_one(number: Any, modalities: int) -> Any:
    """Nothing or a single modality is given."""
    return number <= 1


def several(number: Any, modalities: int) -> Any:
    """Two modalities or more are given."""
    return number > 1


def all_given(number: Any, modalities: int) -> Any:
    """All the model's modalities are given."""
    return number == modalities


@dataclass(frozen=True)
class Experts:
    """Posteriors made of one expert per modality.

    Args:
        combine: experts ``modalities rows latent`` and a mask of what each term is given → ``terms rows latent``.
        used: for which subsets, as a function of the number of modalities given and of all modalities: `anything`,
            `at_most_one`, `several`, `all_given`, or a custom one at module level that takes numbers and tensors.
        encode: a modality's name and its column → its expert ``rows latent``; None: the modality's own encoder.
    """

    combine: Callable[[Gaussian, Bool[Tensor, "terms #rows modalities"]], Gaussian]
    used: Used = anything
    encode: Callable[[str, Tensor], Gaussian] | None = None

    def posteriors(self, model: Model, x: Mapping[str, Tensor], terms: Terms) -> Gaussian:
        """q(z | X) of the terms it is used for."""
        found = experts(model, x, terms, self.encode)
        here = terms.on_device(found.precision.device)
        if here.alone is None:
            return self.combine(found, here.given)
        # Each single term becomes a row of its own with one expert: cost and memory are linear in the modalities.
        shape = found.precision.shape
        flat = map_parameters(lambda part: part.flatten(0, 1)[None], found)
        own = self.combine(flat, here.alone.T.expand(shape[:2]).reshape(1, -1, 1))
        own = map_parameters(lambda part: part.reshape(shape), own)
        if not len(here.given):
            return own
        return map_parameters(lambda *parts: torch.cat(parts), self.combine(found, here.given), own)


@dataclass(frozen=True)
class JointEncoder:
    """Posteriors made by one network that takes several columns.

    Args:
        encode: columns → ``rows latent``.
        columns: their names.
        used: for which subsets, as in `Experts`.
    """

    encode: Callable[[Mapping[str, Tensor]], Gaussian]
    columns: tuple[str, ...]
    used: Used

    def posteriors(self, model: Model, x: Mapping[str, Tensor], terms: Terms) -> Gaussian | None:
        """Its posterior, shared by all terms, ``1 rows latent``; None if a column is absent: no row needs it then."""
        if any(name not in x for name in self.columns):
            return None

        def encode(*columns: Tensor) -> Gaussian:
            return self.encode(dict(zip(self.columns, columns, strict=True)))

        needed = terms.masked or terms.shared_given is not None or terms.given_anywhere.any(-1)
        return _of_rows(model, [x[name] for name in self.columns], needed, encode)[None]


def posteriors(model: Model, x: Mapping[str, Tensor], terms: Terms) -> Gaussian:
    """q(z | X) of every term and row, ``terms rows latent``: each subset by the encoder that is used for it.

    Raises:
        QueryError: a subset for which the model has no posterior.
    """
    require_posterior(model, terms)
    encoders = model.encoders
    if len(encoders) == 1 and isinstance(encoders[0], Experts) and encoders[0].used is anything:
        return encoders[0].posteriors(model, x, terms)
    given = terms.on_device(model.device).number_given
    rows = len(next(iter(x.values())))
    shape = len(terms.names), rows, model.latent_dim
    result = Gaussian.standard(*shape, device=model.device, dtype=model.dtype)
    for encoder in encoders:
        own = terms.narrowed(encoder.used)
        if not (own.masked or _gives_anything(own)):
            continue
        found = encoder.posteriors(model, x, own)
        if found is not None:
            here = encoder.used(given, len(model.names)) & (given > 0)
            result = map_parameters(partial(torch.where, here), found, result)
    return result


def _gives_anything(terms: Terms) -> bool:
    if terms.shared_given is not None:
        return any(map(any, terms.shared_given))
    return bool(terms.given_anywhere.any())


def require_posterior(model: Model, terms: Terms) -> None:
    """Check that every given subset has an encoder, on the CPU and on a GPU.

    Compiled code and recorded graphs cannot check: `mvae.training.step.Step.plan` has checked all rows' terms before.

    Raises:
        QueryError: a subset for which the model has no posterior.
    """
    alone = terms.alone is not None
    count, uses = len(model.names), [encoder.used for encoder in model.encoders]
    if anything in uses:
        return
    if terms.shared_given is not None:
        given = zip(*terms.shared_given, strict=True)
        numbers = {sum(entry) for entry, _ in zip(given, terms.given, strict=False)} | ({1} if alone else set())
        fine = all(number == 0 or any(used(number, count) for used in uses) for number in numbers)
    elif torch.compiler.is_compiling() or (terms.given.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    else:
        number = terms.number_given
        fine = bool(torch.stack([number == 0, *(used(number, count) for used in uses)]).any(0).all())
    if not fine:
        raise QueryError(model.no_posterior)


def experts(
    model: Model, x: Mapping[str, Tensor], terms: Terms, encode: Callable[..., Gaussian] | None = None
) -> Gaussian:
    """One expert per modality, ``modalities rows latent``: zeros (no information) in rows where no term is given it.

    Each modality is encoded once (by ``encode``, or by its own encoder), and only in the rows where some term is given
    it; modalities whose encoders have the same shape are encoded in one call (`mvae.modality.bank`).
    """
    modalities, needed = model.modalities, terms.given_anywhere.unbind(-1)  # rows each, or 1
    place = {name: i for i, name in enumerate(modalities)}
    found: dict[str, Gaussian] = {}
    if encode is None and model.banked and not terms.masked:
        for own in bank.banks_of_encoders(modalities, x):
            rows = torch.stack([needed[place[name]] for name in own]).to(model.device)
            banked = bank.encode([modalities[name] for name in own], [x[name] for name in own], rows, model.to_expert)
            found |= zip(own, banked.unbind(), strict=True)
    conditional = encode is None and any(modality.encoder_takes_context for modality in modalities.values())
    context = model.context(x) if conditional else None
    for name, i in place.items():
        if name in x and name not in found:
            columns = [x[name]] if context is None else [x[name], context]
            rows = needed[i] if terms.shared_given is None else any(terms.shared_given[i])
            found[name] = _of_rows(model, columns, terms.masked or rows, partial(encode or model.expert, name))
    if len(found) < len(place):
        zeros = _no_information(model, len(next(iter(x.values()))))
        found = {name: found.get(name, zeros) for name in modalities}
    return map_parameters(lambda *parts: torch.stack(parts), *(found[name] for name in modalities))


def _no_information(model: Model, rows: int) -> Gaussian:
    zeros = torch.zeros(rows, model.latent_dim, device=model.device, dtype=model.dtype)
    return Gaussian(zeros, zeros)


def _of_rows(
    model: Model, columns: Sequence[Tensor], needed: bool | Bool[Tensor, "#rows"], encode: Callable[..., Gaussian]
) -> Gaussian:
    """An encoder's output for the rows that need it, ``rows latent``; zeros elsewhere.

    ``needed`` is True or False if this is known of all rows without a look at the mask.
    """
    if needed if isinstance(needed, bool) else bool(needed.all()):
        return encode(*columns)
    nothing = _no_information(model, len(columns[0]))
    if isinstance(needed, bool) or not needed.any():
        return nothing
    row = needed.nonzero().flatten().to(model.device)
    return map_parameters(partial(nothing.shift.index_copy, 0, row), encode(*(column[row] for column in columns)))


def scores(
    modalities: Mapping[str, Modality],
    x: Mapping[str, Tensor],
    z: Float[Tensor, "terms rows latent"],
    terms: Terms,
    context: Context = None,
) -> Float[Tensor, "modalities entries rows"]:
    """log p(x_i | z) of every modality where a term scores it, zero elsewhere.

    A decoder runs on nothing else, unless the plan is applied as masks. Decoders of the same shape run as one call.
    """
    place = {name: i for i, name in enumerate(modalities)}
    found: dict[str, Tensor] = {}
    scored = terms.scored  # entries #rows modalities
    if context is None and not terms.masked:
        for names in bank.banks_of_decoders(modalities, x):
            members, columns = [modalities[name] for name in names], [x[name] for name in names]
            places = [place[name] for name in names]
            own = bank.log_prob(members, columns, z, scored[:, :, places], None if terms.alone is None else places)
            found |= zip(names, own.unbind(), strict=True)
    alone = {name: i for name, i in place.items() if name in x and name not in found}
    if terms.masked:
        for name, i in alone.items():
            own = z if terms.alone is None else torch.cat([z[: len(terms.of)], z[len(terms.of) + i][None]])
            found[name] = torch.where(scored[:, :, i], modalities[name].log_prob(x[name], own, context), 0.0)
    elif terms.shared_of is not None:
        of_term = z.unbind()
        for name in [name for name, i in alone.items() if any(terms.shared_of[i])]:
            i = place[name]
            if terms.alone is None and all(terms.shared_of[i]):
                found[name] = modalities[name].log_prob(x[name], z, context)
                continue
            own = of_term if terms.alone is None else (*of_term[: len(terms.of)], of_term[len(terms.of) + i])
            found[name] = _of_terms(modalities[name], x[name], own, terms.shared_of[i], context)
    else:
        for name, (term, row, own) in zip(alone, _pairs(z, scored, terms, list(alone.values())), strict=True):
            condition = None if context is None else context[row]
            log_prob = modalities[name].log_prob(x[name][row], own, condition) if len(row) else z.new_zeros(0)
            found[name] = z.new_zeros(len(scored), z.shape[1]).index_put((term, row), log_prob.to(z.dtype))
    nothing = z.new_zeros(len(scored), z.shape[1]) if len(found) < len(place) else z
    return torch.stack([found.get(name, nothing) for name in modalities])


def _of_terms(
    modality: Modality, x: Tensor, z: Sequence[Float[Tensor, "rows latent"]], scored: Sequence[bool], context: Context
) -> Float[Tensor, "entries rows"]:
    """log p(x | z) in the scored terms, which all rows share: whole slices, whose shape is known beforehand."""
    runs = [(here, len(list(run))) for here, run in itertools.groupby(scored)]
    chosen = torch.stack([own for own, here in zip(z, scored, strict=True) if here])
    values = modality.log_prob(x, chosen, context)
    parts = iter(values.split([length for here, length in runs if here]))
    return torch.cat([next(parts) if here else values.new_zeros(length, len(x)) for here, length in runs])


def _pairs(
    z: Float[Tensor, "terms rows latent"],
    scored: Bool[Tensor, "entries #rows modalities"],
    terms: Terms,
    modalities: Sequence[int],
) -> list[tuple[Tensor, Tensor, Float[Tensor, "pairs latent"]]]:
    """Entries, rows and latents of the pairs that each of these modalities is scored on.

    The gradient of gathering latents is as large as all latents, so for many modalities they are gathered at once.
    """
    rows = z.shape[1]
    wanted = [scored[:, :, i].expand(-1, rows).nonzero(as_tuple=True) for i in modalities]
    wanted = [(entry.to(z.device), row.to(z.device)) for entry, row in wanted]
    if not wanted or (terms.alone is None and len(wanted) <= MANY):
        return [(term, row, z[term, row]) for term, row in wanted]
    own = len(terms.of)  # the entry of each modality's own single term
    at = [
        torch.where(e == own, e + i, e) if terms.alone is not None else e
        for i, (e, _) in zip(modalities, wanted, strict=True)
    ]
    index = torch.cat([term * rows + row for term, (_, row) in zip(at, wanted, strict=True)])
    latents = z.flatten(0, 1).index_select(0, index).split([len(row) for _, row in wanted])
    return [(*pair, chosen) for pair, chosen in zip(wanted, latents, strict=True)]
