"""Covariates: conditioning the networks, unseen categories, counterfactuals and errors."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import mvae
from mvae.errors import DataError, QueryError, SettingsError
from mvae.evaluation.frechet import frechet_to_data
from mvae.evaluation.representation import linear_accuracy_by_number
from mvae.evaluation.subsets import coherence_by_number
from mvae.modality.covariate import Covariate
from mvae.models import MODELS
from mvae.networks.mlp import ConditionalMLP, mlp
from tests.unchecked import unchecked

ROWS = 60


def model(conditioned: str = "both", of: Any = mvae.MVAE, **covariates: Covariate) -> Any:
    """A model of counts of three genes and two proteins, whose RNA networks take the covariates."""
    covariates = covariates or {"batch": Covariate(["b1", "b2"]), "age": Covariate()}
    width = sum(covariate.width for covariate in covariates.values())
    encoder = ConditionalMLP(3, width, 4, [8]) if conditioned in ("both", "encoder") else mlp(3, 4, [8])
    decoder = ConditionalMLP(2, width, 3, [8]) if conditioned in ("both", "decoder") else mlp(2, 3, [8])
    rna = mvae.Modality(encoder, decoder, "poisson")
    protein = mvae.Modality(mlp(2, 4, [8]), mlp(2, 2, [8]), "gaussian")
    return of({"rna": rna, "batch": covariates.pop("batch"), "protein": protein, **covariates}, 2)


def rows(n: int = ROWS) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 2, (n,), generator=g)
    rate = 3 + 20 * batch[:, None].float().expand(-1, 3)
    return {
        "rna": torch.poisson(rate, generator=g),
        "protein": torch.randn(n, 2, generator=g),
        "batch": np.array(["b1", "b2"])[batch.numpy()],
        "age": 50 + 10 * torch.randn(n, generator=g),
    }


def test_a_decoder_given_the_batch_predicts_for_another_batch() -> None:
    torch.manual_seed(0)
    made, data = model(), rows()
    history = mvae.fit(made, data, epochs=40, batch_size=20, learning_rate=1e-2, callbacks=[])
    assert len(history.epochs) == 40
    one, two = (made.predict(data, of="rna", covariates={"batch": b}).mean() for b in ("b1", "b2"))
    assert two > 2 * one
    own = made.predict(data, of="rna")
    for code, name in enumerate(("b1", "b2")):
        is_here = torch.from_numpy(data["batch"] == name)
        same = made.predict(data, of="rna", covariates={"batch": name})[is_here]
        torch.testing.assert_close(own[is_here], same)
        drawn = made.generate(of=["rna"], n=50, covariates={"batch": (code and "b2") or "b1", "age": 50.0}, seed=0)[
            "rna"
        ]
        assert (drawn.mean() > 10) == bool(code)


@pytest.mark.parametrize("masked", [False, True])
def test_networks_get_the_covariates_of_their_own_row(masked: bool) -> None:
    made, data = model().double(), rows(6)
    there = torch.tensor([True, False, True, True, False, True]) if masked else torch.ones(6).bool()
    table = mvae.Table(made.coded(data), present={"rna": there})
    q = made.posterior(table, given=["rna"])
    for row in range(6):
        alone = {name: values[row : row + 1] for name, values in data.items()}
        known = alone if there[row] else {name: values for name, values in alone.items() if name != "rna"}
        expected = made.posterior(known, given=["rna"])
        torch.testing.assert_close(q.mean[row], expected.mean[0])
    objective = made(table, generator=torch.Generator().manual_seed(0))
    assert objective.loss.isfinite()
    swapped = made.posterior(data | {"batch": data["batch"][::-1].copy()}, given=["rna"]).mean
    assert not torch.allclose(swapped, q.mean)


@pytest.mark.parametrize("conditioned", ["encoder", "decoder"])
def test_only_networks_with_a_second_argument_get_covariates(conditioned: str) -> None:
    made, data = model(conditioned), rows()
    other = data | {"age": data["age"] + 5}
    same = torch.equal(made.posterior(data).mean, made.posterior(other).mean)
    assert same == (conditioned == "decoder")


def test_a_likelihood_uses_the_rows_own_covariates() -> None:
    made, data = model(), rows(5)
    found = mvae.log_likelihood(made, data, of=["rna"], given=["protein"], samples=200)
    other = mvae.log_likelihood(made, data | {"batch": ["b2"] * 5}, of=["rna"], given=["protein"], samples=200)
    is_b2 = torch.from_numpy(data["batch"] == "b2")
    torch.testing.assert_close(found.values[is_b2], other.values[is_b2])
    assert not torch.isclose(found.values[~is_b2], other.values[~is_b2]).any()


def test_missing_covariates_are_refused() -> None:
    made, data = model(), rows(4)
    without = {name: values for name, values in data.items() if name != "batch"}
    for call in (made.posterior, lambda d: made.generate(d), lambda d: made.predict(d, of="rna")):
        with pytest.raises(DataError, match=r"no column 'batch'.*as a covariate"):
            call(without)
    with pytest.raises(QueryError, match=r"conditioned on batch, age: give"):
        made.generate(of=["rna"])
    with pytest.raises(QueryError, match=r"no covariate 'site' in this model; it has batch, age"):
        made.generate(data, covariates={"site": 1})
    table = mvae.Table(made.coded(data), present={"batch": torch.tensor([True, True, False, True])})
    with pytest.raises(DataError, match=r"'batch', row 2: it is needed in every row"):
        made.posterior(table)


def test_an_unseen_category_is_refused_by_name_and_row() -> None:
    made, data = model(), rows(3)
    with pytest.raises(DataError, match=r"'batch', row 1: the category 'b9' is not among b1, b2"):
        made.posterior(data | {"batch": ["b1", "b9", "b2"]})
    with pytest.raises(DataError, match="b9"):
        made.generate(data, covariates={"batch": "b9"})
    with pytest.raises(DataError, match=r"row 2: codes 0 to 1 of b1, b2"):
        made.posterior(mvae.Table(data | {"batch": torch.tensor([0, 1, 2])}))
    with pytest.raises(DataError, match=r"row 1: its category is not among b1, b2: .*unknown=True"):
        made.posterior(mvae.Table(data | {"batch": torch.tensor([0, -1, 1])}))


def test_unknown_categories_have_their_own_code_if_enabled() -> None:
    made, data = model(batch=Covariate(["b1", "b2"], unknown=True)), {**rows(4)}
    data.pop("age")
    data["batch"] = ["b1", "b2", "b9", "b2"]
    unseen = made.posterior(data, given=["rna"]).mean
    masked = mvae.Table(
        {**data, "batch": torch.tensor([0, 1, 0, 1])}, present={"batch": torch.tensor([True, True, False, True])}
    )
    torch.testing.assert_close(made.posterior(masked, given=["rna"]).mean, unseen)
    known = made.posterior(data | {"batch": ["b1", "b2", "b1", "b2"]}, given=["rna"]).mean
    assert torch.equal(known[:2], unseen[:2])
    assert not torch.allclose(known[2], unseen[2])


def test_real_covariates_are_standardised_by_the_training_rows() -> None:
    age = Covariate()
    table = mvae.Table({"age": torch.tensor([40.0, 60.0])})
    age.fit(table, "age")
    age.fit(mvae.Table({"age": torch.tensor([0.0, 1.0])}), "age")  # a later training changes nothing
    assert age.encode(torch.tensor([50.0, 70.0]), torch.ones(2).bool(), torch.float32).tolist() == [[0.0], [2.0]]
    with pytest.raises(DataError, match="row 1: 1 finite numbers"):
        age.check(mvae.Table({"age": torch.tensor([1.0, float("nan")])}), "age")


@pytest.mark.parametrize("offset", [0.0, 1e7, 1e9])
def test_a_large_offset_costs_no_precision(offset: float) -> None:
    x = torch.linspace(-1, 1, 101).double() + offset
    covariate, table = Covariate(), mvae.Table({"age": x})
    covariate.fit(table, "age")
    encoded = covariate.encode(x, table.has("age"), torch.float32)[:, 0].double()
    expected = torch.linspace(-1, 1, 101).double()
    torch.testing.assert_close(encoded, expected / expected.std(correction=0), atol=1e-5, rtol=0)


def test_categories_may_be_numbers_or_a_count() -> None:
    assert Covariate(3).codes([2, 0]).tolist() == [2, 0]
    assert Covariate([2019, 2021]).codes([2021, 2019]).tolist() == [1, 0]
    for wrong in (["a"], ["a", "a"], "ab", 1):
        with pytest.raises(SettingsError):
            Covariate(wrong)


@pytest.mark.parametrize("name", ["MMVAE", "MoPoE", "MVTCAE", "MVAEQ", "BiVCCA"])
def test_every_model_of_experts_takes_covariates(name: str) -> None:
    made, data = model(of=getattr(mvae, name)), rows(8)
    mvae.fit(made, data, epochs=1, batch_size=4, callbacks=[])
    assert made.predict(data, of="rna", covariates={"batch": "b2"}).shape == (8, 3)
    assert name in {path.partition(":")[2] for path in MODELS.values()}


def test_models_and_networks_without_covariates_refuse_them() -> None:
    with pytest.raises(SettingsError, match="TELBO takes no covariates"):
        model(of=mvae.TELBO)
    with pytest.raises(SettingsError, match="no network takes the covariates"):
        model("none")


def test_a_model_with_covariates_is_saved_and_loaded(tmp_path) -> None:
    made, data = model(), rows(8)
    mvae.fit(made, data, epochs=1, callbacks=[])
    mvae.save(made, tmp_path / "m.mvae")
    again = mvae.load(tmp_path / "m.mvae", model())
    expected: Tensor = made.posterior(data).mean
    torch.testing.assert_close(again.posterior(data).mean, expected)


def test_every_evaluation_uses_the_covariates_of_its_rows() -> None:
    made, data = model(), rows(200)
    mvae.fit(made, data, epochs=5, batch_size=10, callbacks=[])
    swapped = data | {"batch": np.where(data["batch"] == "b1", "b2", "b1")}
    label = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(0))

    def classifier(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], x[:, 0].mean().expand(len(x))], 1)

    def measured(data: dict[str, Any]) -> list[float]:
        without = {name: column for name, column in data.items() if name != "protein"}
        filled = torch.as_tensor(mvae.impute(made, without, samples=20, draws=2).table["protein"])
        coherence = coherence_by_number(made, {"protein": classifier}, data, label, numbers=[1]).by_number[1]
        linear = linear_accuracy_by_number(made, (data, label), (data, label), numbers=[1])[1]
        return [
            float(filled.sum()),
            coherence,
            linear,
            frechet_to_data(made, torch.nn.Identity(), data, "protein", ["rna"]),
        ]

    assert all(own != other for own, other in zip(measured(data), measured(swapped), strict=True))


def test_an_unlisted_category_is_named_for_any_container() -> None:
    for cells in (["b1", "b9"], np.array(["b1", "b9"]), np.array(["b1", "b9"], object)):
        with pytest.raises(DataError, match="row 1: the category 'b9' is not among"):
            Covariate(["b1", "b2"]).codes(cells)


def test_booleans_are_two_categories() -> None:
    data = rows()
    treated = data["batch"] == "b1"
    for covariate in (Covariate(2), Covariate([False, True])):
        made = model(batch=covariate, age=Covariate())
        mvae.fit(made, data | {"batch": treated}, epochs=1, callbacks=[])
        as_codes = made.posterior(data | {"batch": torch.from_numpy(treated).long()}).mean
        torch.testing.assert_close(made.posterior(data | {"batch": treated}).mean, as_codes)


@pytest.mark.parametrize(
    ("covariate", "values", "message"),
    [
        (Covariate(["b1", "b2"], unknown=True), np.array([0, 1]), "holds numbers, its categories are text .b1, b2."),
        (Covariate([10, 20], unknown=True), ["10", "20"], "holds text, its categories are numbers .10, 20."),
        (Covariate(), ["old", "young"], "dtype <U5; real numbers"),
        (Covariate(), [50.0, None], "dtype object; real numbers"),
        (Covariate(), np.ma.masked_equal([50.0, -1.0], -1), "row 1: it is needed in every row"),
    ],
)
def test_values_of_the_wrong_type_are_refused(covariate: Covariate, values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        covariate.codes(values, "told")


def test_byte_strings_are_read_as_text() -> None:
    data = np.array(["b2", "b1", "b9"]).astype("S")
    assert Covariate(["b1", "b2"], unknown=True).codes(data).tolist() == [1, 0, -1]
    with pytest.raises(DataError, match=r"row 2: the category 'b9' is not among b1, b2"):
        Covariate(["b1", "b2"]).codes(data)


def test_a_category_may_be_given_by_its_code_as_a_tensor() -> None:
    made, data = model(), rows(4)
    named, coded = (made.predict(data, of="rna", covariates={"batch": b}) for b in ("b2", torch.tensor(1)))
    assert torch.equal(named, coded)
    with pytest.raises(DataError, match="codes 0 to 1 of b1, b2 are needed"):
        made.predict(data, of="rna", covariates={"batch": torch.tensor(2)})


@pytest.mark.parametrize("listed", [np.array, pd.Index, lambda names: pd.Series(names).unique(), iter])
def test_categories_may_be_any_list_array_or_index(listed: Any) -> None:
    assert Covariate(listed(["b1", "b2"])).codes(["b2", "b1"]).tolist() == [1, 0]


def test_fewer_than_two_different_categories_are_refused() -> None:
    wrong: Any
    with unchecked():
        assert Covariate(np.int64(2)).width == 2  # pyright: ignore[reportArgumentType]
    for wrong in (["b1"], pd.Series(["b1", "b2", "b1"]), np.array([]), 1):
        with unchecked(), pytest.raises(SettingsError, match="at least two categories, each listed once"):
            Covariate(wrong)
    for wrong in ("b1", 2.5):
        with unchecked(), pytest.raises(SettingsError, match="a covariate's categories are a list of names, not"):
            Covariate(wrong)


def test_other_batch_is_one_value_for_all_rows() -> None:
    for wrong in ({"batch": ["b1"] * 4}, {"batch": np.array(["b1"] * 4)}, {"age": [40.0] * 4}):
        (name,) = wrong
        with pytest.raises(QueryError, match=rf"covariates\['{name}'\] is one value for all rows, not .*with the data"):
            model().predict(rows(4), of="rna", covariates=wrong)
