"""Warnings about how modalities are coupled, with numbers and a remedy."""

from collections.abc import Mapping, Sequence

import torch

from mvae.data.table import Table
from mvae.gaussian import MAX_LOG_VARIANCE

__all__ = ["coupling_warning", "pairs_never_seen"]

SATURATED = 0.01  # share of rows × latents above which a saturated expert is reported
SMALL = 0.05  # nats; a gain below this must be clearly significant to count
SHOWN_PAIRS = 3  # the worst ones


def coupling_warning(
    values: Mapping[str, float], names: Sequence[str], cross_from: Sequence[str] | None = ()
) -> str | None:
    """What is wrong with the joint model, in words and numbers, with a remedy; None if no problem is found.

    A modality is reported if no other's ``gain`` is more than a standard error above 0 (more than three, if it is below
    0.05 nats), together with the other modality that predicts it best.

    Args:
        values: what `validate` measured.
        names: the modalities.
        cross_from: the modalities whose posteriors must explain the others; None if the model has no such terms.
    """
    dead = {name: values[f"dead/{name}"] for name in names if f"dead/{name}" in values}
    if dead and len(names) > 1:
        return (
            f"{_experts(list(dead))} dead (KL {_few([f'{kl:.3f}' for kl in dead.values()])} nats): nothing can be "
            f"predicted from {_few(list(dead), ' and ')}. Raise the weight λ, or lower or anneal β, unless it is "
            "unrelated to the others"
        )
    saturated = [name for name in names if values.get(f"saturated/{name}", 0.0) > SATURATED]
    if saturated:
        return (
            f"{_experts(saturated)} saturated: the log-variance is at its lower bound, "
            f"−{MAX_LOG_VARIANCE:.0f}. Check that modality's values for units and outliers, or lower the learning rate"
        )
    silent: dict[str, str] = {}  # a modality that no other predicts → the one that comes nearest
    for target in names:
        sources = [name for name in names if f"gain {name}->{target}" in values]
        gains = {name: values[f"gain {name}->{target}"] for name in sources}
        errors = {name: values[f"gain {name}->{target} s.e."] for name in sources}
        if sources and not any(_is_gain(gains[name], errors[name]) for name in sources):
            silent[target] = max(sources, key=gains.__getitem__)
    if not silent:
        return None
    numbers = []
    worst = sorted(silent, key=lambda target: values[f"gain {silent[target]}->{target}"])[:SHOWN_PAIRS]
    for target, source in ((target, silent[target]) for target in silent if target in worst):
        pair = f"{source}->{target}"
        log_p, gain, error = (values[name] for name in (f"log predictive {pair}", f"gain {pair}", f"gain {pair} s.e."))
        numbers.append(
            f"log p({target} | {source}) = {log_p:.2f} nats, against {log_p - gain:.2f} for {target} alone "
            f"({gain:+.2f} ± {error:.2f})"
        )
    if cross_from is None:
        remedy = "Train longer, with a lower β, or train an MVAE, which has cross terms for this"
    elif cross_from:
        remedy = "Train longer, or on more rows that have both"
    else:
        remedy = f"Add cross terms: MVAE(..., cross_from={list(dict.fromkeys(silent.values()))[:SHOWN_PAIRS]})"
    shown = f"{'; '.join(numbers)}{' (the worst three)' if len(silent) > SHOWN_PAIRS else ''}"
    return f"{_few(list(silent), ' and ')} cannot be predicted from other modalities: {shown}. {remedy}"


def _few(names: Sequence[str], joint: str = ", ") -> str:
    """Up to five names, and how many more there are."""
    return joint.join([*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])])


def _experts(names: Sequence[str]) -> str:
    return f"the expert of {names[0]} is" if len(names) == 1 else f"the experts of {_few(names, ' and ')} are"


def _is_gain(gain: float, error: float) -> bool:
    return gain > error if gain > SMALL else gain > 3 * error


def pairs_never_seen(table: Table, names: Sequence[str] | None = None) -> str | None:
    """Which pairs of modalities no row has together, and what cannot be learned then; None if all pairs occur.

    Args:
        table: the rows to learn from (or to validate on).
        names: the modalities that matter; default all columns.

    >>> first = torch.tensor([True, True, False, False])
    >>> print(pairs_never_seen(Table({"a": torch.zeros(4), "b": torch.zeros(4)}, {"a": first, "b": ~first})))
    no row has both a and b, so their relation cannot be learned: each will be modelled on its own. \
Add rows that have both
    """
    from scipy.sparse.csgraph import connected_components

    names = [name for name in (table.names if names is None else names) if bool(table.has(name).any())]
    has = torch.stack([table.has(name) for name in names]).double() if names else torch.zeros(0, len(table)).double()
    together = (has @ has.T) > 0
    never = (~together).triu(1).nonzero().tolist()
    if not never:
        return None
    group = connected_components(together.cpu().numpy(), directed=False)[1]
    shown = ", ".join(f"{names[i]} and {names[j]}" for i, j in never[:5]) + (", …" if len(never) > 5 else "")
    what = "no row has both " + shown
    if all(group[i] == group[j] for i, j in never):
        return (
            f"{what}: how they are related can be learned only through modalities that occur together with them. "
            "Add rows that have both"
        )
    return f"{what}, so their relation cannot be learned: each will be modelled on its own. Add rows that have both"
