"""The objective on held-out rows matches a naive one; validation is repeatable and changes nothing."""

import pytest
import torch
from torch import nn

from mvae.evaluation.validation import validate
from mvae.models.mvae import MVAE
from tests import resumable
from tests.oracle import mvae_plan, naive_elbo, naive_loss
from tests.resumable import ROWS


def mixed() -> MVAE:
    """In float64, to compare with the oracle; its random subset is left out by validation, which is deterministic."""
    return resumable.model(k=1).double()


@pytest.mark.parametrize("complete", [True, False])
def test_the_objective_is_the_naive_sum_over_deterministic_terms_at_beta_1(complete: bool) -> None:
    model, table = mixed(), resumable.table(complete)
    values = validate(model, table)
    terms = model.evaluation_terms(table.presence(model.names))
    assert terms.names == ("full", "image", "label", "sound")
    noise = torch.randn(4, ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        plan = mvae_plan(model, table, terms)
        assert values["objective"] == pytest.approx(float(naive_loss(model, table, plan, noise)))
        unweighted = mvae_plan(model, table, terms, torch.ones(4, 3))
        assert values["objective/unweighted"] == pytest.approx(float(naive_loss(model, table, unweighted, noise)))
        for t, name in enumerate(terms.names):
            kls = []
            for row, row_terms in enumerate(plan):
                for term in row_terms:
                    if term.t == t:
                        term.lam = dict.fromkeys(model.names, 0.0)
                        kls.append(-naive_elbo(model, table, row, term, noise[t, row], 1.0))
            assert values[f"kl/{name}"] == pytest.approx(float(torch.stack(kls).mean()))


@pytest.mark.parametrize("complete", [True, False])
def test_reconstruction_is_the_negative_mean_log_likelihood(complete: bool) -> None:
    model, table = mixed(), resumable.table(complete)
    values = validate(model, table)
    terms = model.evaluation_terms(table.presence(model.names))
    noise = torch.randn(4, ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        for name in model.names:
            scores = []
            for row, row_terms in enumerate(mvae_plan(model, table, terms)):
                for term in row_terms:
                    if name in term.of:
                        term.lam = {n: float(n == name) for n in model.names}
                        scores.append(naive_elbo(model, table, row, term, noise[term.t, row], 0.0))
            assert values[f"reconstruction/{name}"] == pytest.approx(-float(torch.stack(scores).mean()))


@pytest.mark.parametrize("complete", [True, False])
def test_validation_is_deterministic_and_chunks_change_only_the_noise(complete: bool) -> None:
    model, table = mixed(), resumable.table(complete)
    torch.manual_seed(3)
    values = validate(model, table)
    torch.manual_seed(4)
    assert validate(model, table) == values
    noisy = ("objective", "reconstruction/")
    for chunk in (1, 7, ROWS):
        found = validate(model, table, chunk=chunk)
        assert found.keys() == values.keys()
        for name, value in values.items():
            if not name.startswith(noisy):
                assert found[name] == pytest.approx(value, abs=1e-9), name
    assert validate(model, table, chunk=ROWS) == values


def test_validation_does_not_change_the_model() -> None:
    model, table = mixed().train(), resumable.table()
    model.modalities["image"].encoder = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert validate(model, table) == validate(model, table)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
