"""A normalising flow as prior of the latents: zuko's coupling layers, on standardised latents."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.errors import require_extra

__all__ = ["FlowPrior", "train_flow"]

LAYERS, HIDDEN = 4, (256, 256)
BATCH, RATE = 256, 1e-3
HELD = 10  # every tenth row is held out to select the best epoch


class FlowPrior:
    """z = m + s·f(ε), with f a chain of affine coupling layers (Dinh et al. 2017): sampling is as fast as scoring.

    Args:
        latent: the number of latents D.
        offset: m.
        scale: s.

    Raises:
        MissingDependencyError: zuko is not installed.
    """

    def __init__(self, latent: int, offset: Float[Tensor, "latent"], scale: Float[Tensor, "latent"]):
        flows = require_extra("zuko.flows", "flows", "flows as priors")
        flow: nn.Module = flows.MAF(latent, transforms=LAYERS, hidden_features=HIDDEN, passes=2)
        self.flow = flow.to(offset)
        self.offset, self.scale = offset, scale

    @property
    def mean(self) -> Float[Tensor, "1 latent"]:
        """m, the mean of the points it was fitted to."""
        return self.offset[None]

    @torch.no_grad()
    def rsample(
        self, noise: Float[Tensor, "*lead latent"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*lead latent"]:
        """m + s·f(noise); no other random numbers are drawn."""
        self._to(noise)
        return self.offset + self.scale * self.flow().transform.inv(noise)

    @torch.no_grad()
    def log_prob(self, z: Float[Tensor, "*lead latent"]) -> Float[Tensor, "*lead"]:
        """log p(z) in nats."""
        self._to(z)
        return self.flow().log_prob((z - self.offset) / self.scale) - self.scale.log().sum()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The flow's weights, m and s."""
        own = {"offset": self.offset, "scale": self.scale}
        tensors = {f"flow.{name}": value for name, value in self.flow.state_dict().items()} | own
        return {name: value.detach().cpu() for name, value in tensors.items()}, {"kind": "flow"}

    def _to(self, like: Tensor) -> None:
        if (self.offset.device, self.offset.dtype) != (like.device, like.dtype):
            self.flow.to(like.device, like.dtype)
            self.offset, self.scale = self.offset.to(like), self.scale.to(like)


def train_flow(
    points: Float[Tensor, "rows latent"], spread: Float[Tensor, "rows latent"], epochs: int, seed: int
) -> FlowPrior:
    """Fit a flow by maximum likelihood to N(points, spread²) of all rows together, with fresh noise in each epoch.

    A tenth of the rows is held out, and the weights of the best epoch on these are kept.

    Raises:
        MissingDependencyError: zuko is not installed.
    """
    scale = (points.var(0) + spread.square().mean(0)).sqrt().clamp(min=1e-6)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = FlowPrior(points.shape[1], points.mean(0), scale)
    held = torch.arange(len(points)) % HELD == 0
    optimizer = torch.optim.Adam(prior.flow.parameters(), RATE)
    fixed = _drawn(points[held], spread[held], torch.Generator().manual_seed(seed + 1))
    best, weights = -torch.inf, {}
    rows = (~held).nonzero().flatten()
    for _ in range(epochs):
        for some in rows[torch.randperm(len(rows), generator=generator)].split(BATCH):
            z = _drawn(points[some], spread[some], generator)
            loss = -prior.flow().log_prob((z - prior.offset) / prior.scale).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (found := float(prior.log_prob(fixed).mean())) > best:
            best, weights = found, {name: value.clone() for name, value in prior.flow.state_dict().items()}
    prior.flow.load_state_dict(weights)
    return prior


def _drawn(points: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    return points + spread * torch.randn(points.shape, generator=generator, dtype=points.dtype)
