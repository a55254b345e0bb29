"""Queries that every model answers or refuses, tested on an MVAE."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp

LATENT = 3


@pytest.fixture
def model() -> MVAE:
    """Images of 28×28 with flat networks, and one of ten labels."""
    image = Modality(mlp(784, 2 * LATENT, [5]), mlp(LATENT, 784, [5]), likelihoods.Bernoulli())
    label = Modality(LabelEncoder(10, 2 * LATENT, hidden=5), mlp(LATENT, 10, [5]), likelihoods.Categorical())
    return MVAE({"image": image, "label": label}, LATENT, cross_from=())


def images(rows: int) -> Tensor:
    return torch.rand(rows, 28, 28)


# -- Construction ------------------------------------------------------------------------------------------------


def test_model_needs_modalities_latents_and_names() -> None:
    part = Modality(mlp(2, 4, []), mlp(2, 2, []), likelihoods.Gaussian())
    with pytest.raises(SettingsError, match="at least one modality"):
        MVAE({}, 2, cross_from=())
    with pytest.raises(SettingsError, match="latent_dim must be at least 1, not 0"):
        MVAE({"x": part}, 0, cross_from=())
    with pytest.raises(SettingsError, match="a modality's name must be a non-empty string, not ''"):
        MVAE({"": part}, 2)


ANY = ["full", "random 1", "a|b", "a.b", "a%2Eb", "type", "training", "values", "full to all", " ", "_modules", "é/\n"]


def test_networks_of_mixed_precision_are_refused() -> None:
    parts = {name: Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), likelihoods.Gaussian()) for name in "ab"}
    model, table = MVAE(parts, 2), Table({"a": torch.randn(4, 3), "b": torch.randn(4, 3)})
    parts["b"].double()
    with pytest.raises(SettingsError, match="the networks of b are of float64, and others are not"):
        model.posterior(table)
    assert model.double().posterior(table).mean.dtype == torch.float64


def test_any_modality_name_is_allowed() -> None:
    """Names of terms, attributes of PyTorch modules, and separators used elsewhere."""
    torch.manual_seed(0)
    parts = {name: Modality(nn.Linear(1, 4), nn.Linear(2, 1), likelihoods.Gaussian()) for name in ANY}
    model = MVAE(parts, 2, random_subsets=1, cross_from=["full"], cross_share=0.5)
    plain = MVAE({f"x{i}": part for i, part in enumerate(parts.values())}, 2, 1, cross_from=["x0"], cross_share=0.5)
    assert model.names == tuple(ANY)
    assert all(model.modalities[name] is part for name, part in parts.items())
    table = Table({f"x{i}": torch.randn(4, 1) for i in range(len(ANY))})
    renamed = Table({name: table.columns[f"x{i}"] for i, name in enumerate(ANY)})
    found, expected = (
        built(data, generator=torch.Generator().manual_seed(1)) for built, data in ((model, renamed), (plain, table))
    )
    assert found.loss == expected.loss
    assert len(set(found.parts)) == len(found.parts)
    assert torch.equal(model.posterior(renamed, ["a.b"]).mean, plain.posterior(table, ["x3"]).mean)
    assert list(model.generate(renamed, of=["type"])) == ["type"]
    state = model.state_dict()
    assert len(state) == len(plain.state_dict())
    model.load_state_dict(state)
    assert "_modalities.full.encoder.weight" in state


def test_modalities_mapping_is_read_only(model: MVAE) -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.modalities["label"] = model.modalities["image"]  # pyright: ignore[reportIndexIssue]
    assert list(copy.deepcopy(model).modalities) == ["image", "label"]


def test_model_without_combination_rule_is_refused() -> None:
    part = Modality(mlp(2, 4, []), mlp(2, 2, []), likelihoods.Gaussian())
    with pytest.raises(TypeError, match="does not say how experts combine"):
        MultimodalVAE({"x": part}, 2).posterior({"x": torch.zeros(1, 2)})


def test_names_and_weights_keep_their_order() -> None:
    parts = {
        n: Modality(nn.Linear(1, 2), nn.Linear(1, 1), likelihoods.Gaussian(), w) for n, w in (("z", 1.0), ("a", 50.0))
    }
    model = MVAE(parts, 1, cross_from=())
    assert model.names == ("z", "a")
    assert model.weights == (1.0, 50.0)


# -- Posteriors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 25])
def test_posterior_has_one_row_per_data_row(model: MVAE, rows: int) -> None:
    labels = torch.randint(0, 10, (rows,))
    for data in ({"image": images(rows)}, {"label": labels}, {"image": images(rows), "label": labels}):
        q = model.posterior(data)
        assert q.mean.shape == q.variance.shape == (rows, LATENT)
        assert not q.mean.requires_grad


def test_posterior_uses_only_given_modalities(model: MVAE) -> None:
    x, labels = images(4), torch.tensor([3, 1, 4, 1])
    both = {"image": x, "label": labels}
    torch.testing.assert_close(model.posterior(both, given=["image"]).mean, model.posterior({"image": x}).mean)
    torch.testing.assert_close(model.posterior(both, given=["label"]).mean, model.posterior({"label": labels}).mean)
    assert not torch.allclose(model.posterior(both).mean, model.posterior(both, given=["label"]).mean)


def test_rows_without_given_modalities_get_prior(model: MVAE) -> None:
    has = torch.tensor([True, False, True])
    table = Table({"image": images(3), "label": torch.tensor([1, -1, 2])}, {"label": has})
    q = model.posterior(table, given=["label"])
    assert (q.mean[1].tolist(), q.variance[1].tolist()) == ([0.0] * LATENT, [1.0] * LATENT)
    assert (q.variance[has] < 1).all()
    nothing = model.posterior(table, given=[])
    assert torch.equal(nothing.mean, torch.zeros(3, LATENT))
    assert torch.equal(nothing.variance, torch.ones(3, LATENT))


def test_table_may_miss_modalities_or_have_unknown_columns(model: MVAE) -> None:
    x = images(3)
    table = Table({"sound": torch.zeros(3, 2), "image": x})
    torch.testing.assert_close(model.posterior(table).mean, model.posterior({"image": x}).mean)
    assert model(table).loss.isfinite()


def test_arrays_and_lists_are_accepted_as_data(model: MVAE) -> None:
    flat = np.random.default_rng(0).random((4, 784))
    as_array = model.posterior({"image": flat, "label": [7, 0, 1, 9]})
    as_tensor = model.posterior({"image": torch.from_numpy(flat).float(), "label": torch.tensor([7, 0, 1, 9])})
    torch.testing.assert_close(as_array.mean, as_tensor.mean)
    assert model(Table({"image": flat})).loss.isfinite()


def test_flat_networks_accept_images_of_any_shape(model: MVAE) -> None:
    x = images(4)
    noise = torch.randn(1, 4, LATENT)
    flat, square, channel = (
        model(Table({"image": x.reshape(4, *shape)}), noise=noise) for shape in ((784,), (28, 28), (1, 28, 28))
    )
    assert flat.loss == square.loss == channel.loss
    model.check(Table({"image": x}))


def test_queries_use_evaluation_mode_and_restore_modes(model: MVAE) -> None:
    model.modalities["image"].encoder = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(), nn.Linear(784, 6)
    )
    model.modalities["label"].eval()  # frozen by its user
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = {"image": images(5)}
    assert torch.equal(model.posterior(x).mean, model.posterior(x).mean)  # dropout would differ
    model.generate(x)
    model.check(Table(x))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    model.eval()
    model.generate(x)
    assert not any(module.training for module in model.modules())


# -- Generating --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("n", [1, 6])
def test_generate_gives_n_samples_per_modality_and_row(model: MVAE, rows: int, n: int) -> None:
    made = model.generate({"label": torch.zeros(rows, dtype=torch.int64)}, n=n)
    assert {name: tuple(x.shape) for name, x in made.items()} == {"image": (n, rows, 784), "label": (n, rows)}
    assert made["label"].dtype == torch.int64
    means = model.generate({"label": torch.zeros(rows, dtype=torch.int64)}, of=["label"], n=n, mean=True)
    assert {name: tuple(x.shape) for name, x in means.items()} == {"label": (n, rows, 10)}


def test_generate_without_data_samples_prior(model: MVAE) -> None:
    made = model.generate(of=["image"], n=8, generator=torch.Generator().manual_seed(0))
    assert made["image"].shape == (8, 1, 784)
    z = torch.randn(8, 1, LATENT, generator=torch.Generator().manual_seed(0))
    means = model.generate(of=["image"], n=8, mean=True, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(means["image"], model.modalities["image"].decoder(z[:, 0]).sigmoid()[:, None])


def test_generated_modalities_share_their_latent() -> None:
    """Here x1 and x2 are copies of z, so a pair that differs did not come from one z."""
    echo = {name: Modality(nn.Linear(1, 2), nn.Identity(), likelihoods.Gaussian(1e-6)) for name in ("x1", "x2")}
    made = MVAE(echo, 1, cross_from=()).generate(n=50)
    torch.testing.assert_close(made["x1"], made["x2"], rtol=0, atol=1e-4)
    assert made["x1"].std() > 0.5


def test_generate_samples_posterior() -> None:
    layer = nn.Linear(1, 2)
    echo = MVAE({"x": Modality(layer, nn.Identity(), likelihoods.Gaussian(1e-6))}, 1, cross_from=())
    x = torch.tensor([[2.0], [-1.0]])
    q = echo.posterior({"x": x})
    made = echo.generate({"x": x}, n=4000, generator=torch.Generator().manual_seed(0))["x"]
    assert ((made.mean(0) - q.mean).abs() < 5 * q.stddev / math.sqrt(4000)).all()
    torch.testing.assert_close(made.var(0), q.variance, rtol=0.15, atol=0)


def test_generate_is_reproducible_with_generator(model: MVAE) -> None:
    one, same, other = (model.generate(n=3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in model.names)
    assert not torch.equal(one["image"], other["image"])


# -- Refusals ----------------------------------------------------------------------------------------------------


def test_unknown_modality_error_lists_names(model: MVAE) -> None:
    expected = re.escape("no modality 'sound' in this model; it has image, label")
    with pytest.raises(QueryError, match=expected):
        model.posterior({"sound": torch.zeros(2, 1)})
    with pytest.raises(QueryError, match=expected):
        model.posterior({"image": images(2)}, given=["sound"])
    with pytest.raises(QueryError, match=expected):
        model.generate(of=["image", "sound"])


def test_string_instead_of_list_of_names_is_refused(model: MVAE) -> None:
    with pytest.raises(QueryError, match=re.escape("name modalities in a list: ['image']")):
        model.generate(of="image")
    with pytest.raises(QueryError, match=re.escape("name modalities in a list: ['label']")):
        model.posterior({"label": [1]}, given="label")


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_sample_is_refused(model: MVAE, n: int) -> None:
    with pytest.raises(QueryError, match=f"must be at least 1, not {n}"):
        model.generate(n=n)


def test_table_without_model_modalities_is_refused(model: MVAE) -> None:
    table = Table({"sound": torch.zeros(2, 1)})
    for query in (model.check, model, model.posterior):
        with pytest.raises(DataError, match=r"the table \(sound\) and the model \(image, label\) have no modality"):
            query(table)


@pytest.mark.parametrize("chunk", [2, 3, 4096])
def test_check_names_modality_and_row_of_first_invalid_value(model: MVAE, chunk: int) -> None:
    x, labels = images(9), torch.arange(9)
    has = torch.arange(9) >= 3  # rows are counted in the table, not among those that have the label
    labels[:3], labels[6], labels[8] = -7, 10, -1
    with pytest.raises(DataError, match="modality 'label', row 6: class numbers 0 to 9 are needed"):
        model.check(Table({"image": x, "label": labels}, {"label": has}), chunk=chunk)
    x[7, 3, 3] = math.nan
    with pytest.raises(DataError, match=r"modality 'image', row 7: values in \[0, 1\] are needed"):
        model.check(Table({"image": x}), chunk=chunk)


def test_check_ignores_missing_cells(model: MVAE) -> None:
    x, labels = images(4), torch.tensor([0, 99, 3, 9])
    x[2] = math.nan
    rows = torch.arange(4)
    model.check(Table({"image": x, "label": labels}, {"image": rows != 2, "label": rows != 1}))
    model.check(Table({"image": x[:2], "label": labels[:2]}, {"label": torch.tensor([False, False])}))


def test_check_names_mismatched_modality(model: MVAE) -> None:
    with pytest.raises(DataError, match="modality 'image': the decoder gives 784 values per row"):
        model.check(Table({"image": torch.zeros(3, 100)}))
    with pytest.raises(DataError, match="modality 'label': class numbers must be integers"):
        model.check(Table({"label": torch.zeros(3)}))


def test_plain_data_is_checked_before_use(model: MVAE) -> None:
    for query in (model.posterior, model.generate):
        with pytest.raises(DataError, match="modality 'label', row 1: class numbers 0 to 9"):
            query({"label": [3, 10]})
        with pytest.raises(DataError, match="modality 'image', row 0"):
            query({"image": torch.full((1, 784), -1.0)})


def test_column_scale_is_declared_not_inferred_from_dtype() -> None:
    """Generated values have the same scale."""

    def model(**levels: int) -> MVAE:
        return MVAE({"x": Modality(mlp(3, 4), mlp(2, 3), likelihoods.Bernoulli(**levels))}, 2, cross_from=())

    column = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=torch.uint8)
    model().check(Table({"x": column}))
    model().check(Table({"x": column.bool()}))
    with pytest.raises(DataError, match=r"'x', row 0: values in \[0, 1\] .*Bernoulli\(levels=255\)"):
        model().check(Table({"x": column * 255}))
    pictures = model(levels=255)
    with pytest.raises(DataError, match=r"'x' holds nothing above 1, but its levels are 0 to 255"):
        pictures.check(Table({"x": column}))
    with pytest.raises(DataError, match=r"'x', row 1: levels 0 to 255 are needed"):
        pictures.check(Table({"x": torch.tensor([[0, 1, 255], [0, 256, 0]])}))
    pictures.check(Table({"x": column * 255}))
    pictures.check(Table({"x": torch.zeros_like(column)}))  # a black image
    z = torch.randn(5, 2)
    mean = pictures.modalities["x"].generate(z, mean=True)
    torch.testing.assert_close(mean, 255 * pictures.modalities["x"].decode(z).sigmoid())
    assert set(pictures.modalities["x"].generate(z).flatten().tolist()) <= {0.0, 255.0}
    same = [pictures.posterior({"x": x}).mean for x in (column * 255, column.float() * 255, column.long() * 255)]
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], same[2])
    label = MVAE({"y": Modality(LabelEncoder(2, 4), mlp(2, 2), likelihoods.Categorical())}, 2, cross_from=())
    label.check(Table({"y": torch.tensor([0, 1, 1], dtype=torch.uint8)}))
