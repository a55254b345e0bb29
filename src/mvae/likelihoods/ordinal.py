"""Ordered classes: a location from the decoder, and a learned scale and cuts between the classes (McCullagh 1980)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.errors import SettingsError
from mvae.likelihoods.classes import Classes

__all__ = ["Ordinal"]


class Ordinal(Classes):
    """Cumulative logits: P(x ≤ k) = σ((cut_k − η) / s), with η from the decoder.

    The scale s and the K − 1 increasing cuts are learned. The scale is redundant given η and the cuts, but with it
    training takes far fewer steps where the class is nearly certain.

    Args:
        classes: the number of classes K.
        values: the length of the event's last axis; each of its values then has its own scale and cuts. None: all
            values share them.

    Raises:
        SettingsError: fewer than two classes.

    >>> Ordinal(2).log_prob(torch.zeros(1), torch.tensor([1]))  # log ½
    tensor([-0.6931], grad_fn=<WhereBackward0>)
    """

    @checked_arguments()
    def __init__(self, classes: int, values: int | None = None):
        super().__init__()
        if classes < 2:
            raise SettingsError(f"at least two ordered classes are needed, not {classes}")
        self.classes = classes
        start, own = torch.arange(1, classes).float() / classes, () if values is None else (values,)
        self.log_scale = nn.Parameter(torch.zeros(own))
        self.raw_cuts = nn.Parameter(_raw(start.logit()).expand(*own, -1).clone())

    @property
    def cuts(self) -> Tensor:
        """The K − 1 increasing cuts, as the last axis."""
        steps = torch.cat([self.raw_cuts[..., :1], F.softplus(self.raw_cuts[..., 1:])], -1)
        return steps.cumsum(-1)

    def _scaled(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """η and the cuts in units of the scale."""
        sharp = torch.exp(-self.log_scale).to(params.dtype)
        return params * sharp, self.cuts.to(params.dtype) * sharp[..., None]

    @torch.no_grad()
    def start_from(self, counts: Tensor) -> None:
        """Set the cuts from the counts of each class, ``values classes``: with s = 1, η = 0 gives these frequencies."""
        shares = (counts + 0.5) / (counts + 0.5).sum(-1, keepdim=True)
        below = shares.cumsum(-1)[..., :-1].clamp(1e-6, 1 - 1e-6)
        self.raw_cuts.copy_(_raw(below.logit()))

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        """Anything but 0 … K−1."""
        return ~((x >= 0) & (x < self.classes)), f"class numbers 0 to {self.classes - 1}"

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        """log(σ(b) − σ(a)) = log σ(b) + log σ(−a) + log(1 − e^(a−b)), between the class's two cuts a and b."""
        index = x.long()
        params, cuts = self._scaled(params)
        cuts = cuts.expand(*index.shape, self.classes - 1)  # the lookup is shared by all samples of z
        above = cuts.gather(-1, index.clamp(max=self.classes - 2)[..., None]).squeeze(-1)
        below = cuts.gather(-1, (index - 1).clamp(min=0)[..., None]).squeeze(-1)
        first, last = index == 0, index == self.classes - 1
        gap = torch.where(first | last, 1.0, above - below).clamp(min=1e-6)
        upper, lower = above - params, below - params
        between = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
        return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), between))

    def probabilities(self, params: Tensor) -> Tensor:
        """The class probabilities, as a last axis."""
        params, cuts = self._scaled(params)
        below = (cuts - params[..., None]).sigmoid()
        ends = torch.zeros_like(params)[..., None]
        return torch.diff(torch.cat([ends, below, ends + 1], -1), dim=-1).clamp(min=0)

    def mean(self, params: Tensor) -> Tensor:
        """The expected class number."""
        p = self.probabilities(params)
        return p @ torch.arange(self.classes, device=p.device, dtype=p.dtype)

    def mode(self, params: Tensor) -> Tensor:
        """The most probable class of each value."""
        return self.probabilities(params).argmax(-1)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw class numbers: the number of cuts below (η plus a logistic variable)."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        params, cuts = self._scaled(params)
        return (cuts < (params + u.logit())[..., None]).sum(-1)


def _raw(cuts: Tensor) -> Tensor:
    """The raw parameters of given cuts: the first cut, then the inverse softplus of each step."""
    steps = cuts.diff(dim=-1).clamp(min=1e-3)
    return torch.cat([cuts[..., :1], steps + torch.log(-torch.expm1(-steps))], -1)
