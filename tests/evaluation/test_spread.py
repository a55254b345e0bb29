"""Label spreading: the graph against a loop, the potential against a solver, and the labels that rows get."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_moons
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import DataError, QueryError
from mvae.evaluation.spread import Graph, spread_labels
from mvae.likelihoods import Categorical, Gaussian
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import mlp


class CertainExpert(nn.Module):
    """An expert that is almost certain that z equals x."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.full_like(x, -20.0)


@pytest.fixture
def model() -> MVAE:
    """A model whose latents are x and which has no label."""
    return MVAE({"x": Modality(CertainExpert(), nn.Linear(2, 2), Gaussian(), standardise=False)}, 2).eval()


def column(table: Table, name: str) -> Tensor:
    values = table.columns[name]
    assert isinstance(values, Tensor)
    return values


def moons(rows: int = 400, known: int = 3) -> tuple[Table, Tensor]:
    """Two half moons with a few labels in each, and the true labels."""
    x, y = make_moons(rows, noise=0.06, random_state=0)
    label = torch.from_numpy(y)
    has = torch.zeros(rows, dtype=torch.bool)
    for value in (0, 1):
        has[(label == value).nonzero().flatten()[:known]] = True
    values = torch.where(has, label, 7)
    return Table({"x": torch.from_numpy(x).float(), "y": values}, {"y": has}), label


def naive(z: np.ndarray, k: int) -> np.ndarray:
    weights = np.zeros((len(z), len(z)))
    for i in range(len(z)):
        away = np.square(z - z[i]).sum(1)
        away[i] = np.inf
        nearest = np.argsort(away)[:k]
        for j in nearest:
            weights[i, j] += np.exp(-4 * away[j] / away[nearest[-1]]) / 2
            weights[j, i] += np.exp(-4 * away[j] / away[nearest[-1]]) / 2
    return weights


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(5, 40), st.integers(1, 4))
def test_the_graph_equals_that_of_a_loop(seed: int, rows: int, neighbours: int) -> None:
    z = np.random.default_rng(seed).normal(size=(rows, 3))
    graph = Graph(torch.from_numpy(z), neighbours)
    expected = naive(z, neighbours)
    np.testing.assert_allclose(graph.weights.to_dense().numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(graph.degree.numpy(), expected.sum(1), atol=1e-9)


def test_the_potential_solves_poissons_equation() -> None:
    z = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    graph = Graph(z, 8)
    source = torch.zeros(60, 2, dtype=torch.float64)
    source[:4] = torch.tensor([[0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [-0.5, 0.5]])
    weights, degree = graph.weights.to_dense().numpy(), graph.degree.numpy()
    u = np.linalg.lstsq(np.diag(degree) - weights, source.numpy())[0]
    u -= (degree[:, None] * u).sum(0) / degree.sum()  # the solution whose degree-weighted mean is 0
    np.testing.assert_allclose(graph.potential(source, steps=20_000).numpy(), u, atol=1e-8)


def test_labels_follow_the_moons_and_not_the_distance(model: MVAE) -> None:
    table, label = moons(known=2)
    spread = spread_labels(model, table, "y", share=1.0)
    assert spread.has("y").all()
    assert (column(spread, "y") == label).float().mean() > 0.99
    nearest = torch.cdist(column(table, "x"), column(table, "x")[table.has("y")]).argmin(1)
    assert (label[table.has("y")][nearest] == label).float().mean() < 0.93


def test_known_labels_are_kept_and_a_share_of_rows_gets_one(model: MVAE) -> None:
    table, _ = moons()
    before = column(table, "y").clone()
    spread = spread_labels(model, table, "y", share=0.5)
    assert spread.has("y").sum() == 6 + round(0.5 * 394)
    assert torch.equal(column(spread, "y")[table.has("y")], before[table.has("y")])
    assert torch.equal(column(table, "y"), before)  # the given table is unchanged
    assert column(spread, "x") is column(table, "x")
    assert spread.names == table.names


def test_labels_may_be_any_repeating_values(model: MVAE) -> None:
    table, label = moons()
    has = table.has("y")
    for values in (label.float() * 3 - 1, torch.stack([label, 1 - label], 1).byte()):
        hidden = values.clone()
        hidden[~has] = 7
        few = Table({"x": column(table, "x"), "y": hidden}, {"y": has})
        found = column(spread_labels(model, few, "y", share=1.0), "y")
        assert found.dtype == values.dtype
        assert (found == values).float().mean() > 0.99


def test_the_order_of_rows_does_not_matter(model: MVAE) -> None:
    table, _ = moons()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    one, other = (column(spread_labels(model, t, "y", share=1.0), "y") for t in (table, table.take(order)))
    assert torch.equal(one[order], other)


def test_a_group_without_a_label_stays_unlabelled(model: MVAE) -> None:
    table, _ = moons()
    far = torch.randn(50, 2) + 1000
    wide = Table(
        {"x": torch.cat([column(table, "x"), far]), "y": torch.cat([column(table, "y"), torch.zeros(50).long()])},
        {"y": torch.cat([table.has("y"), torch.zeros(50).bool()])},
    )
    spread = spread_labels(model, wide, "y", share=1.0)
    assert spread.has("y")[:400].all()
    assert not spread.has("y")[400:].any()


def test_rows_with_only_a_label_give_the_class_frequencies(model: MVAE) -> None:
    """In a single cloud only the frequencies determine where a class ends."""
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    has = torch.zeros(2000, dtype=torch.bool)
    has[[int(x[:, 0].argmin()), int(x[:, 0].argmax())]] = True
    y = (x[:, 0] > 0).long()
    for share in (0.35, 0.65):
        others = (torch.arange(1000) >= 1000 * (1 - share)).long()
        table = Table(
            {"x": torch.cat([x, torch.zeros(1000, 2)]), "y": torch.cat([y, others])},
            {"x": torch.arange(3000) < 2000, "y": torch.cat([has, torch.ones(1000).bool()])},
        )
        found = spread_labels(model, table, "y", share=1.0)
        assert abs(column(found, "y")[:2000].float().mean() - share) < 0.05
        assert not found.has("x")[2000:].any()


def test_a_class_seen_only_in_rows_without_other_modalities_is_not_spread(
    model: MVAE, caplog: pytest.LogCaptureFixture
) -> None:
    table, _ = moons()
    x, y, has = column(table, "x"), column(table, "y"), table.has("y")
    found = []
    for third in (0, 300):
        more, others = torch.full((third + 20,), 5), torch.ones(third + 20).bool()
        more[:20] = torch.arange(20) % 2
        wide = Table(
            {"x": torch.cat([x, torch.zeros(len(more), 2)]), "y": torch.cat([y, more])},
            {"x": torch.cat([torch.ones(400).bool(), ~others]), "y": torch.cat([has, others])},
        )
        found.append(column(spread_labels(model, wide, "y"), "y")[:400])
    assert torch.equal(*found)
    assert "no row with anything besides y has the value 5: it is not spread" in caplog.text


def test_copies_of_a_row_get_its_label(model: MVAE) -> None:
    """Each row occurs twenty times, so its nearest neighbours are all copies of itself."""
    one, label = moons(100)
    x, y = column(one, "x").repeat(20, 1), torch.cat([column(one, "y"), torch.full((1900,), 7)])
    table = Table({"x": x, "y": y}, {"y": torch.cat([one.has("y"), torch.zeros(1900).bool()])})
    found = spread_labels(model, table, "y", share=1.0)
    assert found.has("y").all()
    assert (column(found, "y") == label.repeat(20)).float().mean() > 0.95


def test_rows_may_have_different_modalities() -> None:
    """Each row has one of two modalities; the label's own encoder is not used."""
    table, label = moons()
    x = column(table, "x")
    parts = {n: Modality(CertainExpert(), nn.Linear(2, 2), Gaussian(), standardise=False) for n in ("a", "b")}
    parts["y"] = Modality(nn.Sequential(nn.Embedding(8, 4)), mlp(2, 8), Categorical())
    has = torch.arange(400) % 2 == 0
    rows = Table({"a": x, "b": x, "y": column(table, "y")}, {"a": has, "b": ~has, "y": table.has("y")})
    found = spread_labels(MVAE(parts, 2).eval(), rows, "y", share=1.0)
    assert (column(found, "y") == label).float().mean() > 0.99


def test_labels_that_cannot_be_spread_are_refused(model: MVAE) -> None:
    table, label = moons(40)
    x, has = column(table, "x"), table.has("y")

    def with_labels(y: Tensor, has: Tensor, **more: Tensor) -> Table:
        return Table({"x": x, "y": y}, {"y": has, **more})

    cases: tuple[tuple[str, Table, dict[str, Any]], ...] = (
        ("no modality 'z' in this table; it has x, y", table, {"name": "z"}),
        ("share, of the rows that get a label, must be above 0", table, {"share": 0.0}),
        (r"neighbours must be 1 to 39 \(40 rows differ\), not 40", table, {"neighbours": 40}),
        ("y has one value only", with_labels(torch.zeros(40), has), {}),
        ("no row has y and any of x", with_labels(label, has, x=~has), {}),
        ("share of spread_labels must be a number", table, {"share": "half"}),
        ("y has one value only in rows with other", with_labels(label, has | (label == 1), x=label == 0), {}),
    )
    for text, data, options in cases:
        with pytest.raises(QueryError, match=text):
            spread_labels(model, data, **{"name": "y", "neighbours": 5} | options)
    x, every = torch.randn(1001, 2), torch.ones(1001, dtype=torch.bool)
    many = with_labels(torch.randn(1001), every)
    with pytest.raises(QueryError, match=r"y has 1,001 different values .*: 2 to 1,000 are needed"):
        spread_labels(model, many, "y")
    holes = with_labels(torch.ones(1001, 2), every[:, None] & (torch.randn(1001, 2) > 0))
    with pytest.raises(DataError, match="has missing single values"):
        spread_labels(model, holes, "y")
    with pytest.raises(DataError, match="y has labels that are not finite numbers"):
        spread_labels(model, with_labels(torch.tensor([torch.nan, 1.0, 0.0]).repeat(334)[:1001], every), "y")
    with pytest.raises(QueryError, match="the model has no other modality of this table"):
        spread_labels(model, holes, "x")
