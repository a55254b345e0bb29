"""A small model of every kind of event and likelihood, in float64, for the tests of the objective and of all models."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import MVAE
from mvae.models.objective import Objective
from mvae.models.terms import Terms
from mvae.networks.mlp import LabelEncoder, mlp

KINDS = ["image", "label", "signal", "robust", "tags"]  # one of each likelihood, two of them with classes


def modality(kind: str, latent: int, weight: float = 1.0) -> Modality:
    """Build a small modality of this kind in float64."""
    out = 2 * latent
    match kind:
        case "image":
            parts = mlp(6, out, [5]), mlp(latent, 6, [5]), likelihoods.Bernoulli(levels=255)
        case "label":
            parts = LabelEncoder(3, out, hidden=4), nn.Linear(latent, 3), likelihoods.Categorical()
        case "signal":
            parts = mlp(4, out, [5]), nn.Linear(latent, 4), likelihoods.Gaussian(0.7, learned=True)
        case "robust":
            parts = mlp(2, out, [5]), nn.Linear(latent, 2), likelihoods.Laplace(1.3)
        case _:
            encoder = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, out))
            decoder = nn.Sequential(nn.Linear(latent, 15), nn.Unflatten(1, (3, 5)))
            parts = encoder, decoder, likelihoods.Categorical()
    return Modality(*parts, weight).double()


def column(kind: str, rows: int) -> Tensor:
    """Random values; images are stored as bytes of shape (2, 3), while their decoder's output is flat."""
    match kind:
        case "image":
            return torch.randint(0, 256, (rows, 2, 3), dtype=torch.uint8)
        case "label":
            return torch.randint(0, 3, (rows,))
        case "signal":
            return torch.randn(rows, 4)
        case "robust":
            return torch.randn(rows, 2).double()
        case _:
            return torch.randint(0, 5, (rows, 3))


def model_of(
    kinds: list[str],
    latent: int = 2,
    weights: Mapping[str, float] | None = None,
    k: int = 0,
    distinct: bool = True,
    cross_from: Sequence[str] = (),
    cross_share: float = 0.2,
) -> MVAE:
    parts = {kind: modality(kind, latent, (weights or {}).get(kind, 1.0)) for kind in kinds}
    return MVAE(
        parts, latent, random_subsets=k, distinct_terms=distinct, cross_from=cross_from, cross_share=cross_share
    )


class MaskedTerms(Terms):
    """A plan applied as on a GPU: networks run on every row, and masks select what counts."""

    masked = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]


def masked(columns: Mapping[str, Tensor]) -> Table:
    """A table in which a random half of the cells is missing, and no row is empty."""
    names, rows = list(columns), len(next(iter(columns.values())))
    present = torch.rand(rows, len(names)) < 0.5
    present[torch.arange(rows), torch.randint(0, len(names), (rows,))] = True
    return Table(columns, {name: present[:, i] for i, name in enumerate(names)})


def noise_for(model: MultimodalVAE, terms: Terms, rows: int) -> Tensor:
    return torch.randn(len(terms.names), rows, model.latent_dim, dtype=torch.float64)


def log_prob(result: Objective, name: str) -> Tensor:
    return result.log_prob[result.modalities.index(name)]


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter; zero if the loss does not depend on it."""
    named = dict(model.named_parameters())
    if not loss.requires_grad:
        return {name: torch.zeros_like(p) for name, p in named.items()}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def assert_same(model: MVAE, one: Tensor, other: Tensor) -> None:
    """Check that both losses have the same value and gradients, to float64's accuracy."""
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    expected = gradients(model, other)
    for name, gradient in gradients(model, one).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
