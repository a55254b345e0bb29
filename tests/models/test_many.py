"""More modalities than are scored one after the other: the same objective, gradients included."""

import pytest

from mvae.models import plan
from mvae.models.mvae import MVAE
from tests.every_kind import assert_same
from tests.models.common import KINDS, incomplete, noise_for, parts


def test_latents_gathered_at_once_give_the_same_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = MVAE(parts(), 2, random_subsets=1, cross_from=["image"]), incomplete(9, KINDS)
    terms = model.terms(table.presence(model.names))
    noise = noise_for(model, terms, 9)
    apart = model(table, terms, noise=noise).loss
    monkeypatch.setattr(plan, "APART", 0)
    assert_same(model, model(table, terms, noise=noise).loss, apart)
