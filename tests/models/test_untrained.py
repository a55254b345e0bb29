"""A modality that no training row has: no query is answered from random weights unless the user allows it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvae
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.prediction import prediction_accuracy
from mvae.evaluation.validation import validate
from mvae.models.mvae import MVAE
from mvae.training.fit import fit
from tests.small_training import columns, model

NAMES = [name for name in columns() if name != "label"]
QUERIES: dict[str, Callable[[MVAE, dict[str, Any]], object]] = {
    "posterior": lambda built, x: built.posterior(x),
    "posterior given": lambda built, x: built.posterior({n: x[n] for n in NAMES}, ["label"]),
    "generate from it": lambda built, x: built.generate(x, of=NAMES),
    "generate from a table": lambda built, x: built.generate(Table(x), of=NAMES),
    "generate it": lambda built, x: built.generate(of=["label"]),
    "generate all": lambda built, x: built.generate(),
    "predict": lambda built, x: built.predict({n: x[n] for n in NAMES}, of="label"),
    "predict from it": lambda built, x: built.predict(x, of=NAMES[0]),
    "log_likelihood": lambda built, x: built.log_likelihood(x, ["label"], samples=3),
    "log_likelihood given": lambda built, x: built.log_likelihood(x, NAMES, ["label"], samples=3),
    "accuracy": lambda built, x: prediction_accuracy(built, x, NAMES, "label"),
    "prior": lambda built, x: mvae.fit_prior(built, x, components=2),
}


def trained(run_dir: Path | None = None, **options: Any) -> MVAE:
    built = model()
    fit(built, {n: columns()[n] for n in NAMES}, epochs=1, run_dir=run_dir, callbacks=[], **options)
    return built


@pytest.mark.parametrize("query", QUERIES)
def test_untrained_queries_need_permission(query: str) -> None:
    built, x = trained(), columns()
    with pytest.raises(QueryError, match=r"no training row had label.*allow_untrained"):
        QUERIES[query](built, x)
    built.allow_untrained = True
    QUERIES[query](built, x)


def test_queries_without_untrained_modality_are_answered() -> None:
    built, x = trained(), columns()
    assert built.untrained == ("label",)
    given = built.posterior(x, NAMES)  # the label is there, and not used
    assert torch.equal(given.mean, built.posterior({n: x[n] for n in NAMES}).mean)
    absent = {"label": torch.zeros(len(x["label"]), dtype=torch.bool)}
    assert torch.equal(built.posterior(Table(x, absent)).mean, given.mean)
    built.generate({n: x[n] for n in NAMES}, of=NAMES)
    model().generate()  # a model that was never fitted may have been set by hand


def test_validation_ignores_untrained_modality() -> None:
    built, x = trained(), columns()
    found, expected = validate(built, Table(x)), validate(built, {n: x[n] for n in NAMES})
    assert found == expected
    assert not any("label" in name for name in found)
    seen = model()
    data = {n: x[n] for n in NAMES}
    one = fit(seen, data, validation=x, epochs=1, callbacks=[]).epochs
    other = fit(model(), data, validation=data, epochs=1, callbacks=[]).epochs
    assert one[0]["validation/objective"] == other[0]["validation/objective"]


def test_untrained_is_saved_and_cleared_by_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    built = trained(tmp_path / "run")
    mvae.save(built, tmp_path / "saved")
    assert mvae.load(tmp_path / "saved", model()).untrained == ("label",)
    resumed = model()
    fit(resumed, {n: columns()[n] for n in NAMES}, epochs=2, run_dir=tmp_path / "run", resume=True, callbacks=[])
    assert resumed.untrained == ("label",)
    fit(resumed, columns(), epochs=1, callbacks=[])
    assert resumed.untrained == ()
    with caplog.at_level(logging.WARNING):
        history = fit(resumed, {n: columns()[n] for n in NAMES}, epochs=1, callbacks=[])
    assert history.untrained == ("label",)  # not observed in this training
    assert resumed.untrained == ()  # observed earlier by the model
    resumed.generate()
