"""What is watched while a model learns: the objective on held-out rows, and whether the modalities meet.

Modalities can be learned side by side without ever meeting: each keeps its code in latent directions of its own,
every ELBO looks healthy, and the label cannot be told from the image. The instruments here show it.

*Coupling* C = Σ_i KL(q(z|x_i) ‖ p(z)) − KL(q(z|X) ‖ p(z)), in nats. With codes in separate directions KLs add up and
C = 0; where one modality's code is contained in the others', C is that code's KL. `coupling/share` divides by the
most it could be, Σ KL(single) − max KL(single): 0 is side by side, 1 is met.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.models.base import MultimodalVAE, evaluating
from mvae.models.terms import concatenate, full, singles

__all__ = ["ACTIVE_VARIANCE", "DEAD_KL", "Accuracy", "prediction_accuracy", "validate"]

ACTIVE_VARIANCE = 0.01  # a latent is active where the posterior mean varies more than this over rows (Burda et al.)
MANY = 8  # modalities from which on only the first one's predictions of the others are measured
PIXELS = 2_500_000  # of images decoded at once: what a chunk of them leaves behind has to fit into memory
DEAD_KL = 0.05  # nats; an expert that says less than this about its modality is dead


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How much of each row was predicted right, out of how much.

    >>> digits = Accuracy(right=torch.tensor([2, 0, 1]), count=torch.tensor([2, 0, 2]))  # the second string is empty
    >>> digits.mean, round(digits.standard_error, 3)
    (0.75, 0.177)
    """

    right: Shaped[Tensor, "rows"]
    count: Shaped[Tensor, "rows"]

    @property
    def mean(self) -> float:
        """The share of all that there was to predict."""
        return float(self.right.double().sum() / self.count.double().sum())

    @property
    def standard_error(self) -> float:
        """Of that share, over rows: what one row has is predicted together (for one label a row, √(p(1 − p)/rows))."""
        count = self.count.double()
        return float((self.right.double() - self.mean * count).square().sum().sqrt() / count.sum())


@torch.no_grad()
def prediction_accuracy(
    model: MultimodalVAE, table: Table, given: Sequence[str], of: str, chunk: int = 1000
) -> dict[str, Accuracy]:
    """How much of ``of`` is predicted right from the mean of q(z | given), by row: Sec. 5.1's p(x2 | x1).

    Returns:
        Under ``""`` the accuracy: of a class 0 or 1, of attributes the share of each row's that are right. Of strings
        it is Table 10's, "decomposing the string into individual digits, at most 4": a symbol is right that was written
        in its place. The paper does not say how strings of different length are averaged. Here all symbols of all rows
        count alike, so that the empty string has no say, and symbols written too many cost nothing. They do under
        ``" whole"``, which only strings have: 1 where exactly the string was written.

    Raises:
        QueryError: an unknown modality, or one whose values are neither classes, nor attributes, nor strings.
    """
    model.require_known([of])
    modality, parts = model.modalities[of], []
    with evaluating(model):
        for start in range(0, len(table), chunk):
            batch = table.take(slice(start, start + chunk))
            x, z = model.prepare(batch), model.posterior(batch, given).mean
            context = model.context(x)
            parts.append(modality.correct(x[of], z, context))
    if not parts[0]:
        raise QueryError(f"{of} is neither of classes, nor of attributes, nor of strings: there is no accuracy of it")
    return {
        name: Accuracy(*(torch.cat(values).cpu() for values in zip(*(part[name] for part in parts), strict=True)))
        for name in parts[0]
    }


@torch.no_grad()
def validate(model: MultimodalVAE, table: Table, chunk: int = 1000) -> dict[str, float]:
    """The validation objective and every instrument, in one pass; the same noise each time.

    Returns:
        `objective`: Σ terms of −ELBO with β = 1, full and singles, the training λ (nats a row; lower is better),
        by which a model is selected; `objective/unweighted`: the same with λ = 1; `reconstruction/NAME`,
        `kl/full`, `kl/NAME`; for rows that have everything: `coupling`, `coupling/share`, and `log p A->B`,
        `accuracy A->B`: modality B predicted from the mean of q(z|A); `active units`, and `active units/NAME`.
        (Of more than 8 modalities only the first predicts others. Of a string log p is the true one's, and accuracy
        that of the one written freely: of its symbols, and `accuracy A->B whole`. A model without a posterior given
        everything has no coupling, and active units of single modalities only.)
    """
    device = model.device
    widest = max(math.prod(column.shape[1:]) for column in table.columns.values())
    chunk = max(1, min(chunk, PIXELS // max(1, widest)))
    generator = torch.Generator(device).manual_seed(0)
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor | int] = {}

    def add(name: str, values: Tensor, count: Tensor | int) -> None:
        sums[name] = sums[name] + values if name in sums else values
        counts[name] = counts[name] + count if name in counts else count

    with evaluating(model):
        for start in range(0, len(table), chunk):
            batch = table.take(slice(start, start + chunk))
            rows = len(batch)
            x = model.prepare(batch)
            terms = model.evaluation_terms(batch.presence(model.names))
            noise = torch.randn(
                len(terms.names), rows, model.latent_dim, generator=generator, device=device, dtype=model.dtype
            )
            result = model.objective(x, terms, noise)
            add("objective", result.loss * rows, rows)
            weight = result.terms.weight
            unweighted = (weight * (result.kl - result.log_prob.sum(0))).sum()
            add("objective/unweighted", unweighted, rows)
            for name, value, count in zip(result.parts[1:], result.sums()[1:], result.counts()[1:], strict=True):
                add(name, value, count)
            _add_instruments(model, batch, x, add)
    values = {name: sums[name] / counts[name] for name in sums if not name.startswith("_")}  # 0/0 for what no row has
    values |= _spread(sums, counts)
    seen = {name: torch.as_tensor(counts.get(name, 1), device=device).double() for name in values}
    both = torch.stack([torch.stack([v.double() for v in part.values()]) for part in (values, seen)]).tolist()
    result = {name: value for name, value, count in zip(values, *both, strict=True) if count}
    measured = ("full", *model.names) if len(model.names) > 1 else ()
    kl = {name: float(sums[f"_kl/{name}"] / counts[f"_kl/{name}"]) for name in measured if f"_kl/{name}" in sums}
    if "full" in kl:
        result |= _coupling(kl)
    return result | {f"kl complete/{name}": value for name, value in kl.items()}


def _add_instruments(model: MultimodalVAE, batch: Table, x: dict[str, Tensor], add) -> None:
    """KLs of complete rows, cross-modal predictions, and moments of the posterior means."""
    has_all = batch.presence(model.names).all(1)
    if not has_all.any():
        return
    if not has_all.all():
        row = has_all.nonzero().flatten().to(model.device)
        x = {name: column[row] for name, column in x.items()}
    everything = torch.ones(1, len(model.names), dtype=torch.bool)
    terms = singles(everything, model.names)
    if model.joint_posterior:
        terms = concatenate(terms, full(everything))
    q, context = model.posteriors(x, terms), model.context(x)
    mean, kl = q.mean, q.kl_to_prior()
    rows = mean.shape[1]
    for t, name in enumerate(terms.names):
        add(f"_kl/{name}", kl[t].sum(), rows)
        add(f"_mean/{name}", mean[t].double().sum(0), rows)
        add(f"_square/{name}", mean[t].double().square().sum(0), rows)
    # M² decodes would soon cost more than the training between two validations.
    sources = model.names if len(model.names) <= MANY else model.names[:1]
    for i, source in enumerate(sources):
        for target, modality in model.modalities.items():
            if target == source:
                continue
            log_prob, params = modality.assess(x[target], mean[i], context)
            add(f"log p {source}->{target}", log_prob.sum(), rows)
            for suffix, (right, count) in modality.correct(x[target], mean[i], context, params).items():
                add(f"accuracy {source}->{target}{suffix}", right.sum(), count.sum())


def _spread(sums: dict[str, Tensor], counts: dict[str, Tensor | int]) -> dict[str, Tensor]:
    """Active units: latents whose posterior mean varies over rows."""
    result = {}
    for key in [key for key in sums if key.startswith("_mean/")]:
        name = key.removeprefix("_mean/")
        mean, square = sums[key] / counts[key], sums[f"_square/{name}"] / counts[key]
        active = ((square - mean.square()) > ACTIVE_VARIANCE).sum()
        result["active units" if name == "full" else f"active units/{name}"] = active
    return result


def _coupling(kl: dict[str, float]) -> dict[str, float]:
    """C and its share of the most it could be, from mean KLs of complete rows."""
    alone = [value for name, value in kl.items() if name != "full"]
    c = sum(alone) - kl["full"]
    most = sum(alone) - max(alone)
    return {"coupling": c, "coupling/share": c / most if most > DEAD_KL else 0.0}


def coupling_warning(values: dict[str, float], names: tuple[str, ...], crossed: bool = False) -> str | None:
    """What is wrong with the joint model, in words, and the remedy; None where the modalities have met.

    ``crossed``: it has been trained on cross terms already, so that they are no advice.
    """
    if "coupling" not in values:
        return None
    dead = [name for name in names if values[f"kl complete/{name}"] < DEAD_KL]
    if dead:
        return (
            f"the expert of {', '.join(dead)} is dead (KL < {DEAD_KL} nats): its posterior is the prior. "
            "Raise its weight λ, or anneal β from 0 (anneal_epochs)"
        )
    if values["coupling/share"] < 0.5:
        remedy = "Train it longer, or on more complete rows"
        if not crossed:
            remedy = "Use the recipe 'coupled', MVAE(..., cross_from=[...]), or train it longer"
        return (
            f"the modalities have not met: coupling C = {values['coupling']:.2f} nats, "
            f"{max(values['coupling/share'], 0):.0%} of what it could be; each is modelled by itself and one "
            f"cannot be told from another. {remedy}"
        )
    return None
