"""Fit a prior to the aggregate posterior of a trained model, and store it in a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvae.arguments import require_whole_number
from mvae.errors import QueryError, RunError, require_extra
from mvae.files import load_state, save_state
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data
from mvae.models.prior import MixturePrior, Prior
from mvae.models.queries import parts_of

__all__ = ["built_prior", "fit_prior", "load_prior", "save_prior"]

ITERATIONS = 100  # at most, of expectation maximisation
LEAST_GAIN = 1e-3  # nats of mean log density per latent; with a smaller gain, it ends
LEAST_VARIANCE = 1e-6
SKLEARN_SEEDS = 2**32 - 1  # the largest seed that it takes


def fit_prior(
    model: MultimodalVAE, data: Data, kind: str = "mixture", *, components: int = 10, epochs: int = 50, seed: int = 0
) -> Prior:
    """Fit a density of the latents to the posteriors of these rows, given all their observed modalities.

    A mixture of Gaussians with full covariances is fitted to the posteriors' means (scikit-learn's EM). As a posterior
    has a width, too, their mean variance is added to every covariance: the prior then has the second moments of the
    aggregate posterior. A flow (zuko) is trained on posterior samples. From a mixture, one component is drawn per row.

    Set the result as ``model.prior``; ``None`` there is N(0, I) again.

    Args:
        model: a trained model.
        data: the training rows. Means and deviations of all of them are held in memory.
        kind: "mixture" or "flow".
        components: the number of components of the mixture.
        epochs: the number of epochs for the flow.
        seed: the seed of all draws.

    Raises:
        QueryError: another kind, fewer than one component or epoch, fewer rows than components, a seed that is no whole
            number from 0 to 2³² − 1, or a modality that was never trained. DataError: data that does not fit the model.
            MissingDependencyError: a flow without zuko.

    >>> from mvae.networks.mlp import mlp
    >>> x = {"x": torch.randn(50, 3)}
    >>> model = mvae.MVAE({"x": mvae.Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian())}, latent_dim=2)
    >>> model.prior = fit_prior(model, x, components=2)
    >>> model.generate(n=5)["x"].shape, mvae.log_likelihood(model, x, of=["x"], samples=20).values.shape
    (torch.Size([5, 1, 3]), torch.Size([50]))
    """
    if kind not in ("mixture", "flow"):
        raise QueryError(f"a prior is a 'mixture' or a 'flow', not {kind!r}")
    require_whole_number("components", components, 1)
    require_whole_number("epochs", epochs, 1)
    seed = require_whole_number("seed", seed, 0, SKLEARN_SEEDS)
    if kind == "flow":
        require_extra("zuko.flows", "flows", "flows as priors")  # before the posteriors of all rows
    points, spread = _aggregate(model, data, seed)
    if len(points) < max(2, components):
        raise QueryError(f"{len(points)} rows are too few to fit a prior of {components} components to")
    if kind == "flow":
        from mvae.models.flow import train_flow

        return train_flow(points.float(), spread.float(), epochs, seed)
    from sklearn.mixture import GaussianMixture

    found = GaussianMixture(
        components, tol=LEAST_GAIN * points.shape[1], reg_covar=LEAST_VARIANCE, max_iter=ITERATIONS, random_state=seed
    )
    with np.errstate(under="ignore"):
        found.fit(points.double().numpy())
    weight, centre, covariance = (
        torch.from_numpy(np.asarray(values)) for values in (found.weights_, found.means_, found.covariances_)
    )
    covariance = covariance + torch.diag(spread.double().square().mean(0))
    return MixturePrior(weight.to(model.dtype), centre.to(model.dtype), covariance.to(model.dtype))


@torch.no_grad()
def _aggregate(
    model: MultimodalVAE, data: Data, seed: int
) -> tuple[Float[Tensor, "rows latent"], Float[Tensor, "rows latent"]]:
    """Mean and standard deviation of each row's posterior; of a mixture, those of one component drawn per row."""
    points, spread, table = [], [], model.as_table(data)
    model.require_trained_in(table)
    with evaluating(model):
        for i, batch in enumerate(parts_of(table)):
            q, draws = model.posterior_of(batch), []
            for value in (0.0, 1.0):  # the same component both times
                generator = torch.Generator(model.device).manual_seed(seed + i)
                draws.append(q.rsample(torch.full_like(q.mean, value)[None], generator)[0])
            points.append(draws[0].cpu())
            spread.append((draws[1] - draws[0]).cpu())
    return torch.cat(points), torch.cat(spread)


def save_prior(prior: Prior, path: Path) -> None:
    """Write a fitted prior to a file.

    Raises:
        RunError: the file cannot be written.
    """
    save_state(path, *prior.state())


def load_prior(path: Path) -> Prior:
    """Load a prior from a file.

    Raises:
        RunError: the file is absent, damaged or not a prior. MissingDependencyError: a flow, and zuko is not installed.
    """
    return built_prior(*load_state(path), path)


def built_prior(tensors: Mapping[str, Tensor], info: Mapping[str, Any], path: Path) -> Prior:
    """Rebuild a prior from its `Prior.state`; ``path`` is named in errors.

    Raises:
        RunError: this is not the state of a prior. MissingDependencyError: a flow, and zuko is not installed.
    """
    if info.get("kind") == "mixture":
        return MixturePrior(tensors["weight"], tensors["centre"], tensors["covariance"])
    if info.get("kind") != "flow":
        raise RunError(f"{path} holds no prior: fit one anew")
    from mvae.models.flow import FlowPrior

    prior = FlowPrior(len(tensors["offset"]), tensors["offset"], tensors["scale"])
    weights = {name.removeprefix("flow."): value for name, value in tensors.items() if name.startswith("flow.")}
    prior.flow.load_state_dict(weights)
    return prior
