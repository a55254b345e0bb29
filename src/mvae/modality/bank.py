"""Banks: modalities whose networks have the same shape, run as one batched call.

Eighteen attributes with a perceptron each take eighteen small matrix products per layer, or one batched product. A yes
or no is encoded for these two values only, not for every row, and latents are gathered once for all. The modalities
keep their own networks and parameters (checkpoints, optimisers and other models are unaffected); a bank stacks them for
each call. Values, gradients and running statistics are the same as when the networks run one after the other.

**Batch norm.** A network's batch is exactly the rows that need it: for an encoder, the rows in which some term is given
its modality; for a decoder, the (term, row) pairs that score it, over all terms. Anything else that a bank computes has
weight zero in the moments, and a value that several rows share counts once for each of them. A batch of one row has no
variance: it is normalised by the running statistics, which stay unchanged (as in `mvae.modality.base.run`).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from mvae.gaussian import Gaussian
from mvae.likelihoods import Bernoulli, Categorical
from mvae.modality.base import Modality, run
from mvae.modality.modes import evaluating
from mvae.networks.mlp import flat

__all__ = ["banks_of_decoders", "banks_of_encoders", "encode", "log_prob", "run_bank"]

ELEMENTWISE = (nn.SiLU, nn.ReLU, nn.GELU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Identity)

CACHED = 2**16  # values of a layer, over all networks of one call, that fit into a CPU's cache


def banks_of_encoders(modalities: Mapping[str, Modality], x: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """The modalities with a column whose encoders can run together: groups of two or more names.

    >>> from mvae.networks.mlp import mlp
    >>> m = {n: mvae.Modality(mlp(1, 4), mlp(2, 1), mvae.likelihoods.Bernoulli()) for n in ("tall", "old", "loud")}
    >>> banks_of_encoders(m, {n: torch.zeros(5, 1) for n in m})
    [('tall', 'old', 'loud')]
    """
    alike = {
        n: m
        for n, m in modalities.items()
        if n in x and _plain(m) and m.view is None and not (m.training and m.augment)
    }
    return _groups({n: (m.encoder, x[n].shape) for n, m in alike.items()})


def banks_of_decoders(modalities: Mapping[str, Modality], x: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """The same for decoders; their likelihoods must also be of the same family, and have no learned parameters."""
    return _groups(
        {
            n: (m.decoder, (x[n].shape, type(m.likelihood)))
            for n, m in modalities.items()
            if n in x and _plain(m) and type(m.likelihood) in (Bernoulli, Categorical)
        }
    )


def _groups(networks: Mapping[str, tuple[nn.Module, Hashable]]) -> list[tuple[str, ...]]:
    alike: dict[Hashable, list[str]] = {}
    for name, (_, rest) in networks.items():
        alike.setdefault(rest, []).append(name)
    groups: dict[Hashable, list[str]] = {}
    for rest, names in alike.items():
        for name in names if len(names) > 1 else ():  # a lone image or label: no need to inspect its network
            shape = _shape(networks[name][0])
            if shape is not None:
                groups.setdefault((shape, rest), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _plain(modality: Modality) -> bool:
    return type(modality) is Modality  # a subclass may do anything


def _shape(network: nn.Module) -> Hashable:
    """A key that two networks must share to run together; None if the network is not a chain of known layers."""
    layers = _layers(network)
    keys = [None if layers is None else _layer_key(layer) for layer in layers or [network]]
    return None if None in keys else tuple(keys)


def _layers(network: nn.Module) -> list[nn.Module] | None:
    """The layers of a chain, in order; None if something else might happen between them."""
    if network._forward_hooks or network._forward_pre_hooks:
        return None
    if type(network).forward is not nn.Sequential.forward:
        return [network]
    chain: list[nn.Module] = []
    for part in network.children():
        layers = _layers(part)
        if layers is None:
            return None
        chain += layers
    return chain


def _layer_key(layer: nn.Module) -> Hashable:
    if type(layer) is nn.Linear:
        return "linear", layer.in_features, layer.out_features, layer.bias is None, layer.weight.dtype
    if type(layer) is nn.BatchNorm1d and layer.running_mean is not None and layer.momentum is not None:
        return "batch norm", layer.num_features, layer.eps, layer.momentum, layer.affine, layer.training
    if type(layer) in ELEMENTWISE:
        return repr(layer)
    return "flatten" if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1) else None


def run_bank(
    networks: Sequence[nn.Module], x: Float[Tensor, "members rows inputs"], weight: Float[Tensor, "members rows"]
) -> Float[Tensor, "members rows outputs"]:
    """Run each network on its own rows. ``weight``: how many rows of a network's batch each row stands for (0: none).

    A GPU runs all networks at once. A CPU runs as many as have their activations in its cache: with more, every layer
    would go through main memory, which is slower than running one network after the other.
    """
    if x.is_cuda:
        return _at_once(networks, x, weight)
    widest = max((p.shape[0] for p in networks[0].parameters()), default=1)
    size = max(1, CACHED // (widest * x.shape[1]))
    parts = zip(range(0, len(networks), size), x.split(size), weight.split(size), strict=True)
    return torch.cat([_at_once(networks[first : first + len(own)], own, times) for first, own, times in parts])


def _at_once(networks: Sequence[nn.Module], x: Tensor, weight: Tensor) -> Tensor:
    if len(networks) == 1 and not x.is_cuda and weight.max() <= 1:  # no row stands for several: PyTorch's own layers
        return _alone(networks[0], x[0], weight[0] > 0)[None]
    for layers in zip(*(_layers(network) or [] for network in networks), strict=True):
        first = layers[0]
        if isinstance(first, nn.Linear):
            matrix = _stacked(layers, "weight").mT
            x = torch.bmm(x, matrix) if first.bias is None else torch.baddbmm(_stacked(layers, "bias"), x, matrix)
        elif isinstance(first, nn.BatchNorm1d):
            x = _normalised(layers, x, weight)
        elif not isinstance(first, nn.Flatten):  # rows are flat already
            x = first(x)
    return x


def _alone(network: nn.Module, x: Float[Tensor, "rows inputs"], here: Bool[Tensor, "rows"]) -> Tensor:
    """One network on the rows that are here; zeros elsewhere."""
    if here.all():
        return run(network, x)
    row = here.nonzero().flatten()
    with evaluating(network) if not len(row) else nullcontext():  # no rows: only the shape is needed
        some = run(network, x[row])
    return some.new_zeros(len(x), some.shape[1]).index_copy(0, row, some)


def _stacked(layers: Sequence[nn.Module], name: str) -> Tensor:
    """One parameter of all layers, stacked; vectors as ``members 1 features``."""
    values = torch.stack([getattr(layer, name) for layer in layers])
    return values[:, None] if values.dim() == 2 else values


def _normalised(
    norms: Sequence[nn.Module], x: Float[Tensor, "members rows features"], weight: Float[Tensor, "members rows"]
) -> Float[Tensor, "members rows features"]:
    """Batch norm with weighted moments; running statistics are updated as by `torch.nn.BatchNorm1d`."""
    first = norms[0]
    assert isinstance(first, nn.BatchNorm1d)
    assert first.momentum is not None
    mean, variance = _stacked(norms, "running_mean"), _stacked(norms, "running_var")
    if first.training:
        rows = weight.sum(1)[:, None, None]
        share = (weight[:, None] / rows.clamp(min=1)).to(x.dtype)  # members 1 rows
        own_mean = torch.bmm(share, x)
        own_variance = torch.bmm(share, (x - own_mean).square())
        several = rows > 1
        with torch.no_grad():
            step = several.to(x.dtype) * first.momentum
            unbiased = own_variance * (rows / (rows - 1).clamp(min=1))
            after = {"running_mean": mean.lerp(own_mean, step), "running_var": variance.lerp(unbiased, step)}
            for i, norm in enumerate(norms):
                for name, values in after.items():
                    getattr(norm, name).copy_(values[i, 0])
                cast("Tensor", norm.num_batches_tracked).add_(several[i, 0, 0])
        mean, variance = torch.where(several, own_mean, mean), torch.where(several, own_variance, variance)
    scale = torch.rsqrt(variance + first.eps)
    if first.affine:
        return torch.addcmul(_stacked(norms, "bias"), x - mean, scale * _stacked(norms, "weight"))
    return (x - mean) * scale


def encode(
    members: Sequence[Modality],
    x: Sequence[Shaped[Tensor, "rows *event"]],
    needed: Bool[Tensor, "members #rows"],
    to_expert: Callable[[Tensor, Tensor], Gaussian],
) -> Gaussian:
    """Every member's experts, ``members rows latent``: zeros (no knowledge) in rows that are not needed.

    Args:
        members: modalities with encoders of one shape.
        x: a column each.
        needed: the rows in which some term is given the member, on the columns' device.
        to_expert: an encoder's mean and raw log-variance as the model's expert.
    """
    networks = [member.encoder for member in members]
    stacked = torch.stack([flat(column) for column in x])
    needed = needed.expand(stacked.shape[:2])
    stacked = torch.where(needed[..., None], stacked, 0.0)  # missing cells hold arbitrary values
    values = _two_values(stacked)
    if values is None:
        expert = to_expert(*run_bank(networks, stacked, needed.to(stacked.dtype)).chunk(2, dim=-1))
    else:  # yes or no: each is encoded once, and every row takes its value's expert
        ones = (stacked[..., 0] * needed).sum(1)
        weight = torch.stack([needed.sum(1) - ones, ones], dim=1)
        both = to_expert(*run_bank(networks, values.expand(len(members), 2, 1), weight).chunk(2, dim=-1))
        is_one = stacked > 0
        expert = Gaussian(
            torch.where(is_one, both.precision[:, 1:], both.precision[:, :1]),
            torch.where(is_one, both.shift[:, 1:], both.shift[:, :1]),
        )
    here = needed[..., None]
    return Gaussian(torch.where(here, expert.precision, 0.0), torch.where(here, expert.shift, 0.0))


def _two_values(x: Float[Tensor, "members rows features"]) -> Float[Tensor, "1 2 1"] | None:
    """0 and 1 if no other values occur, else None (also on a GPU, where checking would wait for the device)."""
    if x.shape[2] > 1 or x.shape[1] < 3 or x.is_cuda or not ((x == 0) | (x == 1)).all():
        return None
    return x.new_tensor([[[0.0], [1.0]]])


def log_prob(
    members: Sequence[Modality],
    x: Sequence[Shaped[Tensor, "rows *event"]],
    z: Float[Tensor, "terms rows latent"],
    of: Bool[Tensor, "entries #rows members"],
    own: Sequence[int] | None = None,
) -> Float[Tensor, "members entries rows"]:
    """log p(x | z) of every member where ``of`` (on the CPU) is true, zero elsewhere.

    The entries are the terms. With ``own`` (a number for each member), the last entry stands for the member's own term:
    the term ``own`` places after that entry's.

    Each decoder runs on its own (term, row) pairs; shorter lists of pairs are padded with pairs of weight zero.
    """
    terms, rows = len(of), z.shape[1]
    found = z.new_zeros(len(members), terms * rows)
    wanted = of.expand(-1, rows, -1).permute(2, 0, 1).reshape(len(members), -1)
    count = wanted.sum(1)
    if not count.any():
        return found.unflatten(1, (terms, rows))
    member, pair = wanted.nonzero(as_tuple=True)
    place = torch.arange(len(pair)) - (count.cumsum(0) - count)[member]  # among the member's own pairs
    pairs = torch.zeros(len(members), int(count.max()), dtype=torch.long)
    pairs[member, place] = pair
    real = (torch.arange(pairs.shape[1]) < count[:, None]).to(z.device)
    at = pairs  # in z
    if own is not None:
        at = torch.where(pairs >= (terms - 1) * rows, pairs + torch.tensor(own)[:, None] * rows, pairs)
    member, place, pair, pairs, at = (index.to(z.device) for index in (member, place, pair, pairs, at))
    first = members[0]
    chosen = z.flatten(0, 1).index_select(0, at.flatten()).unflatten(0, pairs.shape).to(first.dtype)
    params = run_bank([m.decoder for m in members], chosen, real.to(first.dtype)).flatten(0, 1)
    params = params.to(torch.promote_types(params.dtype, torch.float32))
    number = torch.arange(len(members), device=z.device)[:, None]
    targets = torch.stack(list(x))[number, pairs % rows].flatten(0, 1)  # padding may refer to a missing cell
    event = targets.shape[1:]
    targets = torch.where(real.reshape(-1, *[1] * len(event)), targets, torch.zeros_like(targets))
    likelihood = first.likelihood
    values = likelihood.log_prob(likelihood.arrange(params, targets.shape[:1], event), targets)
    values = values.to(z.dtype).unflatten(0, pairs.shape)[member, place]
    return found.index_put((member, pair), values).unflatten(1, (terms, rows))
