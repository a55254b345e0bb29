"""With many modalities, single terms have no masks; terms, objective, gradients and sums are the same."""

from collections.abc import Callable

import pytest
import torch

from mvae.data.table import Table
from mvae.evaluation.validation import validate
from mvae.models import plan, terms
from mvae.models.base import MultimodalVAE
from mvae.models.jmvae import JMVAE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.mvtcae import MVTCAE
from mvae.models.telbo import TELBO
from mvae.models.terms import Terms
from mvae.networks import build as network
from tests.every_kind import MaskedTerms, column, gradients, modality, noise_for
from tests.models.common import KINDS, assert_same, assert_same_gradients, complete, incomplete, parts

SHAPES = {"image": (2, 3), "label": (3,), "signal": (4,)}
FEATURES = {"image": "mlp", "label": "label", "signal": "mlp"}


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (terms, plan):
        monkeypatch.setattr(module, "MANY", 1)


def unimodal_telbo() -> TELBO:
    model = TELBO(parts(), 2).double()
    model.stage = "unimodal"
    return model


MODELS: dict[str, Callable[[], MultimodalVAE]] = {
    "mvae": lambda: MVAE(parts(), 2, random_subsets=2, cross_from=["image"]),
    "eq5": lambda: MVAE(parts(), 2, cross_from=()),
    "mvae_q": lambda: MVAEQ(parts(), 2, random_subsets=1),
    "mvtcae": lambda: MVTCAE(parts(), 2),
    "telbo": unimodal_telbo,
    "jmvae": lambda: JMVAE(
        parts(), 2, network({"network": "joint", "features": FEATURES}, inputs=SHAPES, outputs=4, role="joint").double()
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.usefixtures("few_are_many")
def test_terms_without_masks_match_masked_terms(name: str, make: Callable) -> None:
    model, table = MODELS[name](), make(9, KINDS)
    apart = model.terms(table.presence(model.names), torch.Generator().manual_seed(0))
    assert apart.alone is not None
    noise = noise_for(model, apart, 9)
    found = model(table, apart, noise=noise, beta=0.7)
    expected = model(table, apart.spread(), noise=noise, beta=0.7)
    fields = apart.names, apart.given, apart.of, apart.weight, apart.likelihood_weight, apart.keys, apart.alone
    masked = model(table.filled(), MaskedTerms(*fields), noise=noise, beta=0.7)
    torch.testing.assert_close(found.sums(), expected.sums())
    torch.testing.assert_close(found.counts(), expected.counts())
    naive = gradients(model, expected.loss)
    for result in (found, masked):
        torch.testing.assert_close(result.loss, expected.loss, rtol=1e-9, atol=1e-9)
        assert_same_gradients(gradients(model, result.loss), naive)


def as_sets(planned: Terms) -> set[tuple]:
    """Name, masks and weights of every term."""
    planned, weights = planned.spread(), planned.spread().likelihood_weight
    assert weights is not None
    parts = (planned.given, planned.of, planned.weight, weights)
    return {(name, *(str(p[t].tolist()) for p in parts)) for t, name in enumerate(planned.names)}


@pytest.mark.parametrize("make", [complete, incomplete])
def test_many_and_few_modalities_have_same_terms(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model, present = MODELS["mvae"](), make(9, KINDS).presence(KINDS)
    few = model.terms(present, torch.Generator().manual_seed(0))
    monkeypatch.setattr(terms, "MANY", 1)
    many = model.terms(present, torch.Generator().manual_seed(0))
    assert few.alone is None
    assert many.alone is not None
    assert as_sets(many) == as_sets(few)


def test_banked_modalities_have_same_metrics_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "c")
    model = MVAE({name: modality("image", 2) for name in names}, 2, random_subsets=1)
    present = {name: torch.rand(60) < 0.7 for name in names[1:]}
    table = Table({name: column("image", 60) for name in names}, present)
    expected = validate(model, table)
    monkeypatch.setattr(terms, "MANY", 1)
    monkeypatch.setattr(plan, "MANY", 1)
    assert validate(model, table) == pytest.approx(expected, rel=1e-6)
    planned = model.terms(table.presence(names))
    noise = noise_for(model, planned, 60)
    found, naive = (model(table, one, noise=noise).loss for one in (planned, planned.spread()))
    assert_same(model, found, naive)
