"""The fitted prior of a run, stored in its directory: `mvae fit-prior`."""

from dataclasses import dataclass

import torch

from mvae.errors import QueryError, RunError
from mvae.gaussian import Gaussian
from mvae.models.fitting import fit_prior, load_prior, save_prior
from mvae.models.prior import Prior
from mvae.models.queries import parts_of
from mvae.runs.run import Run

__all__ = ["FILE", "Fit", "fit_run_prior", "use_fitted_prior"]

FILE = "prior.safetensors"


@dataclass(frozen=True)
class Fit:
    """A fitted prior's mean log p(z) in nats, and that of N(0, I), with one z ~ q(z | X) per validation row."""

    kind: str
    rows: int
    fitted: float
    standard: float


def fit_run_prior(
    run: Run, kind: str = "mixture", *, components: int = 10, epochs: int = 50, rows: int | None = None, seed: int = 0
) -> Fit:
    """Fit a prior to the run's training rows, save it in the run's directory, and let the model use it.

    Args:
        run: an opened run (`mvae.runs.run.open_run`).
        kind, components, epochs, seed: as for `mvae.models.fitting.fit_prior`.
        rows: use only the first ``rows`` training rows; default all.

    Raises:
        QueryError: as for `fit_prior`, or rows < 1. RunError: the file cannot be written. MissingDependencyError: a
            flow is requested, and zuko is not installed.
    """
    if rows is not None and rows < 1:
        raise QueryError(f"rows must be at least 1, not {rows}")
    table = run.data.train if rows is None else run.data.train.first(rows)
    prior = fit_prior(run.model, table, kind, components=components, epochs=epochs, seed=seed)
    save_prior(prior, run.directory / FILE)
    run.model.prior = prior
    return Fit(kind, len(table), *_log_densities(run, prior, seed))


@torch.no_grad()
def _log_densities(run: Run, prior: Prior, seed: int) -> tuple[float, float]:
    model, sums = run.model, [0.0, 0.0]
    generator = torch.Generator(model.device).manual_seed(seed)
    standard = Gaussian.standard(model.latent_dim, device=model.device, dtype=model.dtype)
    for batch in parts_of(run.data.validation):
        z = model.posterior(batch).sample(1, generator)[0]
        for i, one in enumerate((prior, standard)):
            sums[i] += float(one.log_prob(z).double().sum())
    return sums[0] / len(run.data.validation), sums[1] / len(run.data.validation)


def use_fitted_prior(run: Run) -> None:
    """Let the run's model use its fitted prior.

    Raises:
        RunError: no prior was fitted, or its file is damaged. MissingDependencyError: it is a flow, and zuko is not
            installed.
    """
    if not (run.directory / FILE).exists():
        raise RunError(f"{run.directory} has no fitted prior: mvae fit-prior {run.directory}")
    run.model.prior = load_prior(run.directory / FILE)
