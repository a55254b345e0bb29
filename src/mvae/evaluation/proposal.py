"""Weighted samples of z from p(z | observed), the model's own posterior and not its encoder's approximation.

The first samples come from q(z | observed). Their weights give a Gaussian that fits the posterior better, from which
the next samples come, and so on; each sample is weighted by p(observed, z) over the mixture of all these proposals
(adaptive multiple importance sampling, Cornuet et al. 2012). 400 samples then do the work of some thousands from q
alone. Weights are truncated (Ionides 2008), which keeps a few samples from dominating.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.data.table import Table
from mvae.gaussian import Gaussian
from mvae.modality.columns import ColumnsModality
from mvae.models.base import MultimodalVAE
from mvae.models.mixture import Mixture

__all__ = ["average", "log_joint", "truncated", "weighted_samples"]

STAGES = 4  # of sampling, with equally many samples in each
LEAST = 40  # with fewer samples, all come from q
WIDER = 1.2  # factor on the weighted variance: a proposal should have the heavier tails
DOUBT = 5.0  # the number of effective samples that q's own variance counts as


@torch.no_grad()
def weighted_samples(
    model: MultimodalVAE,
    batch: Table,
    x: Mapping[str, Tensor],
    q: Gaussian | Mixture,
    noise: Float[Tensor, "samples rows latent"],
    generator: torch.Generator | None = None,
    *,
    alike: bool = False,
    decoded: dict[str, list[Tensor]] | None = None,
) -> tuple[Float[Tensor, "samples rows latent"], Float[Tensor, "samples rows"]]:
    """Samples of z and their weights, which sum to 1 in each row.

    Args:
        model: a model in evaluation mode.
        batch: rows, each with something observed.
        x: the same rows, prepared (`MultimodalVAE.prepare`).
        q: their q(z | observed), the first proposal.
        noise: standard normal; a row's samples depend only on its own noise and, for a mixture, the components drawn.
        generator: the generator of these components.
        alike: rows with the same noise draw the same components.
        decoded: collects the likelihood's parameters for the samples, part by part, for each modality of columns that
            all rows have.
    """
    dtype, samples = q.mean.dtype, len(noise)
    stages = STAGES if samples >= LEAST else 1
    parts = noise.to(dtype).tensor_split(stages)
    proposals: list[Gaussian | Mixture] = [q]
    z = q.rsample(parts[0], generator, alike=alike) if isinstance(q, Mixture) else q.rsample(parts[0], generator)
    joint = log_joint(model, batch, x, z, decoded)
    weight = truncated(joint - q.log_prob(z))
    for part in parts[1:]:
        near = _fitted(z, weight.to(dtype), q)
        proposals.append(near)
        more = near.rsample(part)
        z, joint = torch.cat([z, more]), torch.cat([joint, log_joint(model, batch, x, more, decoded)])
        drawn = [math.log(len(own) / len(z)) for own, _ in zip(parts, proposals, strict=False)]
        density = torch.stack([p.log_prob(z) + share for p, share in zip(proposals, drawn, strict=True)])
        weight = truncated(joint - density.logsumexp(0))
    return z.to(model.dtype), weight


def _fitted(
    z: Float[Tensor, "samples rows latent"], weight: Float[Tensor, "samples rows"], q: Gaussian | Mixture
) -> Gaussian:
    """The Gaussian with the weighted samples' moments; with few effective samples, its variance is nearer to q's."""
    mean = average(weight, z)
    variance = average(weight, (z - mean).square())
    trust = 1 / (1 + DOUBT * weight.square().sum(0))[:, None]
    return Gaussian.from_mean_log_var(mean, (WIDER * torch.lerp(q.variance, variance, trust)).log())


def log_joint(
    model: MultimodalVAE,
    batch: Table,
    x: Mapping[str, Tensor],
    z: Float[Tensor, "samples rows latent"],
    decoded: dict[str, list[Tensor]] | None = None,
) -> Float[Tensor, "samples rows"]:
    """log p(observed, z) of prepared columns x; p(z) is N(0, I) or the fitted prior.

    The likelihood's parameters of modalities of columns that all rows have are appended to ``decoded``.
    """
    model.will_use_prior()
    prior = model.prior or Gaussian.standard(model.latent_dim, device=z.device, dtype=z.dtype)
    total, context = prior.log_prob(z), model.context(x)
    for name, modality in model.modalities.items():
        if name in x and (has := batch.has(name)).any():
            rows = has.nonzero().flatten().to(z.device)
            own = None if context is None else context[rows]
            log_p, params = modality.assess(x[name][rows], z[:, rows], own)
            total = total.index_add(1, rows, log_p.to(total.dtype))
            if decoded is not None and isinstance(modality, ColumnsModality) and len(rows) == len(batch):
                assert params is not None
                decoded.setdefault(name, []).append(params)
    return total


def average(
    weight: Float[Tensor, "samples rows"], values: Float[Tensor, "samples rows *event"]
) -> Float[Tensor, "rows *event"]:
    """Each row's weighted mean of its samples, in the values' precision.

    >>> average(torch.tensor([[0.25], [0.75]]), torch.tensor([[[0.0, 4.0]], [[8.0, 4.0]]]))
    tensor([[6., 4.]])
    """
    weight = weight.to(values.dtype).reshape(*weight.shape, *[1] * (values.dim() - 2))
    return (weight * values).sum(0)  # torch.einsum would process each row by itself


def truncated(log_w: Float[Tensor, "samples *rows"]) -> Float[Tensor, "samples *rows"]:
    """Weights that sum to 1, after truncation at √samples times their mean.

    If no sample explains a row (its log p overflows), all weigh the same: then the answer is the encoder's.

    >>> truncated(torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]]))[:, 1]
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    samples = len(log_w)
    log_w = log_w.double().nan_to_num(-torch.inf, neginf=-torch.inf)
    log_w = torch.where(log_w.isneginf().all(0), 0.0, log_w)
    least = log_w.logsumexp(0) - 0.5 * torch.tensor(float(samples)).log()
    return torch.minimum(log_w, least).softmax(0)
