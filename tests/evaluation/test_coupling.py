"""Coupling of modalities: constructed posteriors with known coupling and KL, an exact model, and the warnings."""

import math

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.evaluation.coupling import _constant_log_prob
from mvae.evaluation.coupling_warnings import coupling_warning, pairs_never_seen
from mvae.evaluation.validation import validate
from mvae.modality.base import Modality
from mvae.models.mmvm import MMVM
from mvae.models.mopoe import MoPoE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.networks.mlp import LabelEncoder, mlp
from tests.oracle import naive_kl

ROWS = 40


class OneLatentExpert(nn.Module):
    """An expert of the given precision about one latent, whose mean is the input; it knows nothing about the other."""

    def __init__(self, latent: int, precision: float):
        super().__init__()
        self.latent, self.precision = latent, precision

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = torch.zeros(len(x), 2).to(x.dtype), torch.full((len(x), 2), 20.0).to(x.dtype)
        mean[:, self.latent] = x.reshape(len(x), -1)[:, 0]
        log_var[:, self.latent] = -math.log(self.precision)
        return mean, log_var


def model_of(**experts: tuple[int, float]) -> MVAE:
    return MVAE(
        {
            name: Modality(OneLatentExpert(*expert), nn.Linear(2, 1).double(), likelihoods.Gaussian().double())
            for name, expert in experts.items()
        },
        2,
        cross_from=(),
    )


def column(rows: int = ROWS, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed)).double()


def kl_of(x: Tensor, precision: float) -> float:
    """Mean over rows of KL[N(Px/(1+P), 1/(1+P)), N(0, 1)]: the expert N(x, 1/P) times the prior."""
    mean, variance = precision * x / (1 + precision), torch.full_like(x, 1 / (1 + precision))
    return float(torch.stack([naive_kl(m, v) for m, v in zip(mean, variance, strict=True)]).mean())


# -- Coupling ------------------------------------------------------------------------------------------------------


def test_separate_latents_have_no_coupling() -> None:
    a, b = column(), column(seed=1)
    values = validate(model_of(a=(0, 9.0), b=(1, 3.0)), Table({"a": a, "b": b}))
    assert values["kl complete/a"] == pytest.approx(kl_of(a, 9.0), abs=1e-6)
    assert values["kl complete/b"] == pytest.approx(kl_of(b, 3.0), abs=1e-6)
    assert values["kl complete/full"] == pytest.approx(kl_of(a, 9.0) + kl_of(b, 3.0), abs=1e-6)
    assert values["coupling"] == pytest.approx(0, abs=1e-6)
    assert values["coupling/share"] == pytest.approx(0, abs=1e-6)


def test_a_shared_latent_is_fully_coupled() -> None:
    a = column()
    values = validate(model_of(a=(0, 1e7), b=(0, 3.0)), Table({"a": a, "b": a}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(1, abs=1e-5)


def test_coupling_of_three_modalities_adds_up() -> None:
    """a and b share a latent, c does not: of C_max = Σ KL − max KL only b's part is shared."""
    a, c = column(), column(seed=1)
    values = validate(model_of(a=(0, 1e7), b=(0, 3.0), c=(1, 5.0)), Table({"a": a, "b": a, "c": c}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(kl_of(a, 3.0) / (kl_of(a, 3.0) + kl_of(c, 5.0)), abs=1e-5)


def test_coupling_is_measured_on_complete_rows_only() -> None:
    model, a = model_of(a=(0, 9.0), b=(0, 3.0)), column()
    complete = validate(model, Table({"a": a, "b": a}))
    wild = Table(
        {"a": torch.cat([a, 50 + a]), "b": torch.cat([a, torch.full_like(a, math.nan)])},
        {"b": torch.arange(2 * ROWS) < ROWS},
    )
    mixed = validate(model, wild)
    for name in complete:
        if name.startswith(("coupling", "kl complete", "active", "log p")):
            assert mixed[name] == pytest.approx(complete[name]), name
    assert mixed["kl/a"] > complete["kl/a"] + 10  # the terms' own KLs average over every row that has them


def test_without_paired_rows_nothing_is_reported_about_pairs() -> None:
    x = column()
    first = torch.arange(ROWS) < 20
    values = validate(model_of(a=(0, 9.0), b=(0, 3.0)), Table({"a": x, "b": x}, {"a": first, "b": ~first}))
    assert not [name for name in values if name.startswith(("coupling", "kl complete", "log p", "gain"))]
    assert coupling_warning(values, ("a", "b")) is None
    assert all(math.isfinite(value) for value in values.values())


def test_an_absent_column_gives_no_metrics() -> None:
    values = validate(model_of(a=(0, 9.0), b=(0, 3.0)), Table({"a": column()}))
    assert not [name for name in values if "b" in name.split("/")]
    assert all(math.isfinite(value) for value in values.values())


def test_a_dead_expert_is_reported() -> None:
    values = validate(model_of(a=(0, 9.0), b=(1, 1e-4)), Table({"a": column(), "b": column(seed=1)}))
    assert values["kl complete/b"] == pytest.approx(kl_of(column(seed=1), 1e-4), abs=1e-6)
    assert values["dead/b"] == values["kl complete/b"]
    assert "dead/a" not in values
    assert "expert of b is dead" in str(coupling_warning(values, ("a", "b")))


def test_experts_of_a_mixture_that_agree_are_not_dead() -> None:
    """An MMVM's own KL is from the mixture of its experts, which is 0 where they are equal."""
    x, missing = column(), torch.arange(ROWS) % 3
    parts = model_of(a=(0, 9.0), b=(0, 9.0), c=(0, 9.0)).modalities
    present = {name: missing != i for i, name in enumerate("abc")}  # no row is complete
    values = validate(MMVM(parts, 2), Table(dict.fromkeys("abc", x), present))
    assert [values[f"kl/{name}"] for name in "abc"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert coupling_warning(values, ("a", "b", "c")) is None


def test_a_model_of_one_modality_has_no_coupling() -> None:
    values = validate(model_of(a=(0, 9.0)), Table({"a": column()}))
    assert "coupling" not in values
    assert values["kl/a"] == pytest.approx(kl_of(column(), 9.0), abs=1e-6)


# -- Predictions of one modality from another ----------------------------------------------------------------------


class Scores(nn.Module):
    """Logits (−z0, z0)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([-z[:, 0], z[:, 0]], 1)


def test_each_modality_is_predicted_from_every_other_posterior_mean() -> None:
    x = column()
    label = (x[:, 0] > 0).long()
    label[:10] = 1 - label[:10]  # a quarter of them wrong
    tags = torch.stack([1 - label, label], 1).double()
    image = torch.rand(ROWS, 1, 2, 1).double()
    model = MVAE(
        {
            "x": Modality(OneLatentExpert(0, 9.0), nn.Linear(2, 1).double(), likelihoods.Gaussian().double()),
            "label": Modality(mlp(1, 4, []).double(), Scores(), likelihoods.Categorical()),
            "tags": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
            "image": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
        },
        2,
        cross_from=(),
    )
    model.modalities["label"].encoder = nn.Sequential(nn.Embedding(2, 4)).double()
    values = validate(model, Table({"x": x, "label": label, "tags": tags, "image": image}))
    assert values["accuracy x->label"] == 0.75
    assert values["accuracy x->tags"] == 0.75
    z = 0.9 * x[:, 0]
    log_p = torch.where(label == 1, 2 * z, -2 * z).sigmoid().log().mean()  # softmax(−z, z) is σ(±2z)
    assert values["log p x->label"] == pytest.approx(float(log_p))
    one, other = torch.where(label == 1, z, -z).sigmoid().log(), torch.where(label == 1, -z, z).neg().sigmoid().log()
    assert values["log p x->tags"] == pytest.approx(float((one + other).mean()))
    assert not [name for name in values if name.endswith(("->image", "->x")) and name.startswith("accuracy")]
    pairs = {f"{a}->{b}" for a in model.names for b in model.names if a != b}
    assert {name.removeprefix("log p ") for name in values if name.startswith("log p ")} == pairs


def test_active_units_are_the_latents_whose_mean_varies() -> None:
    a = column()
    values = validate(model_of(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 0.01 * column(seed=1)}))
    assert values["active units/a"] == 1
    assert values["active units/b"] == 0  # it varies by (0.9 · 0.01)², less than 0.01
    assert values["active units"] == 1
    values = validate(model_of(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 3 + column(seed=1)}))
    assert values["active units"] == 2


# -- Gain of predicting one modality from another ------------------------------------------------------------------


class Half(nn.Module):
    """q(z | x) ∝ p(x | z) for x = z + noise: with the prior it makes N(x/2, 1/2), the exact posterior."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.reshape(len(x), -1)[:, :1], torch.zeros(len(x), 1).to(x.dtype)


def two_views(rows: int, views: str = "ab", related: bool = True, seed: int = 0) -> tuple[MVAE, Table]:
    """The exact model, and rows, of x_i = z + noise, all of variance 1; unrelated views have their own z each."""
    torch.manual_seed(seed)
    z = torch.randn(rows, 1)
    own = {name: torch.randn(rows, 1) + (z if related else torch.randn(rows, 1)) for name in views}
    echo = {name: Modality(Half(), nn.Linear(1, 1, bias=False), likelihoods.Gaussian()) for name in views}
    for modality in echo.values():
        nn.init.ones_(next(modality.decoder.parameters()))
    return MVAE(echo, 1).double(), Table({name: column.double() for name, column in own.items()})


def expected_gain() -> float:
    """E[log p(b | a) − log p(b)] on a grid, where p averages the density at the mean of z and that over all z."""
    x = torch.linspace(-7, 7, 701).double()
    a, b = torch.meshgrid(x, x, indexing="ij")
    joint = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
    )
    weight = joint.log_prob(torch.stack([a, b], -1)).exp() * (x[1] - x[0]) ** 2

    def predictive(mean: Tensor, variance: float) -> Tensor:
        at_mean, spread = (torch.distributions.Normal(mean, scale**0.5).log_prob(b) for scale in (1.0, 1.0 + variance))
        return torch.logaddexp(at_mean, spread) - math.log(2)

    return float((weight * (predictive(a / 2, 0.5) - predictive(torch.zeros_like(a), 1.0))).sum())


def test_an_exact_model_has_the_expected_gain_and_no_warning() -> None:
    gains, expected = [], expected_gain()
    assert 0.14 < expected < 0.2
    for seed in range(4):
        model, table = two_views(2000, seed=seed)
        values = validate(model, table)
        gains += [values["gain a->b"], values["gain b->a"]]
        for pair in ("a->b", "b->a"):
            assert abs(values[f"gain {pair}"] - expected) < 4 * values[f"gain {pair} s.e."]
        assert values["coupling"] == pytest.approx(-0.5 * math.log(1 - 0.25), abs=0.03)  # the mutual information, 0.144
        assert coupling_warning(values, model.names) is None
    assert sum(gains) / 8 == pytest.approx(expected, abs=0.035)  # eight gains with s.e. 0.03, bias of 16 samples


@pytest.mark.parametrize("rows", [60, 400])
def test_few_rows_of_an_exact_model_rarely_give_a_warning(rows: int) -> None:
    warned = 0
    for seed in range(20):
        model, table = two_views(rows, seed=seed)
        warned += coupling_warning(validate(model, table), model.names) is not None
    assert warned <= (9 if rows == 60 else 0)


def test_unpredictable_modalities_give_a_warning_with_numbers() -> None:
    """b is decoded from a latent about which a says nothing."""
    model = model_of(a=(0, 9.0), b=(1, 9.0))
    for name, modality in model.modalities.items():
        with torch.no_grad():
            weight, bias = modality.decoder.parameters()
            weight.copy_(torch.eye(2)[None, 0 if name == "a" else 1])
            bias.zero_()
    x = column(300)
    values = validate(model, Table({"a": x, "b": x}))
    assert all(abs(values[f"gain {pair}"]) < 0.15 for pair in ("a->b", "b->a"))
    said = str(coupling_warning(values, model.names))
    log_p, gain, error = (values[name] for name in ("log predictive b->a", "gain b->a", "gain b->a s.e."))
    assert said.startswith("a and b cannot be predicted from other modalities: ")
    assert (
        f"log p(a | b) = {log_p:.2f} nats, against {log_p - gain:.2f} for a alone ({gain:+.2f} ± {error:.2f})" in said
    )
    assert said.endswith("Add cross terms: MVAE(..., cross_from=['b', 'a'])")
    assert str(coupling_warning(values, model.names, ["a"])).endswith("Train longer, or on more rows that have both")
    assert "cross_from" not in str(coupling_warning(values, model.names, None))
    parts = {name: Modality(mlp(1, 4), mlp(2, 1), likelihoods.Gaussian()) for name in "ab"}
    cross = [build(parts, 2).cross_from for build in (MVAE, MoPoE, MVAEQ)]
    assert (bool(cross[0]), *cross[1:]) == (True, None, None)


def test_a_label_predicted_at_chance_has_no_gain() -> None:
    """The gain is over the best constant: the log p of a confident and wrong decoder would be easy to beat."""
    torch.manual_seed(0)
    x, label = column(400), torch.arange(400) % 4
    model = MVAE(
        {
            "x": Modality(OneLatentExpert(0, 9.0), nn.Linear(2, 1).double(), likelihoods.Gaussian().double()),
            "label": Modality(LabelEncoder(4, 4, 5).double(), mlp(2, 4, [5]).double(), likelihoods.Categorical()),
        },
        2,
    )
    values = validate(model, Table({"x": x, "label": label}))
    best = values["log predictive x->label"] - values["gain x->label"]
    assert best == pytest.approx(-math.log(4) - 4 / 400, abs=1e-4)  # four logits, fitted to 400 rows
    assert values["gain x->label"] < 0
    assert "label cannot be predicted" in str(coupling_warning(values, model.names))
    assert 0 <= values["coupling/share"] <= 1


@pytest.mark.parametrize("kind", ["numbers", "flags"])
def test_the_best_constant_is_found(kind: str) -> None:
    torch.manual_seed(1)
    x = (
        3 + 2 * torch.randn(200, 3)
        if kind == "numbers"
        else (torch.rand(200, 3) < torch.tensor([0.1, 0.5, 0.8])).float()
    )
    likelihood = likelihoods.Gaussian(2.0) if kind == "numbers" else likelihoods.Bernoulli()
    mean = x.double().mean(0)
    family = torch.distributions.Normal(mean, 2.0) if kind == "numbers" else torch.distributions.Bernoulli(mean)
    expected = family.log_prob(x.double()).sum(-1) - 3 / 200
    found = _constant_log_prob(Modality(nn.Linear(3, 4), nn.Linear(2, 3), likelihood), x, torch.zeros(1, 3))
    assert found is not None
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_the_best_constant_is_of_the_rows_of_each_pair() -> None:
    """x and y have no row in common, and the label is balanced in the rows with x only."""
    torch.manual_seed(0)
    rows, label = torch.arange(800), torch.arange(800) % 2
    label[400:] = (torch.arange(400) % 4 == 0).long()
    modalities = {
        name: Modality(OneLatentExpert(0, 9.0), nn.Linear(2, 1).double(), likelihoods.Gaussian().double())
        for name in ("x", "y")
    }
    decoder = mlp(2, 2, [5]).double()
    nn.init.constant_(decoder[-1].bias[:1], 3.0)  # pyright: ignore  # worse than a constant everywhere
    modalities["label"] = Modality(LabelEncoder(2, 4, 5).double(), decoder, likelihoods.Categorical())
    table = Table({"x": column(800), "y": column(800), "label": label}, {"x": rows < 400, "y": rows >= 400})
    values = validate(MVAE(modalities, 2), table)
    for name, share in (("x", 1 / 2), ("y", 1 / 4)):
        best = values[f"log predictive {name}->label"] - values[f"gain {name}->label"]
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        assert best == pytest.approx(-entropy - 2 / 400, abs=1e-4)


def test_pairs_are_measured_without_complete_rows() -> None:
    model, table = two_views(900, "abc")
    missing = torch.arange(900) % 3
    columns = {name: table.columns[name] for name in "abc"}
    present = {name: missing != i for i, name in enumerate("abc")}
    values = validate(model, Table(columns, present))
    assert "coupling" not in values
    for a, b in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")):
        assert values[f"gain {a}->{b}"] > 3 * values[f"gain {a}->{b} s.e."]
        rows = (present[a] & present[b]).nonzero().flatten()
        alone = validate(model, table.take(rows).select([a, b]))
        assert values[f"log p {a}->{b}"] == pytest.approx(alone[f"log p {a}->{b}"])
    assert values["active units/a"] == 1
    assert coupling_warning(values, model.names) is None
    assert "the expert of b is dead (KL 0.010 nats)" in str(coupling_warning(values | {"dead/b": 0.01}, model.names))


def test_an_unrelated_modality_is_named_in_the_warning() -> None:
    model, table = two_views(1000, "abc")
    alone = two_views(1000, "c", related=False, seed=5)[1].columns["c"]
    said = str(coupling_warning(validate(model, Table(dict(table.columns) | {"c": alone})), model.names))
    assert said.startswith("c cannot be predicted from other modalities: log p(c | ")


# -- Modalities that never occur together ---------------------------------------------------------------------------


def test_pairs_without_a_common_row_are_reported() -> None:
    x, rows = torch.zeros(6), torch.arange(6)
    assert pairs_never_seen(Table({"a": x, "b": x})) is None
    apart = Table({"a": x, "b": x}, {"a": rows < 3, "b": rows >= 3})
    assert "no row has both a and b, so their relation cannot be learned" in str(pairs_never_seen(apart))
    chain = Table({"a": x, "b": x, "c": x}, {"a": rows < 3, "b": rows % 3 > 0, "c": rows >= 3})
    said = str(pairs_never_seen(chain))
    assert "no row has both a and c" in said
    assert "can be learned only through modalities that occur together with them" in said
    assert pairs_never_seen(chain, ["a", "b"]) is None
    assert pairs_never_seen(Table({"a": x, "b": x}, {"b": rows < 0})) is None  # an absent modality is another case


def test_a_saturated_expert_is_named() -> None:
    """Its precision is the largest allowed; that of the other is 4."""
    x = {"sure": column(), "sane": column(seed=1)}
    found = validate(model_of(sure=(0, math.exp(20)), sane=(1, 4.0)), x)
    assert found["saturated/sure"] == 0.5  # one of its two latents
    assert "saturated/sane" not in found
    assert (coupling_warning(found, ["sure", "sane"]) or "").startswith("the expert of sure is saturated")
