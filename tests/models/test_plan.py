"""Subsets without a posterior are refused however a plan is executed; none becomes a product of experts."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mvae.errors import QueryError
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.terms import Terms
from mvae.paper.models.deterministic import SupervisedNetwork
from tests.every_kind import MaskedTerms
from tests.models.common import KINDS, complete, parts


class NeverRun(nn.Module):
    """A joint encoder that is never run."""


MODELS: dict[str, Callable[[], MultimodalVAE]] = {
    "bivcca": lambda: BiVCCA(parts(), 2),
    "jmvae": lambda: JMVAE(parts(), 2, NeverRun()),
    "mmvae": lambda: MMVAE(parts(), 2),
    "nn": lambda: SupervisedNetwork(parts(), 2),
}


@pytest.mark.parametrize("kind", [Terms, MaskedTerms])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", MODELS)
def test_row_given_two_modalities_is_refused(name: str, rows: int, kind) -> None:
    model, table = MODELS[name](), complete(5)
    given = torch.zeros(2, rows, 3, dtype=torch.bool)
    given[0, :, 1] = True
    fine = kind(("a", "b"), given, given, torch.ones(2, rows))
    x = model.prepare(table)
    if name != "jmvae" or kind is Terms:  # as on a GPU, its joint encoder would run on everything
        assert model.posteriors(x, fine).mean.shape == (2, 5, 2)
    given = given.clone()
    given[1, -1, :2] = True
    with pytest.raises(QueryError, match=r"no posterior given several|not for other subsets"):
        model.posteriors(x, kind(("a", "b"), given, given, torch.ones(2, rows)))


def test_shared_and_row_plans_give_same_posteriors() -> None:
    model, table = BiVCCA(parts(), 2), complete(4)
    given = torch.eye(3, dtype=torch.bool)[:, None]
    x = model.prepare(table)
    shared = model.posteriors(x, Terms(tuple(KINDS), given, given, torch.ones(3, 1)))
    by_row = given.expand(-1, 4, -1)
    for kind in (Terms, MaskedTerms):
        q = model.posteriors(x, kind(tuple(KINDS), by_row, by_row, torch.ones(3, 4)))
        assert torch.equal(q.mean, shared.mean)
        assert torch.equal(q.precision, shared.precision)
