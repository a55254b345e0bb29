"""Queries: the same answers for all containers, in parts and at once; predictions compared with a naive loop."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvae
from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.modality.base import Modality
from mvae.models import queries
from mvae.models.mixture import Mixture
from mvae.models.mmvae import MMVAE
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from tests.models.common import KINDS, incomplete, parts

LATENT, ROWS = 2, 11


class Frame:
    """The part of a pandas data frame that is used."""

    def __init__(self, **columns: list) -> None:
        self._columns = {name: np.asarray(values) for name, values in columns.items()}
        self.columns = list(columns)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def to_numpy(self, *args: object, **kwargs: object) -> np.ndarray:
        return np.stack(list(self._columns.values()), 1)


class Numbers(nn.Module):
    """A column of single numbers as ``rows 1``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


def small() -> MVAE:
    torch.manual_seed(0)
    x = Modality(nn.Sequential(Numbers(), *mlp(1, 2 * LATENT, [5])), mlp(LATENT, 1, [5]), likelihoods.Gaussian())
    label = Modality(LabelEncoder(3, 2 * LATENT), mlp(LATENT, 3, [5]), likelihoods.Categorical())
    return MVAE({"x": x, "label": label}, LATENT)


QUERIES = {
    "posterior": lambda model, data: model.posterior(data).mean,
    "generate": lambda model, data: model.generate(data, seed=1)["x"],
    "predict": lambda model, data: model.predict(data, "label"),
    "log_likelihood": lambda model, data: model.log_likelihood(data, ["x"], samples=20).values,
}


# -- Containers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_all_containers_give_same_answer(query) -> None:
    model, x, label = small(), [0.5, -1.0, 2.0], [2, 0, 1]
    expected = query(model, Table({"x": np.array(x), "label": np.array(label), "no modality": [1, 2, 3]}))
    for data in ({"x": np.array(x), "label": label}, Frame(x=x, label=label)):
        assert torch.equal(query(model, data), expected)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_invalid_data_is_refused_in_any_container(query) -> None:
    model = small()
    for x, label, message in (
        ([0.0, math.nan], [0, 1], "modality 'x', row 1: finite"),
        ([0.0, 1.0], [0, 3], "modality 'label', row 1: class numbers 0 to 2"),
        ([[0.0, 1.0], [1.0, 2.0]], [0, 1], "modality 'x'"),
    ):
        columns = {"x": np.array(x), "label": np.array(label)}
        with pytest.raises(DataError, match=message):
            query(model, columns)
        with pytest.raises(DataError, match=message):
            query(model, Table(columns))
    with pytest.raises(QueryError, match="no modality 'lable' in this model; it has x, label"):
        query(model, {"x": [0.0], "lable": [1]})
    with pytest.raises(QueryError, match="no modality 'lable'"):
        query(model, Frame(x=[0.0], lable=[1]))


def test_binary_bytes_are_refused_as_levels_of_255() -> None:
    model = MVAE({"x": Modality(mlp(3, 4), mlp(2, 3), likelihoods.Bernoulli(levels=255))}, 2)
    with pytest.raises(DataError, match="holds nothing above 1, but its levels are 0 to 255"):
        model.posterior(Table({"x": torch.tensor([[0, 1, 1]], dtype=torch.uint8)}))


@pytest.mark.parametrize("value", [2.5, "3", None, True, [1]])
def test_require_whole_number_refuses_other_values(value: object) -> None:
    with pytest.raises(QueryError, match=re.escape(f"n must be a whole number, not {value!r}")):
        queries.require_whole_number("n", value, 1)
    queries.require_whole_number("n", np.int64(3), 1)


def test_generator_and_seed_are_exclusive() -> None:
    model = small()
    with pytest.raises(QueryError, match="a generator or a seed, not both"):
        model.generate(n=2, seed=1, generator=torch.Generator())
    one, other = model.generate(n=2, seed=5), model.generate(n=2, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(one[name], other[name]) for name in model.names)
    with pytest.raises(QueryError, match="seed must be at least 0, not -1"):
        model.generate(seed=-1)


def test_table_without_rows_is_refused() -> None:
    model, table = small(), mvae.Table({"x": torch.randn(5, 3)})
    for query in (model.posterior, model.generate, lambda data: mvae.fit(model, data, epochs=1, callbacks=[])):
        with pytest.raises(DataError, match="the table has no rows"):
            query(table[torch.zeros(5, dtype=torch.bool)])


# -- Parts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for four values, and so parts of one to four rows."""
    monkeypatch.setattr(queries, "VALUES", 4)
    monkeypatch.setattr(queries, "ROWS", 4)
    monkeypatch.setattr(queries, "FEW", 1)


def test_posterior_in_parts_equals_whole(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = MVAE(parts(latent=LATENT), LATENT), incomplete(ROWS)
    found = model.posterior(table)
    monkeypatch.undo()
    expected = model.posterior(table)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.variance, expected.variance)


def test_mixture_posterior_in_parts_equals_whole(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MMVAE(parts(latent=LATENT), LATENT)
    whole = incomplete(ROWS)
    first = torch.arange(ROWS) < 5
    present = {n: whole.present[:, i] & (~first if n != "image" else first | True) for i, n in enumerate(whole.names)}
    table = Table(whole.columns, present)
    found = model.posterior(table)
    monkeypatch.undo()
    expected = model.posterior(table)
    assert isinstance(found, Mixture)
    assert isinstance(expected, Mixture)
    z = torch.randn(6, ROWS, LATENT).double()
    torch.testing.assert_close(found.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(found.mean, expected.mean)


@pytest.mark.parametrize("rows", [1, 7])
def test_generating_in_parts_keeps_distribution(tiny: None, rows: int) -> None:
    """x is z plus a little noise, so each row's samples have the posterior's mean and variance."""
    echo = MVAE({"x": Modality(nn.Linear(1, 2), nn.Identity(), likelihoods.Gaussian(1e-6))}, 1)
    x = torch.linspace(-2, 2, rows)[:, None]
    made, q = echo.generate({"x": x}, n=3000, seed=0)["x"], echo.posterior({"x": x})
    assert made.shape == (3000, rows, 1)
    assert ((made.mean(0) - q.mean).abs() < 5 * q.stddev / math.sqrt(3000)).all()
    torch.testing.assert_close(made.var(0), q.variance, rtol=0.15, atol=0)


def test_networks_see_at_most_one_part(tiny: None) -> None:
    model, most = small(), 0

    def record(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal most
        most = max(most, len(args[0]))

    table = Table({"x": torch.randn(50), "label": torch.zeros(50, dtype=torch.long)})
    model.check(table)
    for modality in model.modalities.values():
        for network in (modality.encoder, modality.decoder):
            network.register_forward_pre_hook(record)
    model.as_table = lambda data: data  # pyright: ignore  (the check of all values has its own parts)
    model.posterior(table)
    model.generate(table, n=9)
    model.generate(n=500)
    model.predict(table, "label")
    model.predict(table, "label", n=20)
    assert 1 <= most <= 4


def test_memory_mapped_columns_are_read_in_parts(tiny: None, tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(9, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = small()
    torch.testing.assert_close(model.posterior({"x": mapped}).mean, model.posterior({"x": values}).mean)


# -- Predictions ---------------------------------------------------------------------------------------------------


def test_predict_decodes_posterior_mean_given_rest() -> None:
    model, table = MVAE(parts(latent=LATENT), LATENT), incomplete(ROWS)
    for name, of in model.modalities.items():
        q = model.posterior(table, [other for other in KINDS if other != name])
        torch.testing.assert_close(model.predict(table, name), of.generate(q.mean, mean=True))


def test_predict_with_samples_is_expectation() -> None:
    """E[softmax] under q, on a fine grid of z."""
    torch.manual_seed(1)
    x = Modality(nn.Linear(1, 2), nn.Linear(1, 1), likelihoods.Gaussian())
    label = Modality(LabelEncoder(2, 2), nn.Linear(1, 2), likelihoods.Categorical())
    model, data = MVAE({"x": x, "label": label}, 1), torch.tensor([[1.0], [-3.0]])
    q = model.posterior({"x": data})
    grid = torch.linspace(-8, 8, 4001)[:, None, None].expand(-1, 2, 1)
    weight = q.log_prob(grid).exp()
    with torch.no_grad():
        probabilities = label.decoder(grid).softmax(-1)
    expected = (weight[..., None] * probabilities).sum(0) / weight.sum(0)[:, None]
    found = model.predict({"x": data}, "label", n=20_000)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    # The label's own column is not used.
    assert torch.equal(found, model.predict({"x": data, "label": [0, 1]}, "label", n=20_000))


def test_log_likelihood_method_equals_function() -> None:
    model, data = small(), {"x": torch.randn(4), "label": torch.tensor([0, 1, 2, 0])}
    found = model.log_likelihood(data, ["x"], ["label"], samples=30, seed=3)
    expected = mvae.log_likelihood(model, Table(data), ["x"], ["label"], samples=30, seed=3)
    assert torch.equal(found.values, expected.values)


def test_columns_have_no_mean_over_samples() -> None:
    columns = mvae.Columns.of([{"name": "k", "kind": "categorical", "classes": 3}, "r"], latent_dim=2)
    x = Modality(mlp(3, 4), mlp(2, 3), likelihoods.Gaussian())
    model = MVAE({"c": columns, "x": x}, latent_dim=2)
    assert model.predict({"x": torch.zeros(4, 3)}, of="c").shape == (4, 2)
    with pytest.raises(QueryError, match="c has no mean over samples of z"):
        model.predict({"x": torch.zeros(4, 3)}, of="c", n=5)
