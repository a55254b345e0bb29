"""A modality of columns with a mask per value: closed forms, the user's units, no influence of missing values."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributions, nn

import mvae
from mvae.data.fields import Field
from mvae.errors import DataError, SettingsError
from mvae.modality.augment import Hide
from mvae.modality.columns import ColumnsModality
from mvae.modality.field_scaling import FieldScaling
from mvae.networks.columns import ColumnFeatures
from mvae.runs.config import Config
from mvae.testing import check_modality

FIELDS = [
    Field("real"),
    Field("heavy", family="student"),
    Field("positive", "positive"),
    Field("bounded", "bounded", low=-2.0, high=10.0),
    Field("day", "date"),
    Field("count", "count"),
    Field("rare", "count", family="poisson"),
    Field("binary", "binary"),
    Field("kind", "categorical", classes=3),
    Field("also", "categorical", classes=3),
    Field("town", "categorical", classes=40),
    Field("stage", "ordinal", classes=4),
]
LATENT = 3


def values(rows: int, seed: int = 0) -> Tensor:
    """Valid values of every field, in its own unit."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, generator=g).double()
    noise = torch.randn(rows, len(FIELDS), generator=g).double()
    whole = [torch.randint(0, k, (rows,), generator=g).double() for k in (2, 3, 3, 40, 4)]
    return torch.stack(
        [
            400 + 30 * z,
            z + noise[:, 1],
            (2 + z + 0.3 * noise[:, 2]).exp(),
            -2 + 12 * (z + noise[:, 3]).sigmoid(),
            1.7e9 + 1e7 * z,
            torch.poisson((1 + z).exp(), generator=g),
            torch.poisson(torch.ones(rows).double(), generator=g),
            *whole,
        ],
        1,
    )


def holes(rows: int, seed: int = 1) -> Tensor:
    observed = torch.rand(rows, len(FIELDS), generator=torch.Generator().manual_seed(seed)) < 0.6
    observed[:, 0] |= ~observed.any(1)
    return observed


def modality(**options: object) -> ColumnsModality:
    torch.manual_seed(0)
    return ColumnsModality.of(FIELDS, LATENT, [16], **options)


def table(rows: int = 60, fill: float = math.nan) -> mvae.Table:
    observed = holes(rows)
    return mvae.Table({"t": torch.where(observed, values(rows), fill)}, {"t": observed})


def fitted() -> ColumnsModality:
    own = modality()
    own.fit_scaling(table(), "t")
    with torch.no_grad():
        for p in own.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return own.eval()


# -- The contract ------------------------------------------------------------------------------------------------


def test_columns_satisfy_the_contract_of_a_modality() -> None:
    check_modality(fitted(), values(7), LATENT)
    check_modality(modality(), values(7), LATENT)


def test_every_field_has_the_density_of_its_family_in_the_users_units() -> None:
    """The reference uses torch.distributions and SciPy, one row and field at a time, in float64."""
    stats = pytest.importorskip("scipy.stats")
    own = fitted().double()
    x, z = values(5, seed=3), torch.randn(5, LATENT).double()
    params = own.parameters_of(z).detach() + own.likelihood.offset
    scores = own.likelihood.elementwise(params - own.likelihood.offset, own.prepare(x))
    scores = (scores + own.scaling.log_slope(own.prepare(x))).detach()
    at = {i: (group, k) for group in own.likelihood.groups for k, i in enumerate(group.fields)}
    families = dict(zip(own.likelihood.groups, own.likelihood.families, strict=True))
    m, s = own.scaling.mean, own.scaling.std
    for i, field in enumerate(FIELDS):
        group, k = at[i]
        family: Any = families[group]
        first = group.first + k * group.per_value
        mine = params[:, first : first + group.per_value]
        scale = s[i] * family.log_s[k].exp().item() if hasattr(family, "log_s") else 0.0
        for row in range(5):
            value, p = x[row, i].item(), mine[row]
            location = (m[i] + s[i] * p[0]).item()
            match field.kind, field.family:
                case "real" | "date", "gaussian":
                    expected = stats.norm(location, scale).logpdf(value)
                case "real", "student":
                    expected = stats.t(family.freedom[k].item(), location, scale).logpdf(value)
                case "positive", _:
                    expected = stats.lognorm(scale, scale=math.exp(location)).logpdf(value)
                case "bounded", _:
                    share = 5e-4 + (1 - 1e-3) * (value + 2) / 12
                    slope = math.log((1 - 1e-3) / 12 / share / (1 - share))
                    expected = stats.norm(location, scale).logpdf(math.log(share / (1 - share))) + slope
                case "count", "poisson":
                    expected = stats.poisson(p[0].exp().item()).logpmf(value)
                case "count", _:
                    theta = family.log_theta[k].exp().item()
                    expected = stats.nbinom(theta, theta / (theta + p[0].exp().item())).logpmf(value)
                case "binary", _:
                    expected = stats.bernoulli(p[0].sigmoid().item()).logpmf(value)
                case "categorical", _:
                    expected = distributions.Categorical(logits=p).log_prob(x[row, i]).item()
                case _:
                    below = stats.logistic(p[0].item(), family.log_scale[k].exp().item()).cdf(family.cuts[k].tolist())
                    below = [0.0, *below, 1.0]
                    expected = math.log(below[int(value) + 1] - below[int(value)])
            assert scores[row, i].item() == pytest.approx(expected, rel=1e-5, abs=1e-5), field


def test_generated_values_stay_near_the_training_range() -> None:
    """Even if a decoder goes far beyond it; training values pass unchanged."""
    own, x = modality(), values(200)
    own.fit_scaling(mvae.Table({"t": x}), "t")
    assert torch.equal(own.scaling.near_training(x), x)
    numbers = [i for i, field in enumerate(FIELDS) if field.kind not in ("binary", "categorical", "ordinal")]
    least, most = own.scaling._transformed(x).aminmax(dim=0)
    far = 1e3 * torch.randn(50, 200, LATENT, generator=torch.Generator().manual_seed(0))
    own.stretch.fill_(2.0)
    stretched = own.scaling.near_training(own.stretched(own.generate(far), torch.zeros(200, len(FIELDS))))
    for found in (own.generate(far, mean=True), own.generate(far), stretched):
        t = own.scaling._transformed(found.double())
        beyond = (torch.maximum(t - most, least - t) / (most - least))[..., numbers].amax((0, 1))
        whole = torch.tensor([FIELDS[i].kind == "count" for i in numbers])  # rounded outwards
        assert (beyond[~whole] <= 0.1 + 1e-5).all()
        assert (beyond[whole] < 0.25).all()
        assert found[..., 4].std() > 0  # a date


def test_the_range_grows_with_later_training_and_is_unbounded_if_unknown() -> None:
    own = mvae.Columns.of(["a", "b"], latent_dim=2)
    assert own.scaling.near_training(torch.tensor([[1e9, -1e9]])).tolist() == [[1e9, -1e9]]
    first = torch.linspace(0.0, 10.0, 20).double()[:, None].repeat(1, 2)
    only_a = torch.tensor([True, False]).expand(20, 2)
    own.fit_scaling(mvae.Table({"t": first}, {"t": only_a}), "t")
    mean = own.scaling.mean.clone()
    assert own.scaling.near_training(torch.tensor([[1e9, -1e9]])).tolist() == [[11.0, -1e9]]
    own.fit_scaling(mvae.Table({"t": first + 10}), "t")
    assert own.scaling.near_training(torch.tensor([[1e9, -1e9]])).tolist() == [[22.0, 9.0]]
    assert torch.equal(own.scaling.mean, mean)


@pytest.mark.parametrize(("lowest", "least"), [(0.0, 0.0), (3.0, 2.3), (-1.0, -2.1)])
def test_a_real_field_without_negative_numbers_is_never_negative(lowest: float, least: float) -> None:
    scaling = FieldScaling([Field("rain")])
    scaling.fit(mvae.Table({"t": torch.linspace(lowest, 10.0, 50).double()[:, None]}), "t")
    found = scaling.near_training(torch.tensor([[-1e9], [5.0], [1e9]]))
    torch.testing.assert_close(found[:2], torch.tensor([[least], [5.0]]))
    assert found[2] == pytest.approx(10 + (10 - lowest) / 10)
    mirrored = FieldScaling([Field("loss")])
    mirrored.fit(mvae.Table({"t": torch.linspace(-10.0, -lowest, 50).double()[:, None]}), "t")
    assert torch.equal(mirrored.near_training(torch.tensor([[1e9], [-5.0], [-1e9]])), -found)


def test_log_p_is_the_sum_over_observed_values() -> None:
    own = fitted().double()
    x, observed, z = values(6), holes(6), torch.randn(2, 6, LATENT).double()
    each = own.likelihood.elementwise(own.parameters_of(z), own.prepare(x)) + own.scaling.log_slope(own.prepare(x))
    found = own.log_prob(own.prepare(x, observed), z)
    torch.testing.assert_close(found, (each * observed).sum(-1))


def test_means_and_samples_are_in_the_users_units() -> None:
    own = fitted()
    z = torch.zeros(1, LATENT)
    draws = own.generate(z.expand(40_000, 1, LATENT), generator=torch.Generator().manual_seed(0))[:, 0]
    bad, _ = own.scaling.invalid_values(draws)
    assert not bad.any()
    point = own.generate(z, mean=True)[0]
    for i, field in enumerate(FIELDS):
        if field.kind in ("binary", "categorical", "ordinal"):
            assert point[i] == draws[:, i].mode().values
        else:
            error = draws[:, i].std().item() / 200
            assert point[i].item() == pytest.approx(draws[:, i].mean().item(), abs=5 * error), field


def test_a_decoder_of_zeros_predicts_the_frequencies_of_training() -> None:
    own, x = modality(), values(4000)
    own.fit_scaling(mvae.Table({"t": x}), "t")
    params = torch.zeros(1, own.likelihood.size)
    p = own.likelihood.probabilities(params)
    for name, classes in (("binary", 2), ("kind", 3), ("town", 40), ("stage", 4)):
        i = own.names.index(name)
        share = torch.bincount(x[:, i].long(), minlength=classes) / len(x)
        torch.testing.assert_close(p[name][0].detach().double(), share.double(), atol=1e-3, rtol=0)
    assert own.likelihood.numbers(params)[0, 5].item() == pytest.approx(x[:, 5].mean().item(), rel=1e-2)


# -- Missing values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, -1.0, 1e30, math.inf, 39.0])
def test_no_missing_value_influences_a_statistic_a_gradient_or_an_output(fill: float) -> None:
    def everything(data: mvae.Table) -> list[Tensor]:
        own = modality(augment=Hide(0.0))
        model = mvae.MVAE({"t": own}, LATENT)
        history = mvae.fit(model, data, epochs=2, batch_size=16, validation=data, callbacks=[])
        found = [*model.state_dict().values(), torch.tensor(history.epochs[-1]["validation/objective"])]
        model(data, generator=torch.Generator().manual_seed(0)).loss.backward()
        found += [p.grad for p in model.parameters() if p.grad is not None]
        found += [model.posterior(data).mean, model.generate(data, n=2, seed=0)["t"], model.predict(data, "t")]
        return [*found, mvae.log_likelihood(model, data, ["t"], samples=20).values]

    for one, other in zip(everything(table(fill=math.nan)), everything(table(fill=fill)), strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)


def test_statistics_are_those_of_the_observed_values() -> None:
    own, observed, x = modality(), holes(3000), values(3000)
    own.fit_scaling(mvae.Table({"t": torch.where(observed, x, 1e30)}, {"t": observed}), "t")
    for i, transform in ((0, lambda v: v), (2, torch.log), (5, torch.log1p), (11, lambda v: v)):
        seen = transform(x[observed[:, i], i])
        assert own.scaling.mean[i].item() == pytest.approx(seen.mean().item(), rel=1e-9)
        assert own.scaling.std[i].item() == pytest.approx(seen.std(correction=0).item(), rel=1e-9)


def test_hidden_values_are_scored_and_not_encoded() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    hidden = Hide(0.5)(x.expand(2000, 2, 3), torch.Generator().manual_seed(0)).isnan()
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.02)
    own = modality(augment=Hide(0.999999)).train()
    prepared = own.prepare(values(4))
    nothing = torch.full_like(prepared, math.nan)
    torch.testing.assert_close(own.expert_parameters(prepared), own.expert_parameters(nothing))
    assert own.log_prob(prepared, torch.zeros(4, LATENT)).abs().min() > 0


def test_other_modalities_refuse_single_missing_values() -> None:
    model = mvae.MVAE({"t": mvae.Modality(nn.Linear(2, 4), nn.Linear(2, 2), "gaussian")}, 2)
    data = mvae.Table({"t": torch.zeros(2, 2)}, {"t": torch.tensor([[True, False], [True, True]])})
    for call in (model.posterior, lambda d: mvae.fit(model, d, epochs=1, callbacks=[]), model):
        with pytest.raises(DataError, match='kind = "columns"'):
            call(data)
    assert model.posterior(data[1:].select(["t"])).mean.shape == (1, 2)  # nothing is missing in these rows


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("real", math.nan, "finite numbers in the field 'real'"),
        ("positive", 0.0, "numbers > 0 in the field 'positive'"),
        ("bounded", 10.1, "numbers from -2 to 10 in the field 'bounded'"),
        ("count", 1.5, "whole numbers ≥ 0 in the field 'count'"),
        ("binary", 2.0, "0 or 1 in the field 'binary'"),
        ("stage", 4.0, "class numbers 0 to 3 in the field 'stage'"),
    ],
)
def test_invalid_observed_values_are_refused_by_row_and_field(name: str, value: float, says: str) -> None:
    x, observed = values(4), torch.ones(4, len(FIELDS), dtype=torch.bool)
    observed[1, 1] = False
    x[2, modality().names.index(name)] = value
    with pytest.raises(DataError, match=f"modality 't', row 2: {says}"):
        mvae.MVAE({"t": modality()}, LATENT).posterior(mvae.Table({"t": x}, {"t": observed}))


# -- A linear-Gaussian model, in closed form ---------------------------------------------------------------------


class Exact(nn.Module):
    """The exact expert of x = Wz + noise given the observed values, each of which depends on one latent."""

    def __init__(self, w: Tensor, variance: Tensor):
        super().__init__()
        self.w, self.variance = nn.Parameter(w), variance

    def forward(self, features: Tensor) -> Tensor:
        x, here = features.chunk(2, -1)
        precision = (here / self.variance) @ self.w.square()
        mean = (here * x / self.variance) @ self.w / precision.clamp(min=1e-30)
        return torch.cat([mean, -precision.clamp(min=1e-8).log()], -1)


def linear_gaussian(w: Tensor, sd: Tensor, encoder: nn.Module) -> mvae.MVAE:
    decoder = nn.Linear(w.shape[1], len(w), bias=False).double()
    decoder.weight.data = w
    own = ColumnsModality([f"x{i}" for i in range(len(w))], encoder, decoder)
    own.likelihood.families[0].log_scale.data = sd.log()  # pyright: ignore[reportAttributeAccessIssue]
    return mvae.MVAE({"x": own}, w.shape[1]).double().eval()


def test_the_posterior_of_any_observed_cells_matches_the_closed_form() -> None:
    torch.manual_seed(0)
    w, sd = torch.zeros(6, 2).double(), torch.rand(6).double() + 0.3
    w[torch.arange(6), torch.arange(6) % 2] = torch.randn(6).double()
    model = linear_gaussian(w, sd, Exact(w, sd.square()))
    x, observed = torch.randn(40, 6).double(), torch.rand(40, 6) < 0.5
    observed[:, 0] |= ~observed.any(1)
    q = model.posterior(mvae.Table({"x": x}, {"x": observed}))
    for row in range(40):
        here = observed[row]
        precision = torch.eye(2).double() + w[here].T @ torch.diag(sd[here] ** -2) @ w[here]
        mean = torch.linalg.solve(precision, w[here].T @ (x[row, here] / sd[here].square()))
        torch.testing.assert_close(q.mean[row], mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(q.variance[row], precision.inverse().diag(), atol=1e-5, rtol=1e-4)


def test_log_p_of_any_observed_cells_matches_the_closed_form() -> None:
    """A dense W, and a proposal that is neither the posterior nor centred on it."""
    torch.manual_seed(1)
    w, sd = torch.randn(5, 2).double(), torch.rand(5).double() + 0.7

    class Wide(Exact):
        def forward(self, features: Tensor) -> Tensor:
            return super().forward(features) + torch.tensor([0.1, -0.1, 0.3, 0.3]).double()

    model = linear_gaussian(w, sd, Wide(w, sd.square()))
    x, observed = torch.randn(12, 5).double(), torch.rand(12, 5) < 0.6
    observed[:, 0] |= ~observed.any(1)
    found = mvae.log_likelihood(model, mvae.Table({"x": x}, {"x": observed}), ["x"], samples=100_000).values
    for row in range(12):
        here = observed[row]
        covariance = w[here] @ w[here].T + torch.diag(sd[here].square())
        expected = distributions.MultivariateNormal(torch.zeros(int(here.sum())).double(), covariance)
        assert found[row].item() == pytest.approx(expected.log_prob(x[row, here]).item(), abs=0.01)


# -- Saving, declaring -------------------------------------------------------------------------------------------

DECLARED = [{k: v for k, v in vars(field).items() if v is not None} for field in FIELDS]


def declared() -> mvae.Config:
    parts = {"t": {"kind": "columns", "fields": DECLARED, "augment": [{"name": "hide", "share": 0.2}]}}
    return Config.from_dict({"data": {"source": "x.csv"}, "model": {"latents": LATENT}, "modalities": parts})


def test_a_declared_model_is_saved_with_its_scales_and_frequencies(tmp_path: Path) -> None:
    model = mvae.build(declared())
    assert isinstance(model.modalities["t"], ColumnsModality)
    assert model.modalities["t"].augment == (Hide(0.2),)
    mvae.fit(model, table(), epochs=1, callbacks=[])
    mvae.save(model, tmp_path / "model")
    again = mvae.load(tmp_path / "model")
    for call in (lambda m: m.posterior(table()).mean, lambda m: m.generate(table(), seed=0)["t"]):
        assert torch.equal(call(model), call(again))
    one, other = (mvae.log_likelihood(m, table(), ["t"], samples=20).values for m in (model, again))
    assert torch.equal(one, other)


def test_a_resumed_training_is_bitwise_identical(tmp_path: Path) -> None:
    whole, halves = (mvae.MVAE({"t": modality()}, LATENT) for _ in range(2))
    mvae.fit(whole, table(), epochs=4, batch_size=16, callbacks=[])
    mvae.fit(halves, table(), epochs=2, batch_size=16, callbacks=[], run_dir=tmp_path)
    torch.manual_seed(0)
    resumed = mvae.MVAE({"t": modality()}, LATENT)
    mvae.fit(resumed, table(), epochs=4, batch_size=16, callbacks=[], run_dir=tmp_path, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"name": "a", "kind": "reel"}, "no kind 'reel'.*real"),
        ({"name": "a", "kind": "ordinal"}, "needs classes"),
        ({"name": "a", "kind": "bounded", "low": 1.0}, "low < high"),
        ({"name": "a", "family": "poisson"}, "gaussian or student"),
        ({"name": "a", "unit": "kg"}, "no 'unit'"),
    ],
)
def test_invalid_fields_are_refused(field: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        ColumnsModality.of([field], 2)
    with pytest.raises(SettingsError, match="two fields are named 'a'"):
        ColumnsModality.of(["a", "a"], 2)


def test_features_are_finite_and_of_the_declared_size() -> None:
    features = ColumnFeatures(FIELDS)
    x = torch.where(holes(9), values(9), math.nan)
    found = features(x.float(), x.float())
    assert found.shape == (9, features.size)
    assert found.isfinite().all()


def test_features_of_each_kind_are_those_of_a_loop_over_rows() -> None:
    fields = [
        Field("d", "date"),
        Field("a", "categorical", classes=3),
        Field("x"),
        Field("b", "categorical", classes=2),
        Field("e", "date"),
        Field("many", "categorical", classes=40),
    ]
    features = ColumnFeatures(fields)
    x = torch.tensor(
        [[1.0e8, 2, -50, 0, 2.0e9, 39], [math.nan, 0, 0.5, 1, 7.0e7, math.nan], [0, math.nan, *[math.nan] * 4]]
    )
    weight = features.get_parameter("embeddings.0.weight")

    def waves(seconds: float) -> list[float]:
        turns = [2 * math.pi * math.fmod(seconds / period, 1) for period in (365.2425 * 86400, 7 * 86400, 86400)]
        return [f(turn) for f in (math.sin, math.cos) for turn in turns]

    expected = []
    for d, a, value, b, e, many in x.tolist():
        row = [0.0 if math.isnan(n) else max(-10.0, min(10.0, n)) for n in (d, value, e)]
        for seconds in (d, e):
            row += [0.0] * 6 if math.isnan(seconds) else waves(seconds)
        row += [float(a == k) for k in range(3)] + [float(b == k) for k in range(2)]
        row += [0.0] * weight.shape[1] if math.isnan(many) else weight[int(many)].tolist()
        expected.append([*row, *(float(not math.isnan(n)) for n in (d, a, value, b, e, many))])
    torch.testing.assert_close(features(x, x).double(), torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)


def test_means_of_bounded_fields_are_those_of_many_draws() -> None:
    fields = [Field("x"), Field("p", "bounded", low=0.0, high=1.0), Field("q", "bounded", low=-2.0, high=6.0)]
    scaling = FieldScaling(fields)
    scaling.fit(mvae.Table({"t": torch.tensor([[1.0, 0.2, 5.5], [3.0, 0.6, -1.0], [2.0, 0.9, 2.0]])}), "t")
    mean, spread = torch.tensor([[0.3, -0.5, 1.0]]), torch.tensor([0.5, 0.7, 1.1])
    draws = mean + spread * torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    expected = scaling.in_units(draws).mean(0, keepdim=True)
    torch.testing.assert_close(scaling.mean_in_units(mean, spread), expected, atol=0.02, rtol=0)


def test_means_are_the_point_for_numbers_and_0_for_classes() -> None:
    own = ColumnsModality.of(FIELDS, LATENT)
    own.fit_scaling(mvae.Table({"t": values(50)}), "t")
    params = own.parameters_of(torch.randn(4, 5, LATENT, generator=torch.Generator().manual_seed(0))).detach()
    numbers = torch.tensor([not field.classes and field.kind != "binary" for field in FIELDS])
    assert torch.equal(own.means(params), torch.where(numbers, own.point(params), 0.0))
